/** Which value has the strongest colour: each picture's own maximum, one for all, or a fixed one. */

const SCALES = { picture: "per picture", shared: "shared", fixed: "fixed" };

/**
 * The limits {map, contrast, layer(layer)} of all pictures for a scale ("picture", "shared" or a number).
 *
 * "picture": the pictures of a scene that are drawn with the same table share their largest value, and each layer
 * of the strip has its own. "shared": one for the pictures, the contrast and the strip. A number: that, for all.
 */
function scaleLimits(scale, scene, strip) {
  const { max = 0, compare } = scene ?? {};
  const pair = compare?.target ? compare : { max: 0, contrast_max: 0 };
  if (typeof scale === "number" && scale > 0) return { map: scale, contrast: scale, layer: () => scale };
  const own = Math.max(max, pair.max, isSigned(scene) ? pair.contrast_max : 0);
  if (scale === "shared") {
    const all = (strip?.layers ?? []).reduce((most, layer) => Math.max(most, layer.max || 0), Math.max(own, pair.contrast_max));
    return { map: all, contrast: all, layer: () => all };
  }
  return { map: own, contrast: isSigned(scene) ? own : pair.contrast_max, layer: (layer) => layer.max };
}

/** The word at the strongest colour: "max" where a map on show has that value, else "scale". */
const limitWord = (limit, scene) => (limit === Math.max(scene?.max ?? 0, scene?.compare?.target ? scene.compare.max : 0) ? "max" : "scale");

/** The control: a list, and a number where the limit is fixed. */
function scalePart({ model, say, signal, limits }) {
  const select = h("select", { "aria-label": "Scale" }, ...Object.entries(SCALES).map(([value, name]) => h("option", { value }, name)));
  const field = h("input", { type: "number", class: "gcw-limit", "aria-label": "Limit of the scale", min: "0", step: "any", hidden: true });
  for (const control of [select, field]) control.dataset.lmSuppressShortcuts = "true";
  const element = h("div", { class: "gcw-scaling" }, h("label", {}, h("span", {}, "Scale"), select), field);
  let scene = null;

  const chosen = () => model.get("scale") ?? "picture";

  function choose(scale) {
    model.set("scale", scale);
    model.save_changes();
    const limit = limits(scene).map;
    say(`scale ${SCALES[scale] ?? SCALES.fixed}, up to ${number(limit)}`);
  }

  select.addEventListener("change", () => {
    if (select.value !== "fixed") return choose(select.value);
    const limit = Number(limits(scene).map.toPrecision(2));
    choose(limit > 0 ? limit : 1);
  }, { signal });
  field.addEventListener("change", () => {
    const limit = Number(field.value);
    if (Number.isFinite(limit) && limit > 0) choose(limit);
    else show();
  }, { signal });

  function show() {
    const scale = chosen();
    const isFixed = typeof scale === "number";
    select.value = isFixed ? "fixed" : scale;
    field.hidden = !isFixed;
    if (isFixed) field.value = String(Number(scale.toPrecision(6)));
  }

  return {
    element,
    show(nextScene) {
      scene = nextScene;
      show();
    },
  };
}
