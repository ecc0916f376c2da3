/**
 * canvas.js: the one view of the explorer. It alone turns the kernel's messages (picture, scene,
 * notice, opacity, colour map) into pixels and bars in the browser, and tells the kernel what was
 * clicked. It computes no evidence: the map arrives at layer size, and here it is only enlarged,
 * coloured and blended. The Python side and the wire format: canvas.py.
 *
 * Every name and sentence that arrives is untrusted: it becomes text (textContent), never markup.
 *
 * Order of this file: decoding, maths, words, drawing, DOM parts, the host page, render.
 */

// ---------------------------------------------------------------------------------- decoding

/** The bytes of a binary trait, which hosts deliver as DataView, Uint8Array or ArrayBuffer. */
function bytesOf(value) {
  return new Uint8Array(value.buffer ?? value, value.byteOffset ?? 0, value.byteLength);
}

/** Whether a binary trait really arrived: some hosts drop the buffers of a first message. */
function hasBytes(value) {
  return (value?.byteLength ?? 0) > 0;
}

/** The bytes behind a zlib stream. */
async function inflate(bytes) {
  if (!globalThis.DecompressionStream) throw new Error("This browser cannot unpack the map: it is too old.");
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(unpacked).arrayBuffer());
}

/** The values of one ARRAY of the wire format, as Float32Array in C order. */
async function decodeArray({ dtype, shape, scale, offset, data }) {
  const length = shape.reduce((a, b) => a * b, 1);
  const packed = bytesOf(data);
  // slice() copies to a fresh buffer: a typed array needs an aligned start, a message gives none.
  const raw = dtype === "u8z" ? await inflate(packed) : packed.slice();
  let values;
  if (dtype === "f32") values = new Float32Array(raw.buffer);
  else if (dtype === "i16") values = Float32Array.from(new Int16Array(raw.buffer), (v) => v * scale);
  else if (dtype === "u8z") values = Float32Array.from(raw, (v) => offset + v * scale);
  else throw new Error(`The kernel sent an array of an unknown kind: ${dtype}.`);
  if (values.length !== length) throw new Error(`The map has ${values.length} values instead of ${length}.`);
  return values;
}

/** A scene with its three arrays unpacked, or null for the empty scene. */
async function decodeScene(scene) {
  if (!scene?.layer) return null;
  const [cam, alpha, contribution] = await Promise.all(
    [scene.cam, scene.alpha, scene.contribution].map(decodeArray),
  );
  const [rows, cols] = scene.cam.shape;
  return { ...scene, rows, cols, cam, alpha, contribution, source: scene };
}

/** The layers of a strip, each with its cells as bytes (see `wire.thumbnail`), or null for the empty strip. */
async function decodeStrip(strip) {
  if (!strip?.layers?.length) return null;
  const values = await inflate(bytesOf(strip.data));
  let at = 0;
  const layers = strip.layers.map((layer) => {
    const [rows, cols] = layer.cells;
    const start = at;
    at += rows * cols;
    return { ...layer, rows, cols, values: values.subarray(start, at) };
  });
  if (at !== values.length) throw new Error(`The strip has ${values.length} values instead of ${at}.`);
  return { evidence: strip.evidence, layers };
}

/** The activation maps of a message, channel number -> Float32Array. */
async function decodeActivations({ first, shape, low, step, data }) {
  const [count, rows, cols] = shape;
  const [lows, steps] = [low, step].map((part) => new Float32Array(bytesOf(part).slice().buffer));
  const values = await inflate(bytesOf(data));
  const cells = rows * cols;
  const mapOf = (i) => Float32Array.from(values.subarray(i * cells, (i + 1) * cells), (v) => lows[i] + v * steps[i]);
  return new Map(Array.from({ length: count }, (_, i) => [first + i, mapOf(i)]));
}

/** A picture with its pixels as an ImageBitmap, or null for the empty picture. */
async function decodePicture(picture) {
  if (!hasBytes(picture?.data)) return null;
  const { width, height, name, data } = picture;
  const bitmap = await createImageBitmap(new Blob([bytesOf(data)], { type: "image/png" }));
  return { bitmap, width, height, name, data };
}

/** Whether each binary buffer of the model's present state is there. */
function isComplete(model) {
  const picture = model.get("picture") ?? {};
  const scene = model.get("scene") ?? {};
  const tables = Object.values(model.get("tables") ?? {});
  const strip = model.get("strip") ?? {};
  const arrays = scene.layer ? [scene.cam, scene.alpha, scene.contribution] : [];
  if (strip.layers) arrays.push(strip);
  return (
    (!picture.width || hasBytes(picture.data)) &&
    [...arrays, ...tables].every((part) => hasBytes(part?.data))
  );
}

// ------------------------------------------------------------------------------------- maths

/** Steps from 0 to the map's maximum: 16 between two colours of a table, so that the transparency, which
 *  follows the value, is never seen as steps of its own. */
const TOP = 255 * 16;

/** Where one axis of the enlarged map reads from: two neighbours and the weight of the second.
 *  align_corners=False, as torch's F.interpolate: source = (target + 0.5) * n / size - 0.5, clamped. */
function taps(n, size) {
  const low = new Int32Array(size);
  const high = new Int32Array(size);
  const weight = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    const source = Math.min(Math.max(((i + 0.5) * n) / size - 0.5, 0), n - 1);
    low[i] = Math.floor(source);
    high[i] = Math.min(low[i] + 1, n - 1);
    weight[i] = source - low[i];
  }
  return { low, high, weight };
}

/** The map, bilinearly enlarged to width x height, in steps of 0 ... TOP: from 0 to `max`, or from -max
 *  to max where it is signed. */
function upsample(cam, rows, cols, width, height, max, signed) {
  const levels = new Uint16Array(width * height);
  if (!(max > 0)) return levels;
  const gain = signed ? TOP / 2 : TOP;
  const zero = (signed ? TOP / 2 : 0) + 0.5; // half a step more, since what is stored is cut, not rounded
  const across = taps(cols, width);
  const down = taps(rows, height);
  const line = new Float64Array(cols);
  for (let y = 0, at = 0; y < height; y++) {
    const top = down.low[y] * cols;
    const bottom = down.high[y] * cols;
    for (let c = 0; c < cols; c++) {
      line[c] = (cam[top + c] + (cam[bottom + c] - cam[top + c]) * down.weight[y]) / max;
    }
    for (let x = 0; x < width; x++, at++) {
      const left = line[across.low[x]];
      const value = left + (line[across.high[x]] - left) * across.weight[x];
      levels[at] = Math.min(Math.max(value * gain + zero, 0), TOP);
    }
  }
  return levels;
}

/** The colour of each level, 3 bytes each: the nearest of the table's 256. For a map without signs a
 *  diverging table spends its upper half on 0 ... max, so that its neutral colour stays at 0. */
function colours({ kind, data }, signed) {
  const table = bytesOf(data);
  const rgb = new Uint8Array((TOP + 1) * 3);
  for (let level = 0; level <= TOP; level++) {
    const place = kind === "diverging" && !signed ? 0.5 + level / TOP / 2 : level / TOP;
    const entry = Math.floor(place * 255 + 0.5) * 3;
    for (let c = 0; c < 3; c++) rgb[level * 3 + c] = table[entry + c];
  }
  return rgb;
}

/** RGBA of each level as one 32-bit word.
 *  Blending by value: alpha = opacity * min(1, 2 * value / max). From half of the maximum upwards the
 *  heat is as strong as the slider says; below it fades, and where the map is 0 the picture is untouched.
 *  A signed map does so on both sides of 0. render.py blends figures by the same rule. */
function blendTable(rgb, opacity, signed) {
  const words = new Uint32Array(TOP + 1);
  const rgba = new Uint8Array(words.buffer); // through bytes, so that the machine's byte order does not matter
  for (let level = 0; level <= TOP; level++) {
    for (let c = 0; c < 3; c++) rgba[level * 4 + c] = rgb[level * 3 + c];
    const share = signed ? Math.abs((2 * level) / TOP - 1) : level / TOP;
    rgba[level * 4 + 3] = Math.round(255 * opacity * Math.min(1, 2 * share));
  }
  return words;
}

/** The orders in which the channels can be listed: what each sorts by, largest first. */
const ORDERS = {
  "|α|": (scene) => scene.alpha.map(Math.abs),
  α: (scene) => scene.alpha,
  contribution: (scene) => scene.contribution.map(Math.abs),
  channel: (scene) => scene.alpha.map((_, k) => -k),
};

/** Channel numbers in the order named; channels that are equal stay in the order of their numbers. */
function sortChannels(scene, name) {
  const keys = ORDERS[name](scene);
  return Uint32Array.from(keys.keys()).sort((a, b) => keys[b] - keys[a] || a - b);
}

/** Largest absolute value of an array; 0 for an empty one. */
function largest(values) {
  return values.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
}

/** The extremes [lowest, highest] of the sorted values that share each of `columns` pixel columns. */
function extremes(values, order, columns) {
  const lowest = new Float32Array(columns);
  const highest = new Float32Array(columns);
  const count = order.length;
  for (let x = 0; x < columns; x++) {
    const first = Math.floor((x * count) / columns);
    const end = Math.max(first + 1, Math.floor(((x + 1) * count) / columns));
    for (let rank = first; rank < end; rank++) {
      lowest[x] = Math.min(lowest[x], values[order[rank]]);
      highest[x] = Math.max(highest[x], values[order[rank]]);
    }
  }
  return { lowest, highest };
}

/** Whether a scene's map has two sides. */
const isSigned = (scene) => scene?.evidence === "signed";

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

/** Where a tip of size w x h goes so that it does not cover `cell`: beside it, else below or above,
 *  within the first of `areas` that has room. All are {left, top, right, bottom} in one system. */
function placeTip(cell, w, h, areas) {
  const gap = 8;
  const beside = (cell.top + cell.bottom - h) / 2;
  const along = (cell.left + cell.right - w) / 2;
  const places = [
    [cell.right + gap, beside],
    [cell.left - gap - w, beside],
    [along, cell.bottom + gap],
    [along, cell.top - gap - h],
  ];
  for (const area of areas) {
    for (const [index, [x, y]] of places.entries()) {
      const sideways = index < 2;
      const left = sideways ? x : clamp(x, area.left, area.right - w);
      const top = sideways ? clamp(y, area.top, area.bottom - h) : y;
      const inside = left >= area.left && left + w <= area.right && top >= area.top && top + h <= area.bottom;
      if (inside) return { left, top };
    }
  }
  return { left: Math.max(0, along), top: cell.bottom + gap };
}

// ------------------------------------------------------------------------------------- words

const MINUS = "\u2212";

/** A number in three significant digits, with a real minus sign: 0.412, 12.3, −0.000530, 2.91e−6.
 *  `short`: in six characters, where there is little room. */
function number(value, short = false) {
  if (!Number.isFinite(value)) return "not a number";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const plain = size >= 1e3 ? String(Math.round(value)) : value.toPrecision(3);
  const text = size >= 1e5 || size < (short ? 1e-2 : 1e-4) ? value.toExponential(short ? 1 : 2) : plain;
  return text.replaceAll("-", MINUS).replace("e+", "e");
}

/** As `number`, with the sign always written. */
const signed = (value) => (value > 0 ? "+" : "") + number(value);

/** A function that writes signed values with one count of decimals, enough for two digits of `most`. */
function alignedFormat(most) {
  const decimals = most > 0 ? Math.ceil(-Math.log10(most)) + 1 : 1;
  const write = (v) => (decimals > 5 ? v.toExponential(1) : v.toFixed(clamp(decimals, 1, 5)));
  return (value) => (value >= 0 ? "+" : "") + write(value).replaceAll("-", MINUS);
}

/** Long names shortened in the middle: both ends of a module's path say something. */
function shorten(text, most = 40) {
  if (text.length <= most) return text;
  const head = Math.ceil((most - 1) / 2);
  return `${text.slice(0, head)}…${text.slice(text.length - (most - 1 - head))}`;
}

/** A layer's name in two short pieces: its last part, and the way there with a letter for each word:
 *  "_blocks.9._project_conv" is "_pro…conv" in "b.9". */
function shortName(name) {
  const parts = name.split(".");
  const last = parts.pop();
  const way = parts.map((part) => part.replace(/\p{L}[\p{L}_]*/gu, (word) => word[0]).replaceAll("_", ""));
  return { last: shorten(last, 9), way: shorten(way.join("."), 7) };
}

const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** "12 of 1280 channels give half of the positive evidence" */
function coverageSentence(coverage, evidence) {
  if (!coverage) return "";
  const { channels, of, share } = coverage;
  const part = share === 0.5 ? "half" : `${Math.round(share * 100)} %`;
  const verb = channels === 1 ? "gives" : "give";
  const which = evidence === "counterfactual" ? "evidence against the class" : "positive evidence";
  return `${channels} of ${plural(of, "channel")} ${verb} ${part} of the ${which}`;
}

/** "for Egyptian cat", or "against" it where that is what the map shows. */
const aim = (scene) => `${scene.evidence === "counterfactual" ? "against" : "for"} ${scene.target.label}`;

/** What the map is, in words: "Grad-CAM for Egyptian cat at conv_head". */
function mapName(scene) {
  const method = scene.method.name === "GradCAM" ? "Grad-CAM" : scene.method.name;
  return `${scene.evidence === "signed" ? "signed " : ""}${method} ${aim(scene)} at ${scene.layer.name}`;
}

/** What the colours mean where they do not mean evidence for the class; "" where they do. */
const EVIDENCE = {
  signed: "signed: for the class and against it",
  counterfactual: "counterfactual: against the class",
};

/** A probability; one that rounds to zero is not called zero. */
function chance(value) {
  return value > 0 && value < 0.0005 ? "<0.001" : value.toFixed(3);
}

function milliseconds(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

// ----------------------------------------------------------------------------------- drawing

/** Sets a canvas to whole device pixels; a canvas is cleared by that, so only where it changes. */
function resizeCanvas(canvas, width, height, ratio) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  canvas.style.width = `${width / ratio}px`;
  canvas.style.height = `${height / ratio}px`;
}

/** An image as large as the canvas that lies over the picture: kept, since a new one costs more than
 *  filling it, which each step of the opacity slider does. */
function overlayOf(width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true }); // kept where the image is filled
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  return {
    canvas,
    paint(levels, table) {
      for (let i = 0; i < levels.length; i++) pixels[i] = table[levels[i]];
      context.putImageData(image, 0, 0);
    },
  };
}

/** A layer's map in its own cells, at full strength. */
function paintThumbnail(canvas, layer, rgb, signedTable) {
  const { rows, cols, values, signed: signedMap } = layer;
  canvas.width = Math.max(cols, 1);
  canvas.height = Math.max(rows, 1);
  if (!rows || !rgb) return;
  const context = canvas.getContext("2d");
  const image = context.createImageData(cols, rows);
  for (const [i, value] of values.entries()) {
    const share = signedMap ? (value - 128) / 127 : value / 255;
    const level = Math.round((signedTable ? (share + 1) / 2 : Math.max(share, 0)) * TOP) * 3;
    image.data.set(rgb.subarray(level, level + 3), i * 4);
    image.data[i * 4 + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

/** The colour table from bottom (0) to top (max), at full strength. */
function paintScale(canvas, rgb) {
  canvas.width = 1;
  canvas.height = 256;
  const context = canvas.getContext("2d");
  const image = context.createImageData(1, 256);
  for (let y = 0; y < 256; y++) {
    const level = (255 - y) * 16;
    image.data.set(rgb.subarray(level * 3, level * 3 + 3), y * 4);
    image.data[y * 4 + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

/** All channels in the sorted order as hairlines round a zero line. */
function paintOverview(canvas, values, order, most, palette) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  const middle = Math.round(height / 2);
  const { lowest, highest } = extremes(values, order, width);
  context.clearRect(0, 0, width, height);
  context.fillStyle = palette.line;
  context.fillRect(0, middle, width, 1);
  if (!(most > 0)) return;
  const size = (v) => (v === 0 ? 0 : Math.max(1, Math.round((Math.abs(v) / most) * (middle - 1))));
  for (let x = 0; x < width; x++) {
    const up = size(highest[x]);
    const down = size(lowest[x]);
    context.fillStyle = palette.pro;
    context.fillRect(x, middle - up, 1, up);
    context.fillStyle = palette.con;
    context.fillRect(x, middle, 1, down);
  }
}

// --------------------------------------------------------------------------------- DOM parts

/** A new element: tag, attributes (class, data-*, aria-*; a true value is an empty attribute), children. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

const sub = (text) => h("sub", {}, text);

/** α_k = (1/Z) Σ_ij ∂y/∂A^k_ij, set in DOM so that it takes the page's fonts and colours. */
function formula(against) {
  const indices = h("span", { class: "gcw-stack" }, h("sup", {}, "k"), h("sub", {}, "ij"));
  const spoken = `alpha k is ${against ? "minus " : ""}the mean over all cells i j of the gradient of the logit y by the activation A k i j`;
  const written = h("span", { class: "gcw-math", "aria-hidden": "true" });
  written.append(h("i", {}, "α"), sub("k"), ` = ${against ? MINUS : ""}(1/`, h("i", {}, "Z"), ") Σ", sub("ij"), " ∂");
  written.append(h("i", {}, "y"), "/∂", h("i", {}, "A"), indices);
  return [written, h("span", { class: "gcw-hidden" }, spoken)];
}

/** The dark tip, shared by the picture and the bars: lines of text beside the thing they speak of. */
function tipPart(root) {
  const element = h("div", { class: "gcw-tip", "aria-hidden": "true", hidden: true });
  root.append(element);
  return {
    /** `lines`: arrays of words, one column each; `cell`, `areas`: client rectangles for placeTip. */
    show(lines, cell, areas) {
      const columns = Math.max(...lines.map((line) => line.length));
      element.style.gridTemplateColumns = `repeat(${columns}, auto)`;
      element.replaceChildren(...lines.flat().map((word) => h("span", {}, word)));
      element.hidden = false;
      const origin = root.getBoundingClientRect();
      const box = element.getBoundingClientRect();
      const { left, top } = placeTip(cell, box.width, box.height, [...areas, origin]);
      element.style.left = `${Math.round(left - origin.left)}px`;
      element.style.top = `${Math.round(top - origin.top)}px`;
    },
    hide() {
      element.hidden = true;
    },
  };
}

/** Left: where? The picture with the heatmap on it, its colour bar, and the probe. */
function picturePart({ tip, say, signal }) {
  const canvas = h("canvas", { class: "gcw-picture", role: "img", tabindex: "0", width: "1", height: "1" });
  const outline = h("div", { class: "gcw-probe", hidden: true });
  const badge = h("div", { class: "gcw-badge" }, "not this selection");
  const wait = h("div", { class: "gcw-wait" });
  const stage = h("div", { class: "gcw-stage" }, canvas, outline, badge, wait);
  const ramp = h("canvas", { class: "gcw-ramp", "aria-hidden": "true", width: "1", height: "256" });
  const mark = h("div", { class: "gcw-mark", hidden: true });
  const most = h("span", { class: "gcw-most" });
  const least = h("span", { class: "gcw-least" });
  const middle = h("span", { class: "gcw-middle", hidden: true }, "0");
  const scale = h("div", { class: "gcw-scale", role: "img" }, ramp, mark, most, middle, least);
  const diagnosis = h("p", { class: "gcw-diagnosis" });
  const caption = h("p", { class: "gcw-caption" });
  const element = h("div", { class: "gcw-where" }, stage, scale, h("div", { class: "gcw-under" }, diagnosis, caption));

  let picture = null;
  let scene = null;
  let overlay = null;
  let levels = null;
  let table = null;
  let tableSigned = false;
  let rgb = null;
  let opacity = 0.5;
  let probe = null; // [row, col] or null
  let lens = null; // {channel, values}: an activation map in the heatmap's place
  let ratio = 1;

  /** The map that lies on the picture: that of the scene, or of the channel that is looked at. */
  function mapOnShow() {
    if (!lens) return { cam: scene?.cam, max: scene?.max ?? 0, signed: isSigned(scene) };
    return { cam: lens.values, max: largest(lens.values), signed: lens.values.some((v) => v < 0) };
  }

  /** The picture, and over it the heat. All that a change of opacity or colour map needs. */
  function blend() {
    const context = canvas.getContext("2d");
    const { width, height } = canvas;
    context.clearRect(0, 0, width, height);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    if (picture) context.drawImage(picture.bitmap, 0, 0, width, height);
    if (!levels || !rgb) return;
    overlay.paint(levels, blendTable(rgb, opacity, mapOnShow().signed));
    context.drawImage(overlay.canvas, 0, 0);
  }

  /** Enlarges the map to the canvas: once for each scene and size. */
  function enlarge() {
    const { width, height } = canvas;
    const { cam, max, signed } = mapOnShow();
    levels = scene && max > 0 ? upsample(cam, scene.rows, scene.cols, width, height, max, signed) : null;
    if (overlay?.canvas.width !== width || overlay.canvas.height !== height) overlay = overlayOf(width, height);
  }

  /** The client rectangle of one cell of the map. */
  function cellBox([row, col]) {
    const box = canvas.getBoundingClientRect();
    const edge = (index, count, start, size) => start + Math.round((index * size * ratio) / count) / ratio;
    return {
      left: edge(col, scene.cols, box.left, box.width),
      right: edge(col + 1, scene.cols, box.left, box.width),
      top: edge(row, scene.rows, box.top, box.height),
      bottom: edge(row + 1, scene.rows, box.top, box.height),
    };
  }

  /** Writes the limits of the colour bar beside it; the two sides of a signed one are named as well. */
  function showLimits(max, signed) {
    const low = signed ? number(-max) : "0";
    const [top, bottom] = signed && !lens ? ["for", "against"] : ["max", ""];
    most.replaceChildren(number(max, true), h("small", {}, top));
    least.replaceChildren(...(signed ? [h("small", {}, bottom), number(-max, true)] : ["0"]));
    middle.hidden = !signed;
    scale.setAttribute("aria-label", `colour scale from ${low} to ${number(max)}`);
  }

  /** Says in words which map lies on the picture, and within which limits. */
  function describe() {
    const { max, signed } = mapOnShow();
    const cells = scene ? `${scene.rows} × ${scene.cols} ${scene.rows * scene.cols === 1 ? "cell" : "cells"}` : "";
    const map = lens ? `activation of channel ${lens.channel} at ${scene.layer.name}` : scene ? mapName(scene) : "no map yet";
    canvas.setAttribute("aria-label", `${picture?.name ?? "picture"}: ${map}`);
    scale.hidden = !(max > 0);
    showLimits(max, signed);
    const silent = max > 0 ? "" : ": 0 everywhere, so it adds nothing to this map";
    const meaning = lens ? `activation A of channel #${lens.channel}${silent}` : EVIDENCE[scene?.evidence];
    caption.textContent = [picture?.name, cells, meaning].filter(Boolean).join(" · ");
  }

  function clearProbe() {
    probe = null;
    outline.hidden = mark.hidden = true;
    tip.hide();
  }

  /** Outlines the cell, marks its value on the colour bar and opens the tip beside it. */
  function showProbe(cell, spoken = false) {
    probe = cell;
    const [row, col] = cell;
    const { cam, max, signed } = mapOnShow();
    const value = cam[row * scene.cols + col];
    const share = max > 0 ? value / max : 0;
    const box = cellBox(cell);
    const origin = stage.getBoundingClientRect();
    outline.hidden = false;
    outline.style.left = `${box.left - origin.left}px`;
    outline.style.top = `${box.top - origin.top}px`;
    outline.style.width = `${box.right - box.left}px`;
    outline.style.height = `${box.bottom - box.top}px`;
    mark.hidden = !(max > 0);
    mark.style.top = `${(1 - clamp(signed ? (share + 1) / 2 : share, 0, 1)) * 100}%`;
    const ofMax = `${share.toFixed(2).replace("-", MINUS)} of max`;
    const what = lens ? `A of #${lens.channel}` : "value";
    tip.show([[`cell (${row}, ${col})`, ofMax], [what, number(value)]], box, [canvas.getBoundingClientRect()]);
    if (spoken) say(`cell ${row}, ${col}: ${number(value)}, ${ofMax}`);
  }

  function onPointer(event) {
    if (!scene) return;
    const box = canvas.getBoundingClientRect();
    const index = (at, size, count) => clamp(Math.floor((at / size) * count), 0, count - 1);
    const row = index(event.clientY - box.top, box.height, scene.rows);
    const col = index(event.clientX - box.left, box.width, scene.cols);
    if (probe?.[0] !== row || probe?.[1] !== col) showProbe([row, col]);
  }

  function onKey(event) {
    if (!scene || event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key === "Escape" && probe) clearProbe();
    else if (steps[event.key]) showProbe(moved(steps[event.key]), true);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** The next cell; the first key starts at the map's largest value. */
  function moved([down, right]) {
    if (probe) return [clamp(probe[0] + down, 0, scene.rows - 1), clamp(probe[1] + right, 0, scene.cols - 1)];
    const { cam } = mapOnShow();
    const best = cam.indexOf(cam.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0));
    return [Math.floor(Math.max(best, 0) / scene.cols), Math.max(best, 0) % scene.cols];
  }

  const leave = (event) => event.pointerType === "touch" || clearProbe();
  canvas.addEventListener("pointermove", onPointer, { signal });
  canvas.addEventListener("pointerdown", onPointer, { signal });
  canvas.addEventListener("pointerleave", leave, { signal });
  canvas.addEventListener("blur", clearProbe, { signal });
  canvas.addEventListener("keydown", onKey, { signal });

  return {
    element,
    /** Takes what is to be shown; `resize` draws it. */
    show(nextPicture, nextScene, failed) {
      const sameGrid = scene && nextScene && scene.rows === nextScene.rows && scene.cols === nextScene.cols;
      if (!sameGrid) clearProbe(); // else it stays where it is and reads the new map
      picture = nextPicture;
      scene = nextScene;
      lens = null;
      wait.hidden = Boolean(scene || picture);
      wait.textContent = failed ? "no map" : "waiting for the first map";
      diagnosis.textContent = scene?.diagnosis ?? "";
      describe();
    },
    isSigned: () => mapOnShow().signed,
    isLooking: () => lens !== null,
    /** Lays the activation map of a channel on the picture, or with null the heatmap again; `redraw` draws it. */
    look(next) {
      lens = next;
      describe();
    },
    redraw() {
      enlarge();
      blend();
      if (probe) showProbe(probe);
    },
    /** Fits the picture into a square of `side` CSS pixels, in whole device pixels, and draws. */
    resize(side, devicePixelRatio) {
      ratio = devicePixelRatio;
      const { width, height } = picture ?? { width: 1, height: 1 };
      const fit = (side * ratio) / Math.max(width, height);
      resizeCanvas(canvas, Math.max(1, Math.floor(width * fit)), Math.max(1, Math.floor(height * fit)), ratio);
      enlarge();
      blend();
      if (probe) showProbe(probe);
      else tip.hide();
      return canvas.height / ratio;
    },
    /** Takes a colour table and an opacity; `blend` or `resize` draws them. */
    colour(nextTable, nextOpacity) {
      const { signed } = mapOnShow();
      if (nextTable !== table || signed !== tableSigned) {
        table = nextTable;
        tableSigned = signed;
        rgb = table ? colours(table, tableSigned) : null;
        if (rgb) paintScale(ramp, rgb);
      }
      opacity = nextOpacity;
    },
    blend,
  };
}

/** Right: through which channels? The signed bars of alpha and the overview of all K. */
function channelPart({ root, tip, signal, lookAt, pin, activationOf }) {
  const title = h("div", { class: "gcw-title", role: "heading", "aria-level": "3" });
  const weights = h("p", { class: "gcw-weights" }, h("span", { class: "gcw-facts" }));
  const coverage = h("p", { class: "gcw-coverage" });
  const sort = h("select", { "aria-label": "Sort" }, ...Object.keys(ORDERS).map((name) => h("option", { value: name }, name)));
  const sorter = h("label", { class: "gcw-sort" }, h("span", {}, "Sort"), sort);
  const zero = h("div", { class: "gcw-zero" });
  const list = h("div", { class: "gcw-bars", role: "listbox" });
  const lines = h("div", { class: "gcw-lines" }, zero, list);
  const canvas = h("canvas", { class: "gcw-overview", role: "slider", tabindex: "0", "aria-label": "Channels shown" });
  const brush = h("div", { class: "gcw-window" });
  const overview = h("div", { class: "gcw-all" }, canvas, brush);
  const head = h("div", { class: "gcw-head" }, title, sorter, weights, coverage);
  const element = h("div", { class: "gcw-which" }, head, lines, overview);

  let scene = null;
  let order = new Uint32Array(0);
  let most = 0;
  let first = 0; // rank of the first bar shown
  let active = 0; // rank of the bar that Tab reaches
  let wanted = 18; // bars that have room
  let ratio = 1;
  let pinned = null; // the channel that is kept on the picture
  let evidenceFor = 0; // sum of the positive contributions
  let evidenceAgainst = 0; // and of the negative ones
  let format = signed;

  const shown = () => Math.min(wanted, order.length);
  const bars = () => [...list.children];
  const rankOf = (bar) => Number(bar.dataset.rank);
  const barAt = (rank) => bars()[rank - first];

  function newBar() {
    const part = (name) => h("span", { class: name });
    const track = h("span", { class: "gcw-track" }, part("gcw-fill"));
    const bar = h("div", { class: "gcw-bar", role: "option" }, part("gcw-number"), track, part("gcw-value"));
    bar.dataset.lmSuppressShortcuts = "true";
    return bar;
  }

  /** Writes one channel into a bar; `half` is the room on each side of the zero line. */
  function fill(bar, rank, half) {
    const channel = order[rank];
    const value = scene.alpha[channel];
    const length = most > 0 ? Math.round((Math.abs(value) / most) * half * ratio) / ratio : 0;
    const visible = value === 0 ? 0 : Math.max(length, 1 / ratio);
    const [number_, track, text] = bar.children;
    Object.assign(bar.dataset, { channel, rank, alpha: value });
    bar.classList.toggle("gcw-con", value < 0);
    bar.tabIndex = rank === active ? 0 : -1;
    bar.setAttribute("aria-selected", channel === pinned);
    number_.textContent = `#${channel}`;
    text.textContent = format(value);
    track.firstChild.style.width = `${visible}px`;
    track.firstChild.style.left = `${value < 0 ? half - visible : half}px`;
    const words = `channel ${channel}, alpha ${signed(value)}, contribution ${signed(scene.contribution[channel])}`;
    bar.setAttribute("aria-label", `${words}, rank ${rank + 1} of ${order.length}`);
    bar.setAttribute("aria-posinset", rank + 1);
    bar.setAttribute("aria-setsize", order.length);
  }

  /** Shows the bars from rank `next` on. Bars that stay keep their element, those that leave are used
   *  again at the other end: 2048 channels cost no more than the rows that are visible. */
  function scrollTo(next) {
    const count = shown();
    const target = clamp(Math.round(next), 0, order.length - count);
    const step = target - first;
    first = target;
    active = clamp(active, first, Math.max(first, first + count - 1));
    while (list.children.length > count) list.lastChild.remove();
    while (list.children.length < count) list.append(newBar());
    if (step > 0 && step < count) list.append(...bars().slice(0, step));
    if (step < 0 && -step < count) list.prepend(...bars().slice(step));
    const track = list.firstChild?.children[1];
    const half = track ? Math.floor((track.clientWidth / 2) * ratio) / ratio : 0;
    for (const [index, bar] of bars().entries()) fill(bar, first + index, half);
    zero.style.left = track ? `${track.offsetLeft + half}px` : "0";
    showWindow();
  }

  function showWindow() {
    const count = Math.max(order.length, 1);
    const width = canvas.width / ratio;
    const size = Math.max((shown() / count) * width, 8);
    const room = order.length > shown() ? first / (order.length - shown()) : 0;
    brush.style.width = `${Math.round(size * ratio) / ratio}px`;
    brush.style.left = `${Math.round(room * (width - size) * ratio) / ratio}px`;
    brush.hidden = order.length <= shown();
    canvas.setAttribute("aria-valuemin", 1);
    canvas.setAttribute("aria-valuemax", Math.max(1, order.length - shown() + 1));
    canvas.setAttribute("aria-valuenow", first + 1);
    canvas.setAttribute("aria-valuetext", `ranks ${first + 1} to ${first + shown()} of ${order.length}`);
  }

  /** The channel's mean activation, where its map is here. */
  function meanOf(channel) {
    const map = activationOf(channel);
    return map ? [["mean activation", number(map.reduce((sum, v) => sum + v, 0) / map.length)]] : [];
  }

  /** How much of the evidence of its sign the channel gives. */
  function shareOf(channel) {
    const value = scene.contribution[channel];
    if (value === 0) return [];
    const share = value / (value > 0 ? evidenceFor : evidenceAgainst);
    return [["share", `${number(100 * share)} % of the ${value > 0 ? "positive" : "negative"}`]];
  }

  function showTip(bar) {
    const channel = Number(bar.dataset.channel);
    const facts = [
      [`#${channel}`, `rank ${rankOf(bar) + 1} of ${order.length}`],
      ["α", signed(scene.alpha[channel])],
      ...meanOf(channel),
      ["contribution", signed(scene.contribution[channel])],
      ...shareOf(channel),
    ];
    // The half without a bar is free: there the tip covers neither this bar nor the numbers.
    const track = bar.children[1].getBoundingClientRect();
    const middle = zero.getBoundingClientRect().left;
    const box = bar.getBoundingClientRect();
    const con = bar.classList.contains("gcw-con");
    const free = { top: -1e6, bottom: 1e6, left: con ? middle : track.left, right: con ? track.right : middle };
    const own = { top: box.top, bottom: box.bottom, left: con ? track.left : middle, right: con ? middle : track.right };
    const room = root.getBoundingClientRect();
    tip.show(facts, own, [{ ...free, top: room.top, bottom: room.bottom }]);
  }

  /** Moves the bar that has the focus to a rank, scrolling where it is out of sight. */
  function focusRank(rank) {
    active = clamp(rank, 0, order.length - 1);
    const least = active - shown() + 1;
    scrollTo(clamp(first, least, active));
    barAt(active)?.focus({ preventScroll: true });
  }

  function onBarKey(event) {
    const bar = event.target.closest(".gcw-bar");
    if (!bar || event.ctrlKey || event.metaKey || event.altKey) return;
    const rank = rankOf(bar);
    const targets = {
      ArrowDown: rank + 1,
      ArrowUp: rank - 1,
      PageDown: rank + shown(),
      PageUp: rank - shown(),
      Home: 0,
      End: order.length - 1,
    };
    if (event.key === "Escape") pin(null);
    else if (event.key === "Enter" || event.key === " ") toggle(bar);
    else if (event.key in targets) focusRank(targets[event.key]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function onOverviewKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = shown();
    const targets = {
      ArrowRight: first + 1,
      ArrowDown: first + 1,
      ArrowLeft: first - 1,
      ArrowUp: first - 1,
      PageDown: first + page,
      PageUp: first - page,
      Home: 0,
      End: order.length,
    };
    if (!(event.key in targets)) return;
    scrollTo(targets[event.key]);
    event.preventDefault();
    event.stopPropagation();
  }

  /** Dragging keeps the grip; a press outside of the window brings its middle there first. */
  function onOverviewPress(event) {
    if (event.button !== 0) return;
    const box = canvas.getBoundingClientRect();
    const span = brush.getBoundingClientRect();
    const within = event.clientX >= span.left && event.clientX <= span.right;
    const grip = within ? event.clientX - span.left : span.width / 2;
    const drag = (at) => {
      const room = Math.max(box.width - span.width, 1);
      scrollTo(((at.clientX - box.left - grip) / room) * (order.length - shown()));
    };
    const press = new AbortController();
    const options = { signal: AbortSignal.any?.([press.signal, signal]) ?? press.signal };
    canvas.setPointerCapture(event.pointerId);
    canvas.addEventListener("pointermove", drag, options);
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(end, () => press.abort(), options);
    }
    drag(event);
  }

  function sortNow() {
    order = scene ? sortChannels(scene, sort.value) : new Uint32Array(0);
    first = active = 0;
    list.setAttribute("aria-label", `Channel weights alpha, by ${sort.value}`);
  }

  function draw() {
    const palette = paletteOf(root);
    scrollTo(first);
    if (scene) paintOverview(canvas, scene.alpha, order, most, palette);
  }

  /** Keeps the channel of a bar on the picture, or lets it go. */
  function toggle(bar) {
    const channel = Number(bar.dataset.channel);
    pin(channel === pinned ? null : channel);
  }

  function attend(bar) {
    lookAt(Number(bar.dataset.channel));
    showTip(bar);
  }

  function leave() {
    tip.hide();
    lookAt(null);
  }

  const barOf = (event) => event.target.closest(".gcw-bar");
  list.addEventListener("pointerover", (event) => barOf(event) && attend(barOf(event)), { signal });
  list.addEventListener("pointerleave", leave, { signal });
  list.addEventListener("click", (event) => barOf(event) && toggle(barOf(event)), { signal });
  list.addEventListener("focusin", (event) => {
    active = rankOf(event.target);
    for (const bar of bars()) bar.tabIndex = rankOf(bar) === active ? 0 : -1;
    if (event.target.matches(":focus-visible")) attend(event.target);
  }, { signal });
  list.addEventListener("focusout", leave, { signal });
  list.addEventListener("keydown", onBarKey, { signal });
  canvas.addEventListener("keydown", onOverviewKey, { signal });
  canvas.addEventListener("pointerdown", onOverviewPress, { signal });
  sort.addEventListener("change", () => { sortNow(); draw(); }, { signal });

  return {
    element,
    show(next) {
      const kept = scene && next && scene.layer.name === next.layer.name && scene.source === next.source;
      scene = next;
      most = scene ? largest(scene.alpha) : 0;
      evidenceFor = scene ? scene.contribution.reduce((sum, v) => sum + Math.max(v, 0), 0) : 0;
      evidenceAgainst = scene ? scene.contribution.reduce((sum, v) => sum + Math.min(v, 0), 0) : 0;
      format = alignedFormat(most);
      if (!kept) sortNow();
      if (!scene) return;
      title.replaceChildren("α", sub("k"), ` ${aim(scene)} at ${shorten(scene.layer.name)}`);
      title.title = scene.layer.label;
      const facts = [[scene.method.weights], [`K = ${order.length}`]];
      if (scene.method.name === "GradCAM") facts.push(formula(scene.evidence === "counterfactual")); // it is this method's own
      weights.firstChild.replaceChildren(...facts.map((parts) => h("span", {}, ...parts)));
      coverage.textContent = coverageSentence(scene.coverage, scene.evidence);
    },
    /** Marks the bar whose channel is kept on the picture. */
    mark(channel) {
      pinned = channel;
      for (const bar of bars()) bar.setAttribute("aria-selected", Number(bar.dataset.channel) === pinned);
    },
    /** The activations have arrived: the tip that is open can say more. */
    retell() {
      const bar = list.querySelector(".gcw-bar:hover") ?? list.querySelector(".gcw-bar:focus-visible");
      if (bar) showTip(bar);
    },
    /** Lays out `rows` bars at this device pixel ratio and draws. */
    resize(rows, devicePixelRatio) {
      wanted = rows;
      ratio = devicePixelRatio;
      const box = overview.getBoundingClientRect();
      resizeCanvas(canvas, Math.max(1, Math.floor(box.width * ratio)), Math.round(44 * ratio), ratio);
      draw();
    },
  };
}

/** The best predictions as bars that are buttons: a click asks the kernel to explain that class. */
function predictionPart({ model, signal }) {
  const element = h("div", { class: "gcw-predictions", role: "group", "aria-label": "Predictions" });

  function row(tag, { index, label, probability }, most, explained) {
    const length = most > 0 ? (probability / most) * 100 : 0;
    const bar = h("span", { class: "gcw-share" }, h("span"));
    bar.firstChild.style.width = `${clamp(length, 0, 100)}%`;
    const name = h("span", { class: "gcw-label", title: label }, label);
    const line = h(tag, { "data-index": index }, name, bar, h("span", { class: "gcw-value" }, chance(probability)));
    line.classList.toggle("gcw-explained", explained);
    return line;
  }

  element.addEventListener("click", (event) => {
    const index = event.target.closest("button.gcw-prediction")?.dataset.index;
    if (index !== undefined) model.send({ type: "target", index: Number(index) });
  }, { signal });

  return {
    element,
    show(scene) {
      const focused = element.contains(document.activeElement) ? document.activeElement.dataset.index : null;
      const predictions = scene?.predictions ?? [];
      const target = scene?.target;
      const most = Math.max(0, ...predictions.map((p) => p.probability));
      const rows = predictions.map((prediction) => {
        const explained = prediction.index === target.index;
        const button = row("button", prediction, most, explained);
        button.type = "button";
        button.classList.add("gcw-prediction");
        button.setAttribute("aria-pressed", explained);
        button.dataset.lmSuppressShortcuts = "true";
        return button;
      });
      // A class beyond the first five is shown below them: its probability belongs to the answer.
      const beyond = target?.probability != null && !predictions.some((p) => p.index === target.index);
      if (beyond) rows.push(row("div", target, most, true));
      element.replaceChildren(...rows);
      if (focused !== null) rows.find((line) => line.dataset.index === focused)?.focus({ preventScroll: true });
    },
  };
}

const PLAY_MS = 700;

/** Below: at which depth? A thumbnail of every layer in the list; a click or the arrow keys choose one. */
function stripPart({ model, signal }) {
  const note = h("span", { class: "gcw-note" });
  const play = h("button", { class: "gcw-button gcw-play", type: "button", "aria-pressed": "false" });
  const list = h("div", { class: "gcw-layers", role: "listbox", "aria-label": "Layers", "aria-orientation": "horizontal" });
  const head = h("div", { class: "gcw-striphead" }, h("span", { class: "gcw-name" }, "Layers"), play, note);
  const element = h("div", { class: "gcw-strip", hidden: true }, head, list);

  let strip = null;
  let chosen = -1;
  let rgb = null;
  let timer = 0;

  const tiles = () => [...list.children];
  const isPlaying = () => play.getAttribute("aria-pressed") === "true";

  /** What there is to say of a layer beyond its name. */
  function wordsOf(layer) {
    if (!layer.rows) return `${layer.label}: no map yet`;
    if (layer.max > 0) return layer.label;
    return `${layer.label}: ${strip.evidence === "counterfactual" ? "no evidence against the class" : "no positive evidence"}`;
  }

  function tileOf(layer, before) {
    const [, rows, cols] = layer.shape;
    const size = rows === cols ? `${rows}²` : `${rows} × ${cols}`;
    const words = wordsOf(layer);
    const { last, way } = shortName(layer.name);
    const tile = h(
      "div",
      { class: "gcw-layer", role: "option", title: words, "aria-label": words, tabindex: "-1" },
      h("canvas", { class: "gcw-thumbnail", "aria-hidden": "true", width: "1", height: "1" }),
      h("span", { class: "gcw-short" }, last),
      h("span", { class: "gcw-short" }, [way, size].filter(Boolean).join(" ")),
    );
    tile.dataset.name = layer.name;
    tile.dataset.lmSuppressShortcuts = "true";
    tile.classList.toggle("gcw-faded", layer.rows > 0 && !(layer.max > 0));
    tile.classList.toggle("gcw-stage-start", Boolean(before) && (before.shape[1] !== rows || before.shape[2] !== cols));
    return tile;
  }

  /** Scrolls the list, and nothing but the list, until a tile is seen. */
  function reveal(tile) {
    const left = tile.offsetLeft - list.offsetLeft;
    const room = list.clientWidth - tile.offsetWidth;
    list.scrollLeft = clamp(list.scrollLeft, left - room + 8, left - 8);
  }

  function setPlaying(on) {
    clearTimeout(timer);
    play.setAttribute("aria-pressed", on);
    const words = on ? "Stop at this layer" : "Play through the layers";
    play.title = words;
    play.setAttribute("aria-label", words);
  }

  /** Asks the kernel for a layer; the outline follows when its map is there. */
  function ask(index) {
    if (index !== chosen) model.send({ type: "layer", name: strip.layers[index].name });
  }

  function step() {
    if (!isPlaying() || !strip) return;
    if (chosen + 1 < strip.layers.length) ask(chosen + 1);
    else setPlaying(false);
  }

  function onPlay() {
    setPlaying(!isPlaying());
    if (!isPlaying() || !strip) return;
    if (chosen === strip.layers.length - 1) ask(0);
    else step();
  }

  function onKey(event) {
    const from = tiles().indexOf(event.target);
    if (from < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = strip.layers.length - 1;
    const targets = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last, Enter: from, " ": from };
    if (!(event.key in targets)) return;
    event.preventDefault();
    event.stopPropagation();
    setPlaying(false);
    const to = clamp(targets[event.key], 0, last);
    tiles()[to].focus({ preventScroll: true });
    ask(to);
  }

  list.addEventListener("click", (event) => {
    const index = tiles().indexOf(event.target.closest(".gcw-layer"));
    if (index < 0) return;
    setPlaying(false);
    ask(index);
  }, { signal });
  list.addEventListener("keydown", onKey, { signal });
  list.addEventListener("focusin", (event) => {
    for (const tile of tiles()) tile.tabIndex = tile === event.target ? 0 : -1;
    reveal(event.target);
  }, { signal });
  play.addEventListener("click", onPlay, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  setPlaying(false);

  function paint() {
    for (const [index, tile] of tiles().entries()) {
      paintThumbnail(tile.firstChild, strip.layers[index], rgb, strip.evidence === "signed");
    }
  }

  return {
    element,
    evidence: () => strip?.evidence,
    /** Takes the layers, or null for none, and the colour table that fits them. */
    show(next, table) {
      const focused = list.contains(document.activeElement) ? document.activeElement.dataset.name : null;
      strip = next;
      element.hidden = !strip || strip.layers.length < 2;
      list.replaceChildren(...(strip?.layers ?? []).map((layer, i, all) => tileOf(layer, all[i - 1])));
      note.textContent = list.querySelector(".gcw-faded")
        ? `faded: no ${strip.evidence === "counterfactual" ? "evidence against the class" : "positive evidence"} at this layer`
        : "";
      tiles().find((tile) => tile.dataset.name === focused)?.focus({ preventScroll: true });
      this.colour(table);
    },
    /** Outlines the layer of the scene on show. */
    choose(name) {
      chosen = strip ? strip.layers.findIndex((layer) => layer.name === name) : -1;
      const focused = list.contains(document.activeElement);
      for (const [index, tile] of tiles().entries()) {
        tile.setAttribute("aria-selected", index === chosen);
        if (!focused) tile.tabIndex = index === Math.max(chosen, 0) ? 0 : -1;
      }
      if (chosen >= 0) reveal(tiles()[chosen]);
      clearTimeout(timer);
      if (isPlaying()) timer = setTimeout(step, PLAY_MS);
    },
    /** The view has another width: the chosen layer stays in sight. */
    resize() {
      if (chosen >= 0) reveal(tiles()[chosen]);
    },
    colour(table) {
      rgb = hasBytes(table?.data) ? colours(table, strip?.evidence === "signed") : null;
      paint();
    },
  };
}

/** Foot: what it cost, in one grey line. */
function statusPart() {
  const cost = h("span");
  const note = h("span", { class: "gcw-note" });
  return {
    element: h("div", { class: "gcw-status" }, cost, note),
    show(status) {
      cost.textContent = status ? `${status.device} · ${status.passes}, ${milliseconds(status.milliseconds)}` : "";
      note.textContent = status?.note ?? "";
    },
  };
}

/** An error in words, above the picture. */
function noticePart() {
  const element = h("div", { class: "gcw-notice", role: "alert" });
  let stale = false;
  return {
    element,
    /** Whether what is shown does not belong to the selection. */
    isStale: () => stale,
    show(notice) {
      stale = Boolean(notice?.stale);
      // Written only where it changed: an alert that is written again is read aloud again.
      const lines = notice?.title || notice?.message ? [notice.title, notice.message].filter(Boolean) : [];
      if (lines.join("\n") === [...element.children].map((child) => child.textContent).join("\n")) return;
      element.replaceChildren(...lines.map((line, i) => h(i === 0 ? "strong" : "span", {}, line)));
    },
  };
}

/** Many passes that a map needs: their number and a button first, then how far they are and a way to stop. */
function taskPart({ model, say, signal }) {
  const words = h("span", { class: "gcw-words" });
  const bar = h("progress", { class: "gcw-progress", "aria-label": "passes done" });
  const button = h("button", { class: "gcw-button", type: "button" });
  const element = h("div", { class: "gcw-task", role: "group", "aria-label": "Many passes", hidden: true }, words, bar, button);
  let state = "none";
  button.addEventListener("click", () => {
    model.send({ type: state === "running" ? "cancel" : "compute" });
  }, { signal });
  return {
    element,
    show(task) {
      const { method, cost, total, done } = task ?? {};
      const before = state;
      state = !total ? "none" : Number.isFinite(done) ? "running" : "waiting";
      element.hidden = state === "none";
      if (state === "none") return;
      bar.hidden = state !== "running";
      bar.max = total;
      bar.value = done ?? 0;
      words.textContent = state === "running" ? `${method}: ${done} of ${plural(total, "pass", "passes")}` : `${method} needs ${cost}.`;
      button.textContent = state === "running" ? "Cancel" : `Compute ${plural(total, "pass", "passes")}`;
      if (state !== before) say(words.textContent);
    },
  };
}

// ------------------------------------------------------------------------------ the host page

/** The signed colours and the hairline as the style sheet has them, for canvases. */
function paletteOf(root) {
  const style = getComputedStyle(root);
  const colour = (name) => style.getPropertyValue(name).trim() || "gray";
  return { pro: colour("--gcw-pro"), con: colour("--gcw-con"), line: colour("--gcw-line") };
}

/** Red, green, blue, alpha of a computed colour. */
function channelsOf(colour) {
  const [r, g, b, a = 1] = (colour.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  return { r, g, b, a };
}

/** "dark" or "light" after the first background that is painted behind an element; null where none is. */
function groundTheme(element) {
  for (let at = element?.parentElement; at; at = at.parentElement) {
    const { r, g, b, a } = channelsOf(getComputedStyle(at).backgroundColor);
    if (a > 0.5) return 0.2126 * r + 0.7152 * g + 0.0722 * b < 128 ? "dark" : "light";
  }
  return null;
}

/** What the host page says of itself: {host, theme, own}. `own`: nothing is painted behind the widget
 *  and the page gives no hint, so it follows the system and paints its own ground. Only then: a light
 *  notebook on a dark system stays light. */
function hostOf(element) {
  const { body, documentElement: html } = document;
  const jupyter = body.dataset.jpThemeLight;
  if (jupyter !== undefined) return { host: "jupyter", theme: jupyter === "false" ? "dark" : "light" };
  const code = body.dataset.vscodeThemeKind ?? [...body.classList].find((name) => name.startsWith("vscode-"));
  if (code) return { host: "vscode", theme: /dark|contrast$/.test(code) ? "dark" : "light" };
  const named = html.getAttribute("theme") ?? html.dataset.theme ?? html.dataset.bsTheme;
  if (named === "dark" || named === "light") return { host: "plain", theme: named };
  const ground = groundTheme(element.closest(".gradcam-widget") ?? element);
  if (ground) return { host: "plain", theme: ground };
  if (globalThis.google?.colab) return { host: "plain", theme: "light" };
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  return { host: "plain", theme: dark ? "dark" : "light", own: dark };
}

/** Writes the host's theme on the widget, for the style sheet; whether it is another than before. */
function applyTheme(elements) {
  const { host, theme, own = false } = hostOf(elements[0]);
  const before = elements[0].dataset.gcwTheme;
  for (const element of elements) {
    element.dataset.gcwHost = host;
    element.dataset.gcwTheme = theme;
    element.toggleAttribute("data-gcw-own-ground", own);
  }
  return theme !== before;
}

const FOCUSABLE = "select, button, canvas, input, [tabindex], [contenteditable]";

/** Makes the widget's controls good citizens of a notebook: no key pressed in them is a shortcut of the
 *  notebook, and each has a name for those who do not see it. */
function adopt(scope) {
  for (const element of scope.querySelectorAll(FOCUSABLE)) {
    if (!element.dataset.lmSuppressShortcuts) element.dataset.lmSuppressShortcuts = "true";
  }
  for (const handle of scope.querySelectorAll(".noUi-handle, .ui-slider-handle")) {
    const label = handle.closest(".widget-slider, .jupyter-widgets")?.querySelector("label")?.textContent;
    if (label && !handle.hasAttribute("aria-label")) handle.setAttribute("aria-label", label);
  }
  for (const label of scope.querySelectorAll('.widget-label[title="null"]')) {
    label.removeAttribute("title"); // ipywidgets writes an absent tooltip as a word
  }
  for (const group of scope.querySelectorAll(".gradcam-controls .widget-toggle-buttons")) {
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", group.querySelector("label")?.textContent ?? "");
    showPressed(group);
  }
  for (const button of scope.querySelectorAll(".gradcam-controls button[title]:not(.widget-toggle-button)")) {
    // "‹" and an icon are no names; the tooltip is one.
    if (button.title && button.getAttribute("aria-label") !== button.title) {
      button.setAttribute("aria-label", button.title);
    }
  }
}

/** Which of several buttons is chosen, for those who do not see its colour. */
function showPressed(group) {
  for (const button of group.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", button.classList.contains("mod-active"));
  }
}

/** A class field that opens its whole list: a browser filters the list by the text in the field, so on
 *  focus the text steps aside into the placeholder, and comes back if nothing was chosen. */
function easeClassField(scope, signal) {
  const fieldOf = (event) => event.target.closest?.(".gradcam-class input");
  const options = (field) => [...(field.list?.options ?? [])].map((option) => option.value);
  const before = new WeakMap();
  const restore = (field) => {
    const kept = before.get(field);
    if (!kept) return;
    before.delete(field);
    if (!options(field).includes(field.value)) field.value = kept.value;
    field.placeholder = kept.placeholder;
  };
  const stepAside = (field) => {
    const placeholder = before.get(field)?.placeholder ?? field.placeholder;
    before.set(field, { value: field.value, placeholder });
    field.placeholder = field.value || placeholder;
    field.value = "";
  };
  scope.addEventListener("focusin", (event) => fieldOf(event) && stepAside(fieldOf(event)), { signal });
  scope.addEventListener("focusout", (event) => fieldOf(event) && restore(fieldOf(event)), { signal });
  scope.addEventListener("click", (event) => {
    const field = fieldOf(event);
    if (!field) return;
    if (options(field).includes(field.value)) stepAside(field); // a click after a choice, the focus still here
    if (field.value !== "") return;
    try {
      field.showPicker?.();
    } catch {
      // A browser may refuse to open the list itself; arrow down still does.
    }
  }, { signal });
}

// ------------------------------------------------------------------------------------ render

/** Calls `act` once after a burst of calls, before the browser paints. */
function coalesced(act) {
  let pending = false;
  return () => {
    if (pending) return;
    pending = true;
    queueMicrotask(() => {
      pending = false;
      act();
    });
  };
}

/** The colour table to draw with: the one of the chosen index among those that fit the map. The index
 *  changes in the browser at once, the name comes with the kernel's answer. */
function tableInUse(model, signed) {
  const tables = model.get("tables") ?? {};
  const kind = signed ? "diverging" : "sequential";
  const all = Object.values(tables);
  const fitting = all.filter((table) => table.kind === kind);
  const named = tables[model.get("colormap")];
  return (
    fitting.find((table) => Number.isInteger(table.index) && table.index === model.get("colormap_index")) ??
    (signed && named?.kind !== kind ? null : named) ??
    fitting[0] ??
    all[0]
  );
}

/** The picture's side and the number of bars for a width of the view, in CSS pixels. */
function measure(width) {
  const wide = width >= 640;
  const side = wide ? clamp(Math.round(width * 0.4), 240, 560) : Math.min(width - 58, 560);
  return { wide, side };
}

/** As many bars as stand beside the picture; 18 at the width of the look. */
const rowsBeside = (height) => clamp(18 + Math.round((height - 448) / 15), 14, 26);

function render({ model, el }) {
  const stop = new AbortController();
  const { signal } = stop;
  const root = h("div", { class: "gcw gcw-empty", role: "group", "aria-label": "Grad-CAM explorer" });
  const live = h("div", { class: "gcw-hidden gcw-live", "aria-live": "polite" });
  const say = (text) => { live.textContent = text; };
  const tip = tipPart(root);
  const parts = { root, tip, say, signal, model, lookAt, pin, activationOf };
  const notice = noticePart();
  const picture = picturePart(parts);
  const channels = channelPart(parts);
  const predictions = predictionPart(parts);
  const status = statusPart();
  const task = taskPart(parts);
  channels.element.append(predictions.element);
  const body = h("div", { class: "gcw-body" }, picture.element, channels.element);
  const strip = stripPart(parts);
  root.prepend(notice.element, task.element, body, strip.element, status.element);
  root.append(live);
  el.append(root);

  let shown = { picture: null, scene: null };
  let latest = 0;
  let latestStrip = 0;
  let stripTable = null;
  let latestMaps = 0;
  let looked = null; // the channel under the pointer or the focus
  let known = { revision: 0, maps: new Map(), asked: false }; // activations of the scene on show
  let drawnWidth = 0;

  function layout() {
    const width = root.clientWidth;
    drawnWidth = width;
    if (width === 0) return; // not on the page yet, or hidden: the ResizeObserver calls again
    const ratio = devicePixelRatio || 1;
    const { wide, side } = measure(width);
    root.dataset.layout = wide ? "wide" : "narrow";
    root.style.setProperty("--gcw-side", `${side}px`);
    const height = picture.resize(side, ratio);
    channels.resize(wide ? rowsBeside(height) : 18, ratio);
    strip.resize();
    if (shown.scene) root.dataset.revision = shown.scene.revision;
  }

  function colour() {
    const table = tableInUse(model, picture.isSigned());
    picture.colour(hasBytes(table?.data) ? table : null, clamp(Number(model.get("opacity")), 0, 1));
  }

  function recolour() {
    colour();
    picture.blend();
    colourStrip();
  }

  /** The activation map of a channel; null where it is not here yet, and then the kernel is asked, once. */
  function activationOf(channel) {
    const revision = shown.scene?.revision;
    if (known.revision !== revision) known = { revision, maps: new Map(), asked: false };
    if (!known.maps.has(channel) && !known.asked) {
      known.asked = true;
      model.send({ type: "activations", revision, channel });
    }
    return known.maps.get(channel) ?? null;
  }

  async function refreshActivations() {
    const ticket = ++latestMaps;
    const message = model.get("activations");
    if (!hasBytes(message?.data)) return;
    const maps = await decodeActivations(message).catch((error) => {
      console.error("gradcam_widget:", error);
      return new Map();
    });
    if (ticket !== latestMaps || signal.aborted || message.revision !== shown.scene?.revision) return;
    const before = known.revision === message.revision ? known.maps : [];
    known = { revision: message.revision, maps: new Map([...before, ...maps]), asked: maps.size === 0 };
    showChannel();
    channels.retell();
  }

  function lookAt(channel) {
    if (channel === looked) return;
    looked = channel;
    showChannel();
  }

  /** Keeps a channel on the picture, or with null the heatmap; the kernel hears of it. */
  function pin(channel) {
    model.set("channel", channel);
    model.save_changes();
  }

  /** The map on the picture is that of the channel looked at, else of the one kept, else the heatmap. */
  function showChannel() {
    const kept = model.get("channel") ?? null;
    channels.mark(kept);
    const channel = looked ?? kept;
    const inLayer = shown.scene && channel !== null && channel < shown.scene.alpha.length;
    const values = inLayer ? activationOf(channel) : null;
    if (!values && !picture.isLooking()) return;
    picture.look(values && { channel, values });
    colour();
    picture.redraw();
  }

  /** The strip has its own colours for the moment in which it is older than the scene. */
  function colourStrip() {
    const table = tableInUse(model, strip.evidence() === "signed");
    if (table !== stripTable) strip.colour(table);
    stripTable = table;
  }

  /** The strip comes in a message of its own, after the scene, which is not drawn again for it. */
  async function refreshStrip() {
    const ticket = ++latestStrip;
    const next = await decodeStrip(model.get("strip")).catch((error) => {
      console.error("gradcam_widget:", error);
      return null;
    });
    if (ticket !== latestStrip || signal.aborted) return;
    stripTable = tableInUse(model, next?.evidence === "signed");
    strip.show(next, stripTable);
    strip.choose(shown.scene?.layer.name);
  }

  /** Unpacks what is new. Pictures and scenes that are already shown are taken over as they are. */
  async function load() {
    const nextPicture = model.get("picture");
    const nextScene = model.get("scene");
    const samePicture = shown.picture && shown.picture.data === nextPicture?.data;
    const sameScene = shown.scene && shown.scene.source === nextScene;
    const [loadedPicture, loadedScene] = await Promise.all([
      samePicture ? shown.picture : decodePicture(nextPicture),
      sameScene ? shown.scene : decodeScene(nextScene),
    ]);
    return { picture: loadedPicture, scene: loadedScene };
  }

  function announce(before, now) {
    if (!before || !now || before === now) return;
    const found = now.diagnosis ?? coverageSentence(now.coverage, now.evidence);
    say([`${EVIDENCE[now.evidence] ? `${now.evidence}: ` : ""}${now.target.label} at ${now.layer.name}`, found].filter(Boolean).join(": "));
  }

  function show(next, message) {
    if (shown.picture && shown.picture !== next.picture) shown.picture.bitmap.close();
    announce(shown.scene, next.scene);
    shown = next;
    root.classList.toggle("gcw-empty", !next.scene);
    notice.show(message);
    showTask();
    picture.show(next.picture, next.scene, Boolean(message?.title || message?.message));
    channels.show(next.scene);
    predictions.show(next.scene);
    status.show(next.scene?.status);
    strip.choose(next.scene?.layer.name);
    colour();
    layout();
    if (model.get("channel") != null || looked !== null) showChannel();
  }

  /** A map that waits for its passes is not the one on show. */
  function showTask() {
    const waiting = model.get("task") ?? {};
    task.show(waiting);
    const stale = notice.isStale() || Boolean(waiting.total);
    root.classList.toggle("gcw-stale", Boolean(stale && shown.scene));
  }

  /** Unpacking is asynchronous, so an older message can be ready after a newer one: the latest wins. */
  async function refresh() {
    const ticket = ++latest;
    const message = model.get("notice");
    let next;
    try {
      next = await load();
    } catch (error) {
      console.error("gradcam_widget:", error);
      if (ticket !== latest || signal.aborted) return;
      show(shown, { title: "This map could not be drawn.", message: error.message, stale: true });
      return;
    }
    if (ticket !== latest || signal.aborted) {
      if (next.picture && next.picture !== shown.picture) next.picture.bitmap.close();
      return;
    }
    show(next, message);
  }

  const listeners = [
    ["change:picture change:scene change:notice change:tables", coalesced(refresh)],
    ["change:activations", coalesced(refreshActivations)],
    ["change:channel", coalesced(() => signal.aborted || showChannel())],
    ["change:strip change:tables", coalesced(refreshStrip)],
    // A task that ends comes with its map, which takes a moment to unpack: until then the old one stays stale.
    ["change:task", coalesced(() => signal.aborted || (model.get("task")?.total ? showTask() : refresh()))],
    ["change:opacity change:colormap change:colormap_index", coalesced(() => signal.aborted || recolour())],
  ];
  const subscriptions = listeners.flatMap(([names, act]) => names.split(" ").map((name) => [name, act]));
  for (const [name, act] of subscriptions) model.on(name, act);

  // ------ the page around the view: size, device pixels, theme, the controls beside it
  let container = null;
  const dressed = () => (container ? [root, container] : [root]);
  /** Canvases are drawn again in the next frame: JupyterLab hides the notebook while it changes its theme,
   *  and shows it again before a ResizeObserver could notice. */
  function redraw() {
    applyTheme(dressed());
    requestAnimationFrame(() => signal.aborted || layout());
  }
  const retheme = () => applyTheme(dressed()) && redraw();
  const observers = [];
  const observe = (observer, ...args) => { observer.observe(...args); observers.push(observer); };

  /** Once the view is on the page, its container can be found. */
  function settle() {
    container = root.closest(".gradcam-widget");
    const scope = container ?? root;
    adopt(scope);
    if (container) easeClassField(container, signal);
    observe(new MutationObserver((records) => {
      if (records.some((record) => !root.contains(record.target))) adopt(scope);
    }), scope, { childList: true, subtree: true, attributes: true, attributeFilter: ["title"] });
    for (const group of scope.querySelectorAll(".gradcam-controls .widget-toggle-buttons")) {
      const watched = { attributes: true, attributeFilter: ["class"], subtree: true };
      observe(new MutationObserver(() => showPressed(group)), group, watched);
    }
    const attributes = ["class", "data-jp-theme-light", "data-vscode-theme-kind", "theme", "data-theme", "data-bs-theme"];
    for (const page of [document.body, document.documentElement]) {
      observe(new MutationObserver(retheme), page, { attributes: true, attributeFilter: attributes });
    }
    redraw();
  }

  let settled = false;
  observe(new ResizeObserver(() => {
    if (!settled && root.isConnected && root.clientWidth > 0) {
      settled = true;
      settle();
    } else if (root.clientWidth !== drawnWidth) {
      layout();
    }
  }), root);

  /** A window that moves to another screen, or a zoom, changes the device pixels. */
  function watchRatio() {
    const query = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    query.addEventListener("change", () => { layout(); watchRatio(); }, { once: true, signal });
  }
  watchRatio();
  for (const media of ["(prefers-color-scheme: dark)", "(prefers-contrast: more)", "(forced-colors: active)"]) {
    matchMedia(media).addEventListener("change", redraw, { signal });
  }

  // Plain keys pressed here mean nothing to the notebook around it; Tab and Escape go on.
  root.addEventListener("keydown", (event) => {
    const command = event.ctrlKey || event.metaKey || event.altKey;
    if (!command && event.key !== "Tab" && event.key !== "Escape") event.stopPropagation();
  }, { signal });

  adopt(root);
  applyTheme([root]);
  refresh();
  refreshStrip();
  model.send({ type: "ready", complete: isComplete(model) });

  return () => {
    stop.abort();
    for (const [name, act] of subscriptions) model.off(name, act);
    for (const observer of observers) observer.disconnect();
    shown.picture?.bitmap.close();
    root.remove();
  };
}

export default { render };
