/** Enlarging, colouring, sorting: numbers in, numbers out. */

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
  difference: (scene) => scene.alpha.map((value, k) => Math.abs(value - (scene.compare?.alpha?.[k] ?? 0))),
  channel: (scene) => scene.alpha.map((_, k) => -k),
};

/** Channel numbers in the order named; channels that are equal stay in the order of their numbers. */
function sortChannels(scene, name) {
  const keys = ORDERS[name](scene);
  return Uint32Array.from(keys.keys()).sort((a, b) => keys[b] - keys[a] || a - b);
}

/** Numbers of the values, the largest magnitude first; equal ones stay in the order of their numbers. */
function byMagnitude(values) {
  return Uint32Array.from(values.keys()).sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]) || a - b);
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

/** The number of the scene from which a scene differs by channels that are off alone: what belongs to that one
 *  (activations, order of the bars) belongs to it, too. */
const baseOf = (scene) => scene?.base ?? scene?.revision;

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
