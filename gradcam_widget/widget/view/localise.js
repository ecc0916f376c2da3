/** Where the evidence lies, as gradcam_widget/localise.py: the same operations in the same order. */

/** The positive part of a map at the size of the picture, in double precision. */
function enlarged(cam, rows, cols, width, height) {
  const values = new Float64Array(width * height);
  const across = taps(cols, width);
  const down = taps(rows, height);
  const positive = Float64Array.from(cam, (value) => Math.max(value, 0));
  const line = new Float64Array(cols);
  for (let y = 0, at = 0; y < height; y++) {
    const top = down.low[y] * cols;
    const bottom = down.high[y] * cols;
    for (let c = 0; c < cols; c++) {
      line[c] = positive[top + c] + (positive[bottom + c] - positive[top + c]) * down.weight[y];
    }
    for (let x = 0; x < width; x++, at++) {
      const left = line[across.low[x]];
      values[at] = left + (line[across.high[x]] - left) * across.weight[x];
    }
  }
  return values;
}

/** [left, top, right, bottom] of the largest segment of values that reach a share of their maximum, right and
 *  bottom being the first pixels outside; null where nothing is positive. Neighbours are those that share an edge,
 *  and of segments of one size the one that begins first counts. */
function boxOf(values, width, height, threshold) {
  let highest = 0;
  for (let i = 0; i < values.length; i++) if (values[i] > highest) highest = values[i];
  const level = threshold * highest;
  const waiting = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) waiting[i] = values[i] > 0 && values[i] >= level ? 1 : 0;
  const stack = new Int32Array(values.length);
  let most = 0;
  let box = null;
  for (let start = 0; start < values.length; start++) {
    if (!waiting[start]) continue;
    let [left, top, right, bottom, size, depth] = [width, height, 0, 0, 0, 0];
    const add = (at) => {
      waiting[at] = 0;
      stack[depth++] = at;
    };
    add(start);
    while (depth > 0) {
      const at = stack[--depth];
      const x = at % width;
      const y = (at - x) / width;
      size += 1;
      left = Math.min(left, x);
      right = Math.max(right, x + 1);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y + 1);
      if (x > 0 && waiting[at - 1]) add(at - 1);
      if (x < width - 1 && waiting[at + 1]) add(at + 1);
      if (y > 0 && waiting[at - width]) add(at - width);
      if (y < height - 1 && waiting[at + width]) add(at + width);
    }
    if (size > most) [most, box] = [size, [left, top, right, bottom]];
  }
  return box;
}
