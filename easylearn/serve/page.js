// Draws a form for what the model takes, has it predicted, and shows the answer. A server predicts, or this browser:
// then the page says data-local, and local.js holds the model. Nothing is asked of any other place.
import { drawn } from "./page.drawn.js";

const $ = (id) => document.getElementById(id);
const make = (tag, more = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), more);
  node.append(...children);
  return node;
};

const asked = new URLSearchParams(location.search).get("model");
const at = (path) => (asked ? `${path}/${encodeURIComponent(asked)}` : path);
const withToken = (headers = {}) => {
  const token = sessionStorage.getItem("token");
  return token ? { ...headers, authorization: `Bearer ${token}` } : headers;
};
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
const server = {
  about: () => call(at("model")),
  predict: (item) => {
    const [body, type] = item instanceof Blob ? [item, item.type || "application/octet-stream"] : [JSON.stringify(item), "application/json"];
    return call(at("predict"), { method: "POST", body, headers: { "content-type": type, accept: "application/json, image/png" } });
  },
};
const isLocal = "local" in document.documentElement.dataset;
const backend = isLocal ? (await import("./local.js")).backend : server;
let about, file, nAsked = 0; // how often something was asked: an answer may come behind that to a later question

// ---- what is asked

const camera = (take) => {
  const video = make("video", { autoplay: true, muted: true, playsInline: true, hidden: true });
  const button = make("button", { type: "button", textContent: "Use the camera", className: "plain" });
  const stop = () => {
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
    video.hidden = true;
    button.textContent = "Use the camera";
  };
  button.onclick = async () => {
    if (!video.srcObject) {
      try {
        video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      } catch (error) {
        return fail(new Error(`The camera cannot be used: ${error.message}`));
      }
      video.hidden = false;
      button.textContent = "Take the picture";
      return;
    }
    const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    stop();
    canvas.toBlob((blob) => take(new File([blob], "camera.png", { type: "image/png" })), "image/png");
  };
  return make("div", { className: "camera" }, video, button);
};

const forms = {
  images() {
    const input = make("input", { type: "file", accept: "image/*", name: "image" });
    const shown = make("img", { alt: "", hidden: true });
    const drop = make("label", { className: "drop" }, "Drop an image here, paste one, or choose a file", input, shown);
    const take = (given) => {
      if (!given || !given.type.startsWith("image/")) return fail(new Error("That is no image."));
      file = given;
      URL.revokeObjectURL(shown.src);
      shown.src = URL.createObjectURL(given);
      shown.alt = `The chosen image, ${given.name || "pasted"}`;
      shown.hidden = false;
      send();
    };
    input.onchange = () => input.files.length && take(input.files[0]);
    drop.ondragover = (e) => { e.preventDefault(); drop.classList.add("over"); };
    drop.ondragleave = () => drop.classList.remove("over");
    drop.ondrop = (e) => { e.preventDefault(); drop.classList.remove("over"); take(e.dataTransfer.files[0]); };
    document.onpaste = (e) => e.clipboardData.files.length && take(e.clipboardData.files[0]);
    return make("div", {}, drop, ...(navigator.mediaDevices ? [camera(take)] : []));
  },
  table() {
    const grid = make("div", { className: "grid" });
    about.form.forEach((column, i) => {
      const lines = [make("span", { textContent: column.name })];
      if (column.categories && column.categories.length < 500) {
        const field = make("select", { name: column.name }, make("option", { value: "", textContent: "(missing)" }),
          ...column.categories.map((c) => make("option", { value: c, textContent: c })));
        field.selectedIndex = column.categories.length ? 1 : 0;
        lines.push(field);
      } else if (column.categories) { // too many to choose from: the first ones are suggestions
        const list = make("datalist", { id: `levels${i}` }, ...column.categories.map((c) => make("option", { value: c })));
        const field = make("input", { type: "text", name: column.name, value: column.categories[0] });
        field.setAttribute("list", list.id);
        lines.push(field, list);
      } else {
        lines.push(make("input", { type: "number", step: "any", name: column.name, value: column.usual, placeholder: "(missing)" }),
          make("small", { textContent: `usually ${number(column.low)} to ${number(column.high)}` }));
      }
      grid.append(make("label", {}, ...lines));
    });
    return grid;
  },
  histories() {
    return make("label", {}, make("span", { textContent: "What somebody took, one name on each line" }),
      make("textarea", { name: "history", required: true, placeholder: about.task.names.slice(0, 3).join("\n") }));
  },
  text() {
    return make("label", {}, make("span", { textContent: "Text" }), make("textarea", { name: "text", required: true }));
  },
};

const item = () => {
  if (about.items === "images") return file;
  const fields = Object.fromEntries(new FormData($("form")));
  if (about.items === "text") return fields.text;
  if (about.items === "histories") return { history: fields.history.split("\n").map((n) => n.trim()).filter(Boolean) };
  return Object.fromEntries(about.form.map((c) => [c.name, fields[c.name] === "" ? null : fields[c.name]]));
};

// ---- what is answered

const number = (x) => (x === null ? "none" : !x ? "0" : Math.abs(x) >= 1e-3 && Math.abs(x) < 1e6 ? String(+x.toPrecision(5)) : x.toExponential(3));
const show = async (said, given, isLast) => {
  if (said.boxes || said.mask || said.image) {
    const nodes = await drawn(said, about, given, make);
    if (!isLast()) return;
    $("answer").replaceChildren(...nodes);
    $("ask").querySelector(".drop img").hidden = true; // it is seen in the answer
    return;
  }
  const words = Array.isArray(said.label) ? said.label.map((x) => (typeof x === "number" ? number(x) : x)).join(", ") || "none of the labels" : said.label;
  const rows = said.probs ? Object.entries(said.probs).sort((a, b) => b[1] - a[1]).slice(0, 10) : about.task.names.map((n) => [n, said.values[n]]);
  const list = make("ul", {}, ...rows.map(([name, value]) => {
    const bar = make("span", { className: "bar" });
    bar.setAttribute("aria-hidden", "true");
    if (said.probs) bar.append(make("i"));
    if (said.probs) bar.firstChild.style.width = `${100 * value}%`; // by script: the policy allows no style in text
    const shown = said.probs ? `${(100 * value).toFixed(1)} %` : number(value);
    return make("li", {}, make("span", { textContent: name }), bar, make("b", { textContent: shown }));
  }));
  $("answer").replaceChildren(make("h2", { textContent: typeof words === "number" ? number(words) : words }), list);
};
const fail = (error) => $("answer").replaceChildren(make("p", { className: "bad", textContent: error.message }));

const send = async () => {
  if (about.items === "images" && !file) return fail(new Error("Choose an image first."));
  const mine = ++nAsked, given = item(), isLast = () => mine === nAsked;
  $("go").disabled = true;
  $("answer").setAttribute("aria-busy", "true");
  try {
    const said = await backend.predict(given);
    if (isLast()) await show(said, given, isLast);
  } catch (error) {
    if (isLast()) fail(error);
  } finally {
    if (isLast()) {
      $("go").disabled = false;
      $("answer").removeAttribute("aria-busy");
    }
  }
};

const curl = () => {
  const picture = { masks: "-H 'Accept: image/png' -o mask.png ", image: "-H 'Accept: image/png' -o image.png " }[about.task.kind] ?? "";
  const how = { images: `${picture}-H 'Content-Type: image/jpeg' --data-binary @photo.jpg`, text: "-H 'Content-Type: text/plain' -d 'a text'" };
  if (about.items === "histories") how.histories = `-H 'Content-Type: application/json' -d '${JSON.stringify({ history: about.task.names.slice(0, 2) }).replaceAll("'", "'\\''")}'`;
  const row = () => JSON.stringify(Object.fromEntries(about.form.map((c) => [c.name, c.categories ? c.categories[0] ?? null : c.usual])));
  const token = sessionStorage.getItem("token") ? '-H "Authorization: Bearer $TOKEN" ' : "";
  return `curl ${new URL(at("predict"), document.baseURI)} ${token}${how[about.items] || `-H 'Content-Type: application/json' -d '${row().replaceAll("'", "'\\''")}'`}`;
};

try {
  about = await backend.about();
  document.title = $("title").textContent = about.name;
  const names = about.task.names;
  $("subtitle").textContent = `${about.items}; ${names.slice(0, 8).join(", ")}${names.length > 8 ? ` and ${names.length - 8} more` : ""}`;
  $("ask").replaceChildren(forms[about.items]());
  if (about.names?.length > 1) {
    $("models").append(...about.names.map((n) => make("a", { href: `?model=${encodeURIComponent(n)}`, textContent: n, ariaCurrent: n === about.name ? "page" : null })));
    $("models").hidden = false;
  }
  if (isLocal) $("shell").hidden = true;
  else $("curl").textContent = curl();
  $("go").disabled = false;
  $("form").onsubmit = (e) => { e.preventDefault(); send(); };
} catch (error) {
  $("subtitle").textContent = "";
  fail(error);
}
