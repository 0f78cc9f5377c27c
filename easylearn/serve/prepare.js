// Items as the arrays that a graph takes, by what its file says of them. The same arithmetic as in Python: pixels are
// Pillow's (the width is resized first, as by torch and by Pillow before 13), codes, numbers and tokens are easylearn's.

// ---- images

const roundEven = (x) => { // as Python's round
  const low = Math.floor(x), rest = x - low;
  return rest < 0.5 ? low : rest > 0.5 ? low + 1 : low + (low % 2 ? 1 : 0);
};
const bicubic = (x) => {
  x = Math.abs(x);
  return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
};

/** Which pixels make each of `n` new ones out of `size`, and how much of each, in fixed point. */
const mixtures = (size, n) => {
  const step = size / n, wide = Math.max(step, 1), support = 2 * wide, unit = 1 / wide;
  return Array.from({ length: n }, (_, i) => {
    const middle = (i + 0.5) * step;
    const first = Math.max(0, Math.trunc(middle - support + 0.5));
    const end = Math.min(size, Math.trunc(middle + support + 0.5));
    const weights = Array.from({ length: end - first }, (_, k) => bicubic((k + first - middle + 0.5) * unit));
    const sum = weights.reduce((a, b) => a + b, 0);
    const whole = weights.map((w) => (sum ? w / sum : w) * 4194304).map((w) => Math.trunc(w < 0 ? w - 0.5 : w + 0.5));
    return [first, Int32Array.from(whole)];
  });
};
const clip8 = (x) => (x < 0 ? 0 : x > 255 ? 255 : x);

/** Bicubic with antialiasing of an image {data, width, height, channels}: the width first, then the height. */
export const resize = (image, width, height) => {
  const c = image.channels;
  if (image.width !== width) {
    const out = new Uint8Array(width * image.height * c);
    mixtures(image.width, width).forEach(([first, weights], x) => {
      for (let y = 0; y < image.height; y++) {
        for (let k = 0; k < c; k++) {
          let sum = 2097152, at = (y * image.width + first) * c + k;
          for (let i = 0; i < weights.length; i++, at += c) sum += image.data[at] * weights[i];
          out[(y * width + x) * c + k] = clip8(sum >> 22);
        }
      }
    });
    image = { data: out, width, height: image.height, channels: c };
  }
  if (image.height !== height) {
    const row = width * c, out = new Uint8Array(row * height);
    mixtures(image.height, height).forEach(([first, weights], y) => {
      for (let k = 0; k < row; k++) {
        let sum = 2097152, at = first * row + k;
        for (let i = 0; i < weights.length; i++, at += row) sum += image.data[at] * weights[i];
        out[y * row + k] = clip8(sum >> 22);
      }
    });
    image = { data: out, width, height, channels: c };
  }
  return image;
};

/** Colours, or grey, of RGBA pixels; what is transparent is white. */
export const flat = (rgba, width, height, channels) => {
  const n = width * height, data = new Uint8Array(n * channels);
  for (let i = 0; i < n; i++) {
    const a = rgba[4 * i + 3];
    let [r, g, b] = [rgba[4 * i], rgba[4 * i + 1], rgba[4 * i + 2]];
    if (a < 255) {
      const over = (x) => { // Pillow's fixed point
        const sum = x * a * 128 + 255 * (32640 - a * 128) + 16384;
        return (sum + (sum >>> 8)) >>> 15;
      };
      [r, g, b] = a ? [over(r), over(g), over(b)] : [255, 255, 255];
    }
    if (channels === 1) data[i] = (r * 19595 + g * 38470 + b * 7471 + 32768) >>> 16;
    else { data[3 * i] = r; data[3 * i + 1] = g; data[3 * i + 2] = b; }
  }
  return { data, width, height, channels };
};

const cut = (image, left, top, width, height) => {
  const c = image.channels, out = new Uint8Array(width * height * c);
  for (let y = 0; y < height; y++) {
    const at = ((top + y) * image.width + left) * c;
    out.set(image.data.subarray(at, at + width * c), y * width * c);
  }
  return { data: out, width, height, channels: c };
};
const mirrored = (i, n) => { // a place beyond an edge, reflected
  if (n === 1) return 0;
  const period = 2 * (n - 1), k = ((i % period) + period) % period;
  return k < n ? k : period - k;
};

/** Where an image lies in what a graph takes, all of it; how much of it is cut away is not said of others. */
export const place = (height, width, { size, method }) => {
  const scale = Math.min(size[0] / height, size[1] / width);
  const inner = method === "squash" ? size : [height, width].map((n, i) => Math.min(size[i], Math.max(1, roundEven(n * scale))));
  const [top, left] = size.map((n, i) => Math.floor((n - inner[i]) / 2));
  return { shape: [height, width], frame: size, inner, top, left };
};

/** The pixels that a graph takes, channel by channel, of RGBA pixels. */
export const pixels = (rgba, width, height, about) => {
  const [h, w] = about.size, { channels, method } = about;
  const share = method === "crop" ? about.crop_pct : 1;
  const [th, tw] = [roundEven(h / share), roundEven(w / share)];
  let image = flat(rgba, width, height, channels);
  let [oh, ow] = place(height, width, about).inner;
  if (method === "crop") {
    const most = about.long_side, scale = Math.max(th / height, tw / width);
    const kept = (n, t) => Math.min(n, Math.max(1, roundEven((most * t) / scale)));
    const [kh, kw] = [kept(height, th), kept(width, tw)];
    const out = (n, t) => Math.min(Math.max(t, roundEven(n * scale)), Math.trunc(most * t));
    [oh, ow] = [out(kh, th), out(kw, tw)];
    image = cut(image, Math.floor((width - kw) / 2), Math.floor((height - kh) / 2), kw, kh);
  }
  image = resize(image, ow, oh);
  const top = Math.floor((h - oh) / 2), left = Math.floor((w - ow) / 2); // below 0 where something is cut off
  const fill = Array.isArray(about.pad) ? about.pad : null; // else what is around an image is its reflection
  const out = new Uint8Array(channels * h * w);
  for (let y = 0; y < h; y++) {
    const sy = mirrored(method === "pad" ? y - top : y + Math.floor((oh - h) / 2), oh);
    for (let x = 0; x < w; x++) {
      const sx = mirrored(method === "pad" ? x - left : x + Math.floor((ow - w) / 2), ow);
      const outside = fill && (y < top || y >= top + oh || x < left || x >= left + ow);
      for (let k = 0; k < channels; k++) out[(k * h + y) * w + x] = outside ? fill[k] : image.data[(sy * ow + sx) * channels + k];
    }
  }
  return out;
};

const steps = (size, n) => Array.from({ length: n }, (_, i) => { // as torch has them, in single precision
  const at = Math.max(0, Math.fround(Math.fround(Math.fround(size / n) * (i + 0.5)) - 0.5)), first = Math.min(Math.floor(at), size - 1);
  return [first, Math.min(first + 1, size - 1), at - first];
});

/** For each row of maps {data, n, height, width} enlarged to [height, width] bilinearly, one array for each map. */
function* enlarged({ data, n, height, width }, [tall, wide]) {
  const across = steps(width, wide);
  for (const [first, second, near] of steps(height, tall)) {
    yield Array.from({ length: n }, (_, k) => {
      const row = Float32Array.from({ length: width }, (_, x) => {
        const at = k * height * width + x;
        return data[at + first * width] * (1 - near) + data[at + second * width] * near;
      });
      return Float32Array.from(across, ([a, b, far]) => row[a] * (1 - far) + row[b] * far);
    });
  }
}

/** The class of each pixel of an image that lies somewhere in the maps, at the size [height, width]. */
export const mask = (maps, { frame, inner, top, left }, size) => {
  if (inner[0] !== frame[0] || inner[1] !== frame[1]) { // what was added around the image is cut off
    const [h, w] = inner, data = new Float32Array(maps.n * h * w);
    let y = -top;
    for (const row of enlarged(maps, frame)) {
      if (y >= 0 && y < h) row.forEach((values, k) => data.set(values.subarray(left, left + w), (k * h + y) * w));
      y++;
    }
    maps = { data, n: maps.n, height: h, width: w };
  }
  const found = new Uint8Array(size[0] * size[1]);
  let at = 0;
  for (const row of enlarged(maps, size)) {
    for (let x = 0; x < size[1]; x++, at++) {
      for (let k = 1; k < row.length; k++) if (row[k][x] > row[found[at]][x]) found[at] = k;
    }
  }
  return found;
};

/** The boxes of rows of xmin, ymin, xmax, ymax, score and class, in pixels of the image, the surest first. */
export const boxes = (data, { shape, inner, top, left }, { names, threshold = 0.3 }) => {
  const own = (x, begin, i) => Math.min(Math.max((x - begin) * (shape[i] / inner[i]), 0), shape[i]);
  return Array.from({ length: data.length / 6 }, (_, i) => data.slice(6 * i, 6 * i + 6)).filter((row) => row[4] >= threshold)
    .sort((a, b) => b[4] - a[4])
    .map(([x0, y0, x1, y1, score, n]) => ({ xmin: own(x0, left, 1), ymin: own(y0, top, 0), xmax: own(x1, left, 1), ymax: own(y1, top, 0), label: names[n], score }));
};

// ---- tables

const LARGEST = 3.4028234663852886e38;

/** The value below which a share `p` of the standard normal distribution lies (Wichura 1988, AS 241). */
export const normal = (p) => {
  const of = (x, cs) => cs.reduce((sum, c) => sum * x + c, 0);
  const q = p - 0.5;
  if (Math.abs(q) <= 0.425) {
    const r = 0.180625 - q * q;
    return (q * of(r, [2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
      13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608])) /
      of(r, [5226.495278852545925, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
        5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1]);
  }
  let r = Math.sqrt(-Math.log(q < 0 ? p : 1 - p)), x;
  if (r <= 5) {
    r -= 1.6;
    x = of(r, [7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
      3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734]) /
      of(r, [1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
        0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1]);
  } else {
    r -= 5;
    x = of(r, [2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093,
      0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772]) /
      of(r, [2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
        0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1]);
  }
  return q < 0 ? -x : x;
};

const between = (x, xs, step, sign) => { // linear between places; of equal ones the last, or the first by the other sign
  const n = xs.length;
  let low = 0, high = n - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (sign > 0 ? xs[middle] <= x : xs[middle] < x) low = middle; else high = middle;
  }
  const gap = xs[high] - xs[low];
  return step * (low + (gap > 0 ? (x - xs[low]) / gap : sign > 0 ? 1 : 0));
};
const ranked = (x, quantiles) => {
  const n = quantiles.length, step = 1 / (n - 1);
  let rank = 0.5 * (between(x, quantiles, step, 1) + between(x, quantiles, step, -1));
  if (x >= quantiles[n - 1]) rank = 1; else if (x <= quantiles[0]) rank = 0;
  return normal(Math.min(Math.max(rank, 1e-7), 1 - 1e-7));
};

/** Codes and numbers of a row, an object with a value for each column; "" and null are missing. */
export const row = (given, about) => {
  const cats = about.cats.map((c) => {
    const value = given[c.name], at = c.levels.indexOf(value);
    return value === null || value === "" ? 1 : at < 0 ? 0 : 2 + at;
  });
  const conts = [], flags = [];
  for (const c of about.conts) {
    const value = given[c.name], text = typeof value === "string" ? value.trim() : value;
    let x = text === null || text === "" ? NaN : Number(text);
    if (Number.isNaN(x) && text !== null && text !== "") throw new Error(`"${c.name}" is a number, not "${value}".`);
    const bad = !(Math.abs(x) <= LARGEST);
    if (bad) x = c.fill;
    const scaled = c.quantiles ? ranked(x, c.quantiles) : (x - c.center) * c.factor;
    conts.push(Math.min(Math.max(scaled, -LARGEST), LARGEST));
    if (c.flag) flags.push(bad ? 1 : 0);
  }
  return { cats: BigInt64Array.from(cats, BigInt), conts: Float32Array.from([...conts, ...flags]) };
};

// ---- texts

const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const RUN = /([\p{L}\p{Nl}\p{No}])\1{2,}/gu;
const ENTITY = /&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});/g;
const ROMAN = /^M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})$/;
const ENDINGS = ["n't", "'s", "'d", "'m", "'re", "'ve", "'ll"];
const LINE = "\ufdd0";
const length = (text) => [...text].length;

const plain = (text, entity) => text.replace(/<br\s*\/?>/gi, "\n").replace(ENTITY, entity);
const lineEnds = (text) => text.replace(/\r\n?/g, "\n");

/** Words, numbers and signs with marks, as `WordTokenizer` of easylearn has them. */
class Words {
  constructor({ lower, keep_newlines, dropped, parts, specials }, entity) {
    Object.assign(this, { lower, newlines: keep_newlines, entity, specials });
    this.dropped = new RegExp(dropped, "gu");
    this.part = new RegExp(parts, "gu");
    this.whole = new RegExp(`^(?:${parts})$`, "u");
    this.space = new RegExp(`[${SPACE}]+`, "u");
  }

  tokens(text) {
    text = plain(text, this.entity);
    if (this.newlines) text = lineEnds(text).replaceAll("\n", ` ${LINE} `);
    const parts = text.split(this.space).filter(Boolean)
      .flatMap((word) => (word === LINE && this.newlines ? ["\n"] : this.parts(word)));
    const out = [];
    for (let i = 0, n; i < parts.length; i += n) {
      for (n = 1; parts[i + n] === parts[i]; n++);
      const found = this.expand(parts[i]);
      if (n >= 3 && this.repeats(found)) out.push("xxwrep", String(n), ...found);
      else for (let k = 0; k < n; k++) out.push(...found);
    }
    return out;
  }

  parts(word) {
    word = word.replace(this.dropped, "").replace(/[\ud800-\udfff]/gu, "\ufffd").normalize("NFC");
    const found = [];
    let begin = 0;
    for (const sign of word.matchAll(/@[\p{L}\p{N}_-]+(?:\.[\p{L}\p{N}_-]+)+/gu)) {
      const at = sign.index, name = word.slice(0, at).match(/[\p{L}\p{N}_.+-]+$/u);
      const first = name ? at - name[0].length : at;
      while (begin < at) {
        this.part.lastIndex = begin;
        const part = this.part.exec(word);
        if (!part) break;
        const mail = first <= part.index && part.index < at && part.groups.url === undefined;
        begin = mail ? at + sign[0].length : part.index + part[0].length;
        found.push(word.slice(part.index, begin));
      }
    }
    this.part.lastIndex = begin;
    for (let part; (part = this.part.exec(word)); ) found.push(part[0]);
    return found;
  }

  expand(part) {
    if (part === "\n" || part === "xxfld") return [part];
    const first = String.fromCodePoint(part.codePointAt(0));
    if (!/^[\p{L}\p{N}\p{M}]/u.test(first)) return this.sign(part);
    if (part.includes("://") || part.includes("@") || part.startsWith("www.")) return [this.small(part)];
    let word = this.small(part).replaceAll("\u2019", "'");
    const endings = [];
    for (let ending; word.slice(-3).includes("'"); ) {
      ending = ENDINGS.find((e) => word.length > e.length && word.slice(-e.length).toLowerCase() === e);
      if (!ending) break;
      endings.unshift(word.slice(-ending.length));
      word = word.slice(0, -ending.length);
    }
    const pieces = /^\p{Nd}+$/u.test(part) || ROMAN.test(part) ? [word] : this.runs(word);
    return [...this.capitals(part, first), ...pieces, ...endings];
  }

  small(part) { return this.lower ? part.toLowerCase() : part; }

  capitals(part, first) {
    if (!this.lower || !/^[\p{Uppercase}\p{Lt}]/u.test(first)) return [];
    const up = /\p{Uppercase}/u.test(part) && !/[\p{Lowercase}\p{Lt}]/u.test(part);
    return [up && (part.match(/\p{L}/gu) || []).length > 1 ? "xxup" : "xxmaj"];
  }

  sign(part) {
    const found = part.match(this.whole), unit = found && (found.groups.emoji || found.groups.sign);
    if (!unit || part.length === unit.length || part.length % unit.length) return [part];
    const n = part.length / unit.length;
    return n >= 3 ? ["xxrep", String(n), unit] : part === "--" ? [part] : Array(n).fill(unit);
  }

  runs(word) {
    const out = [];
    let begin = 0;
    const put = (text) => text && out.push(...(this.specials.includes(text) ? ["xx", text.slice(2)] : [text]));
    for (const run of word.matchAll(RUN)) {
      put(word.slice(begin, run.index));
      out.push("xxrep", String(length(run[0])), run[1]);
      begin = run.index + run[0].length;
    }
    put(word.slice(begin));
    return out;
  }

  repeats(tokens) {
    const last = tokens[tokens.length - 1];
    return /^[\p{L}\p{N}]/u.test(last) && (tokens.length === 1 || (tokens.length === 2 && /^xx(maj|up)$/.test(tokens[0])));
  }
}

/** Pieces of words by merging pairs of bytes, as the `tokenizers` library does it. */
class BytePairs {
  constructor({ model }, entity) {
    this.entity = entity;
    this.ranks = new Map(model.merges.map((pair, i) => [Array.isArray(pair) ? pair.join(" ") : pair, i]));
    const plainly = [[33, 126], [161, 172], [174, 255]];
    let next = 256;
    this.letters = Array.from({ length: 256 }, (_, b) =>
      String.fromCodePoint(plainly.some(([low, high]) => low <= b && b <= high) ? b : next++));
  }

  tokens(text) {
    text = lineEnds(plain(text, this.entity)).replace(/[\ud800-\udfff]/gu, "\ufffd");
    const words = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;
    return text.split(/(xxfld)/).flatMap((piece) =>
      piece === "xxfld" ? [piece] : (piece.normalize("NFC").match(words) || []).flatMap((word) => this.merged(word)));
  }

  merged(word) {
    const parts = Array.from(new TextEncoder().encode(word), (b) => this.letters[b]);
    while (parts.length > 1) {
      let best = Infinity, at = -1;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = this.ranks.get(`${parts[i]} ${parts[i + 1]}`);
        if (rank < best) [best, at] = [rank, i];
      }
      if (at < 0) break;
      parts.splice(at, 2, parts[at] + parts[at + 1]);
    }
    return parts;
  }
}

/** What makes the numbers of a text's tokens, the mark of its beginning first; `entity` decodes one of html. */
export const reader = (about, entity) => {
  const tokenizer = about.tokenizer.kind === "word" ? new Words(about.tokenizer, entity) : new BytePairs(about.tokenizer, entity);
  const ids = new Map(about.vocab.map((token, i) => [token, i]));
  const unknown = ids.get("xxunk");
  return (text) => {
    let found = ["xxbos", ...tokenizer.tokens(text)].map((token) => ids.get(token) ?? unknown);
    const most = about.max_tokens;
    if (most !== null && found.length > most) {
      const head = Math.max(Math.floor(most / 4), 1);
      found = [...found.slice(0, head), ...found.slice(found.length - (most - head))];
    }
    if (about.backward) found = [found[0], ...found.slice(1).reverse()];
    return found;
  };
};
