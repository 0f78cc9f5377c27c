// The model in this browser, by ONNX Runtime's WebAssembly. All files lie beside this one.
import * as ort from "./ort.js";
import { boxes, mask, pixels, place, reader, row } from "./prepare.js";

ort.env.wasm.numThreads = 1; // more want headers that few hosts of plain files send
ort.env.wasm.wasmPaths = { wasm: new URL("ort.wasm", import.meta.url).href };

const MOST = 1e6; // pixels of a mask that are computed: the screen has no more
let about, session, tokens;

/** The colours of an image file as the browser decodes it, turned as it was taken. */
const rgba = async (file) => {
  let image;
  try {
    image = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error("This is no image that the browser can read.");
  }
  const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, image.width, image.height);
};
const entity = (text) => new DOMParser().parseFromString(text, "text/html").documentElement.textContent;

/** What the graph takes of an item; and of an image where it lies in it. */
const arrays = async (item) => {
  const how = about.prepare;
  if (about.items === "images") {
    const image = await rgba(item);
    const shape = [1, how.channels, ...how.size], taken = pixels(image.data, image.width, image.height, how);
    return [{ pixels: new ort.Tensor("uint8", taken, shape) }, place(image.height, image.width, how)];
  }
  if (about.items === "table") {
    const { cats, conts } = row(item, how);
    return [{ cats: new ort.Tensor("int64", cats, [1, cats.length]), conts: new ort.Tensor("float32", conts, [1, conts.length]) }];
  }
  tokens ??= reader(how, entity);
  const ids = tokens(item);
  return [{
    tokens: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]),
    lengths: new ort.Tensor("int64", BigInt64Array.of(BigInt(ids.length)), [1]),
  }];
};

const answer = (probs) => {
  const { kind, names, threshold = 0.5 } = about.task;
  const numbers = names.map((_, i) => (Number.isFinite(probs[i]) ? probs[i] : null));
  const values = Object.fromEntries(names.map((n, i) => [n, numbers[i]])); // in which names such as "10" come first
  if (kind === "single_label" || kind === "ordinal") {
    return { label: names[probs.reduce((best, p, i) => (p > probs[best] ? i : best), 0)], probs: values };
  }
  if (kind === "multi_label") {
    const least = (i) => (Array.isArray(threshold) ? threshold[i] : threshold);
    return { label: names.filter((_, i) => probs[i] >= least(i)), probs: values };
  }
  return { label: names.length === 1 ? numbers[0] : numbers, values };
};

const ofPixels = ({ data, dims }, where) => {
  const { kind, names } = about.task;
  if (kind === "boxes") {
    const found = boxes(data, where, about.task), values = Object.fromEntries(names.map((n) => [n, 0]));
    for (const { label } of found) values[label]++;
    return { boxes: found, label: names.filter((n) => values[n]), values };
  }
  const part = Math.min(1, Math.sqrt(MOST / (where.shape[0] * where.shape[1])));
  const [height, width] = where.shape.map((n) => Math.max(1, Math.round(n * part)));
  const numbers = mask({ data, n: dims[1], height: dims[2], width: dims[3] }, where, [height, width]), counts = names.map(() => 0);
  for (const n of numbers) counts[n]++;
  const probs = Object.fromEntries(names.map((name, i) => [name, counts[i] / numbers.length]));
  const label = names.map((_, i) => i).filter((i) => counts[i]).sort((a, b) => counts[b] - counts[a]).map((i) => names[i]);
  return { label, probs, mask: { width, height, data: numbers } };
};

export const backend = {
  async about() {
    const got = await fetch("model.json");
    if (!got.ok) throw new Error("model.json is not beside this page.");
    about = await got.json();
    session = await ort.InferenceSession.create(new URL("model.onnx", document.baseURI).href);
    return about;
  },
  async predict(item) {
    const [given, where] = await arrays(item);
    const found = await session.run(Object.fromEntries(session.inputNames.map((n) => [n, given[n]])));
    const said = found[session.outputNames[0]];
    return about.colours ? ofPixels(said, where) : answer([...said.data]);
  },
};
