// What is said of an image's pixels, drawn over the image: a mask, boxes, or the image that was made of it.
// The page and the policy of the server allow no style in text, so all of it is set by script.
const MOST = 1e6; // pixels of a mask that are drawn: the screen has no more
let url = "";

const percent = (x) => (0 < x && x < 0.0005 ? "< 0.1 %" : `${(100 * x).toFixed(x < 0.0995 ? 1 : 0)} %`);
const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;
const ink = ([r, g, b]) => (0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#000" : "#fff");
const decoded = async (src, image = new Image()) => {
  image.src = src;
  try {
    await image.decode();
    return image;
  } catch {
    return null; // such as TIFF, which the model reads and a browser does not
  }
};

/** The class numbers {width, height, data} of a decoded PNG, of which some pixels are left out where there are many. */
const classes = (image, colours) => {
  const part = Math.min(1, Math.sqrt(MOST / (image.naturalWidth * image.naturalHeight)));
  const [width, height] = [image.naturalWidth, image.naturalHeight].map((n) => Math.max(1, Math.round(n * part)));
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(image, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const numbers = new Map(colours.map(([r, g, b], i) => [(r << 16) | (g << 8) | b, i]));
  const pick = (_, i) => numbers.get((data[4 * i] << 16) | (data[4 * i + 1] << 8) | data[4 * i + 2]);
  return { width, height, data: Uint8Array.from({ length: width * height }, pick) };
};

/** What a slider and the boxes beside the names of the classes change; `changed` gets the value and who is shown. */
const controls = (make, { says, first, least, rows, colours }, changed) => {
  const hidden = new Set(), out = make("output", { textContent: percent(first) });
  const slider = make("input", { type: "range", min: 100 * least, max: 100, step: 1, value: 100 * first });
  const tell = () => {
    out.textContent = percent(slider.value / 100);
    changed(slider.value / 100, hidden);
  };
  slider.oninput = tell;
  const legend = rows.map(([name, text, number, share]) => {
    const tick = make("input", { type: "checkbox", checked: true });
    tick.onchange = () => { hidden[tick.checked ? "delete" : "add"](number); tell(); };
    const swatch = make("i", { className: "swatch" }), bar = make("span", { className: "bar" }), shown = make("b", { textContent: text });
    swatch.style.background = css(colours[number]);
    bar.setAttribute("aria-hidden", "true");
    bar.append(make("i"));
    bar.firstChild.style.width = `${100 * share}%`;
    return make("li", {}, make("label", { className: "tick" }, tick, swatch, name), bar, shown);
  });
  tell();
  const slide = make("label", { className: "slide" }, make("span", {}, `${says} `, out), slider);
  return [slide, make("ul", { className: "legend", ariaLabel: "Classes" }, ...legend)];
};

const stage = (make, width, height, says, ...parts) => {
  const node = make("div", { className: "stage", role: "img", ariaLabel: says }, ...parts.filter(Boolean));
  node.style.setProperty("--ratio", width / height);
  return node;
};

/** What is shown in place of an image that is too large for the browser, or did not come whole. */
const unseen = (make, what) => make("p", { className: "bad", textContent: `This browser cannot decode ${what}. Save it, and open it with another program.` });

const masked = async (said, about, image, make) => {
  const { colours, task } = about;
  const png = typeof said.mask === "string" ? await decoded(`data:image/png;base64,${said.mask}`) : null;
  if (typeof said.mask === "string" && !png) {
    const words = said.label.map((name) => `${name} ${percent(said.probs[name])}`).join(", ");
    return [make("h2", { textContent: words }), unseen(make, "the mask")];
  }
  const mask = png ? classes(png, colours) : said.mask;
  const canvas = make("canvas", { width: mask.width, height: mask.height }), context = canvas.getContext("2d");
  const found = said.label.map((name) => [name, percent(said.probs[name]), task.names.indexOf(name), said.probs[name]]);
  const paint = (opacity, hidden) => {
    const painted = context.createImageData(mask.width, mask.height);
    mask.data.forEach((n, i) => painted.data.set([...colours[n], hidden.has(n) ? 0 : 255], 4 * i));
    context.putImageData(painted, 0, 0);
    canvas.style.opacity = opacity;
  };
  const told = found.slice(0, 3).map(([name]) => name).join(", ") + (found.length > 3 ? ` and ${found.length - 3} more` : "");
  const says = `The image under a mask: ${found.map(([name, share]) => `${name} ${share}`).join(", ")}`;
  const how = { says: "Mask over the image:", first: image ? 0.5 : 1, least: 0, rows: found, colours };
  return [make("h2", { textContent: told }), stage(make, mask.width, mask.height, says, image, canvas), ...controls(make, how, paint)];
};

const boxed = (said, about, image, make) => {
  const { colours, task } = about, count = (n) => `${n} box${n === 1 ? "" : "es"}`;
  const whose = (box) => task.names.indexOf(box.label);
  const nodes = said.boxes.map((box) => {
    const node = make("div", { className: "box" }, make("span", { textContent: `${box.label} ${percent(box.score)}` }));
    const colour = colours[whose(box)], tag = node.firstChild;
    node.style.color = tag.style.background = css(colour);
    tag.style.color = ink(colour);
    if (image) {
      const [w, h] = [image.naturalWidth / 100, image.naturalHeight / 100];
      const sides = { left: box.xmin / w, top: box.ymin / h, width: (box.xmax - box.xmin) / w, height: (box.ymax - box.ymin) / h };
      for (const [side, value] of Object.entries(sides)) node.style[side] = `${value}%`;
      node.classList.toggle("top", sides.top < 7); // where its words would be cut off
      node.classList.toggle("right", sides.left > 70);
    }
    return node;
  });
  const lines = said.boxes.map((box, i) => {
    const sides = ["xmin", "ymin", "xmax", "ymax"].map((side) => Math.round(box[side]));
    const button = make("button", { type: "button", className: "line", textContent: `${box.label} ${percent(box.score)}: x ${sides[0]} to ${sides[2]}, y ${sides[1]} to ${sides[3]}` });
    const mark = (on) => () => nodes[i].classList.toggle("marked", on);
    Object.assign(button, { onfocus: mark(true), onmouseenter: mark(true), onblur: mark(false), onmouseleave: mark(false) });
    return make("li", {}, button);
  });
  const names = task.names.filter((name) => said.values[name]);
  const rows = names.map((name) => [name, String(said.values[name]), task.names.indexOf(name), said.values[name] / said.boxes.length]);
  const words = names.length ? `${count(said.boxes.length)}: ${names.map((name) => `${name} ${said.values[name]}`).join(", ")}` : "No boxes";
  const choose = (least, hidden) => said.boxes.forEach((box, i) => {
    nodes[i].hidden = lines[i].hidden = hidden.has(whose(box)) || (box.score < least && least > floor);
  });
  const floor = task.threshold ?? 0.3;
  const how = { says: "Boxes from a score of", first: floor, least: floor, rows, colours };
  return [
    make("h2", { textContent: words }),
    ...(image ? [stage(make, image.naturalWidth, image.naturalHeight, `The image with ${words}`, image, ...nodes)] : []),
    ...(names.length ? controls(make, how, choose) : []),
    ...(names.length ? [make("details", {}, make("summary", { textContent: "Each box, in pixels of the file" }), make("ol", {}, ...lines))] : []),
  ];
};

const madeOf = async (said, image, make) => {
  const made = await decoded(`data:image/png;base64,${said.image}`);
  if (!made) return [make("h2", { textContent: "What the model makes of it" }), unseen(make, "the image that the model made")];
  const how = { says: "What the model makes, over the image:", first: 1, least: 0, rows: [], colours: [] };
  const shown = stage(make, made.naturalWidth, made.naturalHeight, "The image that the model makes", image, made);
  return [make("h2", { textContent: "What the model makes of it" }), shown, controls(make, how, (opacity) => { made.style.opacity = opacity; })[0]];
};

/** The nodes that show an answer over the image `file` of which it is said. */
export const drawn = async (said, about, file, make) => {
  URL.revokeObjectURL(url);
  url = URL.createObjectURL(file);
  const image = await decoded(url, make("img", { alt: "" }));
  const nodes = said.boxes ? boxed(said, about, image, make) : said.mask ? await masked(said, about, image, make) : await madeOf(said, image, make);
  const png = said.image ?? said.mask;
  if (typeof png !== "string") return nodes;
  const name = said.image ? "image.png" : "mask.png";
  return [...nodes, make("p", {}, make("a", { href: `data:image/png;base64,${png}`, download: name, textContent: `Save ${name}` }))];
};
