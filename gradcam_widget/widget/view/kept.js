/** What was shown before, kept for a page without a kernel: the other scenes of the picture on show. */

const KEPT_BYTES = 300_000;

/** The scenes and strips of a record (see kept.py), as they were sent, the oldest first. Places that hold no more than
 *  bytes were left by a program that saved the notebook. */
function keptScenes(record) {
  const whole = Object.values(record?.scenes ?? {}).filter((scene) => scene.layer && hasBytes(scene.cam?.data));
  return whole.sort((a, b) => a.revision - b.revision);
}

const keptStrip = (record, question) =>
  Object.values(record?.strips ?? {}).find((strip) => strip.question === question && strip.layers && hasBytes(strip.data));

/** About how many bytes a scene or a strip takes. */
function bytesKept(kept) {
  if (kept.layers) return kept.data.byteLength + 200 * kept.layers.length;
  const { cam, alpha, contribution, compare } = kept;
  const arrays = [cam, alpha, contribution, compare?.alpha, compare?.cam, compare?.contrast];
  return arrays.reduce((sum, array) => sum + (array?.data?.byteLength ?? 0), 2000);
}

/** What tells a picture from others: its name, and the sums at the end of its PNG. */
function markOf(picture) {
  const end = [...bytesOf(picture.data).slice(-20, -12)].map((byte) => byte.toString(16).padStart(2, "0"));
  return `${end.join("")} ${picture.name}`;
}

/** Takes away those scenes, or strips, that are not to stay. */
function keepOnly(kept, stays) {
  for (const [place, one] of Object.entries(kept)) if (!stays(one)) delete kept[place];
}

/** Keeps a scene in the place of an earlier one of the same selection; as `Kept.add` in kept.py. */
function keepScene({ scenes, strips }, scene) {
  if (Object.values(scenes).some((other) => other.trace !== scene.trace)) { // the model has changed since
    keepOnly(scenes, () => false);
    keepOnly(strips, () => false);
  }
  if (scene.off || scene.method.pixels) return;
  keepOnly(scenes, (other) => other.base !== scene.base);
  scenes[`r${scene.revision}`] = scene;
}

/** The oldest scenes make room. */
function shed(record) {
  const { scenes, strips } = record;
  const heavy = () => [...Object.values(scenes), ...Object.values(strips)].reduce((sum, one) => sum + bytesKept(one), 0) > KEPT_BYTES;
  for (const oldest of keptScenes(record).slice(0, -1)) {
    if (!heavy()) return;
    keepOnly(scenes, (scene) => scene !== oldest);
    const asked = new Set(Object.values(scenes).map((one) => one.question));
    keepOnly(strips, (strip) => asked.has(strip.question));
  }
}

/** Takes away what is no scene and no strip. */
function tidy(record) {
  keepOnly(record.scenes, (scene) => scene.layer);
  keepOnly(record.strips, (strip) => strip.layers);
}

/**
 * Keeps what arrives, as long as a model lives. The record is a part of the model's state, so a front end that saves
 * what it holds saves it; it is changed in its place, not set, so that it is never sent to the kernel.
 */
function keepScenes(model) {
  function keep() {
    const record = model.get("kept");
    const picture = model.get("picture");
    if (!record || !hasBytes(picture?.data)) return;
    const mark = markOf(picture);
    if (record.picture !== mark || !record.scenes) Object.assign(record, { picture: mark, scenes: {}, strips: {} });
    tidy(record);
    const scene = model.get("scene");
    if (scene?.layer && hasBytes(scene.cam?.data)) keepScene(record, scene);
    const strip = model.get("strip");
    if (strip?.layers && hasBytes(strip.data) && strip.question === scene?.question) {
      keepOnly(record.strips, (other) => other.question !== strip.question);
      record.strips[`q${strip.question}`] = strip;
    }
    shed(record);
  }
  const keepSoon = coalesced(keep);
  const events = ["change:scene", "change:strip", "change:kept"];
  for (const event of events) model.on(event, keepSoon);
  keepSoon();
  return () => {
    for (const event of events) model.off(event, keepSoon);
  };
}

/** Which map it is, beside its class and its layer: "signed Grad-CAM beside tabby". */
function kindOfMap(scene) {
  const method = scene.method.name === "GradCAM" ? "Grad-CAM" : scene.method.name;
  const evidence = scene.evidence === "positive" ? "" : `${scene.evidence} `;
  return `${evidence}${method}${isComparing(scene) ? ` beside ${scene.compare.target.label}` : ""}`;
}

/**
 * Without a kernel: a choice among the scenes that are here.
 *
 * `given`: the model whose state they are; `changed()`: another one is on show. Gives `model`, to be used in its
 * place: it reads as if the kernel had sent what was chosen.
 */
function keptPart({ given, signal, isApart, changed }) {
  const fields = {
    class: { select: h("select", { "aria-label": "Class shown before" }), of: (scene) => scene.target.label },
    layer: { select: h("select", { "aria-label": "Layer shown before" }), of: (scene) => scene.layer.name },
    map: { select: h("select", { "aria-label": "Map shown before" }), of: kindOfMap },
  };
  const words = { class: "Class", layer: "Layer", map: "Map" };
  const labels = Object.entries(fields).map(([name, { select }]) => h("label", {}, h("span", {}, words[name]), select));
  const title = h("span", { class: "gcw-note" }, "Shown before, and still here:");
  const element = h("div", { class: "gcw-keptrow", role: "group", "aria-label": "Shown before", hidden: true }, title, ...labels);
  let chosen = null;
  let touched = false; // whether anything was ever chosen

  /** All there is to choose from, the scene of the model among them. */
  function all() {
    const scenes = keptScenes(given.get("kept"));
    for (const own of [given.get("scene"), chosen]) {
      if (own?.layer && !scenes.some((scene) => scene.base === own.base)) scenes.push(own);
    }
    return scenes;
  }

  const now = () => chosen ?? given.get("scene");

  function read(name) {
    if (!chosen) return given.get(name);
    if (name === "scene") return chosen;
    if (["notice", "task", "pixels"].includes(name)) return {};
    if (name !== "strip" || chosen.question === given.get("strip")?.question) return given.get(name);
    return keptStrip(given.get("kept"), chosen.question) ?? {};
  }

  /** The scene that has this value in a field and is else as much as the one on show as can be; the latest of these. */
  function nearest(name, value) {
    const others = ["map", "layer", "class"].filter((other) => other !== name);
    const likeness = (scene) => others.reduce((sum, other, i) => sum + (fields[other].of(scene) === fields[other].of(now()) ? 2 - i : 0), 0);
    const fitting = all().filter((scene) => fields[name].of(scene) === value);
    return fitting.reduce((best, scene) => (best && likeness(best) > likeness(scene) ? best : scene), null);
  }

  function show(scene) {
    chosen = scene === given.get("scene") ? null : scene;
    touched = true;
    given.set("channel", null); // they are those of another layer or class
    given.set("probe", null);
    write();
    changed();
  }

  /** What there is, and what of it is on show; in a list of layers or maps, those of another class are off. */
  function write() {
    const scenes = isApart() ? all() : [];
    element.hidden = scenes.length < 2;
    if (element.hidden) return;
    for (const [name, { select, of }] of Object.entries(fields)) {
      const own = of(now());
      const fits = (scene) => name === "class" || (scene.target.label === now().target.label && (name === "map" || kindOfMap(scene) === kindOfMap(now())));
      const here = new Set(scenes.filter(fits).map(of));
      const values = [...new Set(scenes.map(of))];
      select.replaceChildren(...values.map((value) => h("option", { value, disabled: !here.has(value) }, here.has(value) ? value : `${value} (needs the kernel here)`)));
      select.value = own;
      select.dataset.lmSuppressShortcuts = "true";
      select.parentElement.hidden = name === "map" && values.length < 2;
    }
  }

  for (const [name, { select }] of Object.entries(fields)) {
    select.addEventListener("change", () => show(nearest(name, select.value)), { signal });
  }

  return {
    element,
    model: { get: read },
    write,
    /** The kernel has gone while this scene was on show, of which it did not know: it stays. */
    hold(scene) {
      chosen = scene;
      touched = true;
    },
    /** Shows what is asked for, where there is no kernel and it is here; whether it is. */
    take({ type, index, name }) {
      if (!isApart()) return false;
      const sought = all().filter((scene) => (type === "target" ? scene.target.index === index : scene.layer.name === name && scene.question === now().question));
      if (!sought.length) return false;
      show(type === "target" ? nearest("class", sought[0].target.label) : nearest("layer", name));
      return true;
    },
    /** Lets those of these buttons answer whose class is here. */
    mark(buttons) {
      const scenes = isApart() ? all() : [];
      const indices = new Set(scenes.length > 1 ? scenes.map((scene) => String(scene.target.index)) : []);
      for (const button of buttons) button.classList.toggle("gcw-here", indices.has(button.dataset.index));
    },
    /** There is a kernel, whose scene is the one to be shown. */
    forget() {
      if (chosen) {
        chosen = null;
        changed();
      }
      write();
    },
    /** The controls around the view, which are switched off, say what is on show. */
    mirror(scope) {
      if (!scope || !touched || !isApart()) return;
      const scene = now();
      const layer = scope.querySelector(".gradcam-layer select");
      if (layer && [...layer.options].some((option) => option.value === scene.layer.label)) layer.value = scene.layer.label;
      const texts = { ".gradcam-class:not(.gradcam-compare) input": scene.target.label, ".gradcam-compare input": scene.compare?.target?.label ?? "" };
      for (const [selector, text] of Object.entries(texts)) {
        const field = scope.querySelector(selector);
        if (field) field.value = text;
      }
      const method = scope.querySelector(".gradcam-method select");
      if (method && [...method.options].some((option) => option.value === scene.method.name)) method.value = scene.method.name;
      for (const button of scope.querySelectorAll(".gradcam-evidence .widget-toggle-button")) {
        button.classList.toggle("mod-active", button.textContent.trim() === scene.evidence);
      }
    },
  };
}
