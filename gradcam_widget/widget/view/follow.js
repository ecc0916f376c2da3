/** The controls beside the view that lead to scenes: where one is kept, it needs no kernel, and they follow it. */

const STEERED = ["layer", "previous", "next", "target"]; // the controls, by their names in the trait `controls`
const steered = new WeakMap(); // control -> what may take the place of telling the kernel, one for each view

/** Lets `take()` do what a control would tell the kernel by `method`; where it does not, the kernel is told. */
function steer(control, method, take, signal) {
  if (!steered.has(control)) {
    const takers = new Set();
    const tell = control[method].bind(control);
    control[method] = (...args) => ([...takers].some((one) => one(...args)) ? undefined : tell(...args));
    steered.set(control, takers);
  }
  steered.get(control).add(take);
  signal.addEventListener("abort", () => steered.get(control).delete(take));
}

/**
 * Lets the lists of layers and classes, and the two arrows, go to kept scenes.
 *
 * `goTo({layer, target})`: shows a kept scene; whether there is one. `classOf(label)`: index of a class that is kept.
 * `flush()`: tells the kernel what it has not been told. `taken()`: called when the kernel need not be asked.
 */
async function followScenes(model, signal, { goTo, classOf, flush, taken }) {
  const manager = model.widget_manager;
  const named = model.get("controls");
  if (!manager || !STEERED.every((name) => named?.[name])) return { show() {} };
  const controlOf = (name) => manager.get_model(named[name].replace("IPY_MODEL_", ""));
  const [layer, previous, next, target] = await Promise.all(STEERED.map(controlOf));
  if (signal.aborted || ![layer, previous, next, target].every(Boolean)) return { show() {} };

  const labels = () => layer.get("_options_labels") ?? [];
  const nameAt = (index) => labels()[index]?.split(" · ")[0];
  const attempt = (wish) => {
    if (!goTo(wish)) {
      flush();
      return false;
    }
    setTimeout(taken); // after whoever watches the controls
    return true;
  };
  const step = (by) => (content) => {
    const there = nameAt((layer.get("index") ?? 0) + by);
    return content?.event === "click" && there !== undefined && attempt({ layer: there });
  };
  const chosenClass = () => {
    const index = classOf(String(target.get("value")).replace(/ · <?[01]\.\d+$/, ""));
    return index !== null && attempt({ target: index });
  };
  steer(layer, "save_changes", () => nameAt(layer.get("index")) !== undefined && attempt({ layer: nameAt(layer.get("index")) }), signal);
  steer(previous, "send", step(-1), signal);
  steer(next, "send", step(1), signal);
  steer(target, "save_changes", chosenClass, signal);

  return {
    /** The lists show the layer and the class of a scene; the kernel hears of the scene, and not of them. */
    show(scene) {
      const index = labels().findIndex((label) => label.split(" · ")[0] === scene.layer.name);
      if (index >= 0 && index !== layer.get("index")) layer.set("index", index);
      const own = scene.target.label;
      const option = (target.get("options") ?? []).find((text) => text === own || text.startsWith(`${own} · `)) ?? own;
      if (target.get("value") !== option) target.set("value", option);
    },
  };
}
