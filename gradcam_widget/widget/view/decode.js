/** From the kernel's messages to arrays and bitmaps. The wire format: scene.py, notice.py, strip.py and canvas.py. */

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
async function decodeArray(array) {
  return plainValues(array.dtype === "u8z" ? { ...array, dtype: "u8", data: await inflate(bytesOf(array.data)) } : array);
}

/** The same for an array that is not deflated. */
function plainValues({ dtype, shape, scale, offset, data }) {
  const length = shape.reduce((a, b) => a * b, 1);
  const packed = bytesOf(data);
  // slice() copies to a fresh buffer: a typed array needs an aligned start, a message gives none.
  const raw = dtype === "u8" ? packed : packed.slice();
  let values;
  if (dtype === "f32") values = new Float32Array(raw.buffer);
  else if (dtype === "i16") values = Float32Array.from(new Int16Array(raw.buffer), (v) => v * scale);
  else if (dtype === "u8") values = Float32Array.from(raw, (v) => offset + v * scale);
  else throw new Error(`The kernel sent an array of an unknown kind: ${dtype}.`);
  if (values.length !== length) throw new Error(`The map has ${values.length} values instead of ${length}.`);
  return values;
}

/** A scene with its three arrays unpacked, or null for the empty scene. */
async function decodeScene(scene) {
  if (!scene?.layer) return null;
  const [cam, alpha, contribution, compare] = await Promise.all(
    [...[scene.cam, scene.alpha, scene.contribution].map(decodeArray), decodeCompare(scene.compare)],
  );
  const [rows, cols] = scene.cam.shape;
  return { ...scene, rows, cols, cam, alpha, contribution, compare, source: scene };
}

/** The same at once, for a scene of which nothing is deflated. */
function readyScene(scene) {
  const [cam, alpha, contribution] = [scene.cam, scene.alpha, scene.contribution].map(plainValues);
  const [rows, cols] = scene.cam.shape;
  const pair = scene.compare?.alpha ? Object.fromEntries(["alpha", "cam", "contrast"].map((name) => [name, plainValues(scene.compare[name])])) : {};
  const compare = scene.compare ? { ...scene.compare, ...pair } : null;
  return { ...scene, rows, cols, cam, alpha, contribution, compare, source: scene };
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
  return { evidence: strip.evidence, question: strip.question, layers };
}

/** The activation maps of a message, channel number -> Float32Array. A hand-out has them at hand: `plain`, not
 *  deflated, in steps of one or two bytes. */
async function decodeActivations({ first, shape, low, step, data, plain, bytes = 1 }) {
  const [count, rows, cols] = shape;
  const [lows, steps] = [low, step].map((part) => new Float32Array(bytesOf(part).slice().buffer));
  const raw = plain ? bytesOf(data).slice() : await inflate(bytesOf(data));
  const values = bytes === 2 ? new Uint16Array(raw.buffer) : raw;
  const cells = rows * cols;
  const mapOf = (i) => Float32Array.from(values.subarray(i * cells, (i + 1) * cells), (v) => lows[i] + v * steps[i]);
  return new Map(Array.from({ length: count }, (_, i) => [first + i, mapOf(i)]));
}

/** The terms of a message: cell, counted row by row -> Float32Array (K,). `plain`: they are that already. */
async function decodeTerms({ first, shape, scale, data, plain }) {
  const [count, channels] = shape;
  if (plain) return new Map([[first, data]]);
  const scales = new Float32Array(bytesOf(scale).slice().buffer);
  const steps = new Int16Array((await inflate(bytesOf(data))).buffer);
  const valuesOf = (i) => Float32Array.from(steps.subarray(i * channels, (i + 1) * channels), (v) => v * scales[i]);
  return new Map(Array.from({ length: count }, (_, i) => [first + i, valuesOf(i)]));
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
  if (scene.compare?.target) arrays.push(scene.compare.alpha, scene.compare.cam, scene.compare.contrast);
  if (strip.layers) arrays.push(strip);
  if (model.get("pixels")?.width) arrays.push(model.get("pixels"));
  return (
    (!picture.width || hasBytes(picture.data)) &&
    [...arrays, ...tables].every((part) => hasBytes(part?.data))
  );
}
