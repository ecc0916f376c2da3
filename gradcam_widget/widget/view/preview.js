/** A layer of the strip on the picture, before the kernel has answered. */

/**
 * What the picture shows of a layer whose map is in the strip: the scene on show with that layer's map, or null where
 * the strip has none, or belongs to another question (picture, class, method, evidence) than the scene. `alone`: nothing
 * more will come.
 */
function previewOf(scene, strip, layer, alone = false) {
  if (!scene || !strip || !Number.isInteger(scene.question) || scene.question !== strip.question) return null;
  if (!layer?.rows) return null;
  if (isComparing(scene) || scene.method.pixels) return null; // the strip has one class's map of the layer, and nothing else
  const { rows, cols, values, max, signed, shape } = layer;
  const share = signed ? (value) => (value - 128) / 127 : (value) => value / 255;
  const whole = rows === shape[1] && cols === shape[2];
  const from = `drawn from ${rows} × ${cols}${alone ? " of its cells" : " until all of it is here"}`;
  const against = scene.evidence === "counterfactual";
  return {
    ...scene,
    layer: { ...scene.layer, receptive_field: null, name: layer.name, label: layer.label, shape },
    rows,
    cols,
    cam: Float32Array.from(values, (value) => share(value) * max),
    max,
    diagnosis: max > 0 ? null : against ? "No evidence against the class at this layer." : "No positive evidence at this layer.",
    remark: whole ? "" : from,
    cures: null,
    isPreview: true,
  };
}
