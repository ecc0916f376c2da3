/** What is painted on canvases. */

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

/** A layer's map in its own cells, at full strength; `limit`: the value at the end of the table. */
function paintThumbnail(canvas, layer, rgb, signedTable, limit = layer.max) {
  const { rows, cols, values, signed: signedMap } = layer;
  canvas.width = Math.max(cols, 1);
  canvas.height = Math.max(rows, 1);
  if (!rows || !rgb) return;
  const context = canvas.getContext("2d");
  const image = context.createImageData(cols, rows);
  const gain = limit > 0 ? layer.max / limit : 1;
  for (const [i, value] of values.entries()) {
    const share = clamp((signedMap ? (value - 128) / 127 : value / 255) * gain, -1, 1);
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
