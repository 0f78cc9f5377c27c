"use strict";
// Draws a form for what the model takes, sends it, and shows the answer. Nothing is asked of any other server.
const $ = (id) => document.getElementById(id);
const make = (tag, more = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), more);
  node.append(...children);
  return node;
};
const asked = new URLSearchParams(location.search).get("model");
const at = (path) => (asked ? `${path}/${encodeURIComponent(asked)}` : path);
const tokenOf = () => sessionStorage.getItem("token");
const withToken = (headers = {}) => (tokenOf() ? { ...headers, authorization: `Bearer ${tokenOf()}` } : headers);
let about, file;

const call = async (path, how = {}) => {
  const answer = await fetch(path, { ...how, headers: withToken(how.headers) });
  if ((answer.status === 401 || answer.status === 403) && !how.again) {
    const token = prompt("This server asks for a token:");
    if (token) {
      sessionStorage.setItem("token", token);
      return call(path, { ...how, again: true });
    }
  }
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error || `The server answered ${answer.status}.`);
  return said;
};

const forms = {
  images() {
    const input = make("input", { type: "file", accept: "image/*", name: "image" });
    const shown = make("img", { alt: "", hidden: true });
    const drop = make("label", { className: "drop" }, "Drop an image here, paste one, take one or choose a file", input, shown);
    const take = (given) => {
      if (!given || !given.type.startsWith("image/")) return;
      file = given;
      URL.revokeObjectURL(shown.src);
      shown.src = URL.createObjectURL(given);
      shown.alt = `The chosen image, ${given.name || "pasted"}`;
      shown.hidden = false;
      send();
    };
    input.onchange = () => take(input.files[0]);
    drop.ondragover = (e) => { e.preventDefault(); drop.classList.add("over"); };
    drop.ondragleave = () => drop.classList.remove("over");
    drop.ondrop = (e) => { e.preventDefault(); drop.classList.remove("over"); take(e.dataTransfer.files[0]); };
    document.onpaste = (e) => take([...e.clipboardData.files][0]);
    return drop;
  },
  table() {
    const grid = make("div", { className: "grid" });
    for (const column of about.form) {
      const field = column.categories
        ? make("select", { name: column.name }, make("option", { value: "", textContent: "(missing)" }),
               ...column.categories.map((c) => make("option", { value: c, textContent: c })))
        : make("input", { type: "number", step: "any", name: column.name, value: column.usual,
                          title: `usually from ${column.low} to ${column.high}` });
      if (column.categories && column.categories.length) field.selectedIndex = 1;
      grid.append(make("label", {}, make("span", { textContent: column.name }), field));
    }
    return grid;
  },
  text() {
    return make("label", {}, make("span", { textContent: "Text" }), make("textarea", { name: "text", required: true }));
  },
};

const body = () => {
  if (about.items === "images") return { body: file, headers: { "content-type": file.type || "application/octet-stream" } };
  const fields = Object.fromEntries(new FormData($("form")));
  if (about.items === "text") return { body: JSON.stringify(fields.text), headers: { "content-type": "application/json" } };
  for (const column of about.form) if (fields[column.name] === "") fields[column.name] = null;
  return { body: JSON.stringify(fields), headers: { "content-type": "application/json" } };
};

const number = (x) => (x === null ? "none" : Math.abs(x) >= 1e-3 && Math.abs(x) < 1e6 ? String(+x.toPrecision(5)) : x.toExponential(3));
const show = (said) => {
  const words = Array.isArray(said.label) ? said.label.join(", ") || "none of the labels" : said.label;
  $("answer").replaceChildren(make("h2", { textContent: typeof words === "number" ? number(words) : words }));
  const rows = said.probs ? Object.entries(said.probs).sort((a, b) => b[1] - a[1]).slice(0, 10) : Object.entries(said.values);
  for (const [name, value] of rows) {
    const bar = said.probs ? make("meter", { min: 0, max: 1, value, ariaLabel: name }) : make("span");
    const shown = said.probs ? `${(100 * value).toFixed(1)} %` : number(value);
    $("answer").append(make("div", { className: "row" }, make("span", { textContent: name }), bar, make("span", { textContent: shown })));
  }
};
const fail = (error) => $("answer").replaceChildren(make("p", { className: "bad", textContent: error.message }));

const send = async () => {
  if (about.items === "images" && !file) return fail(new Error("Choose an image first."));
  $("go").disabled = true;
  try {
    show(await call(at("/predict"), { method: "POST", ...body() }));
  } catch (error) {
    fail(error);
  } finally {
    $("go").disabled = false;
  }
};

const curl = () => {
  const url = location.origin + at("/predict");
  const how = { images: "-H 'Content-Type: image/jpeg' --data-binary @photo.jpg", text: "-H 'Content-Type: text/plain' -d 'a text'" };
  const row = () => JSON.stringify(Object.fromEntries(about.form.map((c) => [c.name, c.categories ? c.categories[0] ?? null : c.usual])));
  return `curl ${url} ${how[about.items] || `-H 'Content-Type: application/json' -d '${row().replaceAll("'", "'\\''")}'`}`;
};

call(at("/model")).then((said) => {
  about = said;
  document.title = $("title").textContent = said.name;
  const names = said.task.names;
  $("subtitle").textContent = `${said.items}; ${names.slice(0, 8).join(", ")}${names.length > 8 ? ` and ${names.length - 8} more` : ""}`;
  $("ask").replaceChildren(forms[said.items]());
  $("curl").textContent = curl();
  $("form").onsubmit = (e) => { e.preventDefault(); send(); };
}).catch(fail);
