/** What needs no kernel is told to it once, when the hand rests. */

const REST_MS = 200;

/** Calls `tell` when nothing has called for it for a moment. */
function atRest(tell, signal) {
  let timer = 0;
  const later = (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => tell(...given), REST_MS);
  };
  signal.addEventListener("abort", () => clearTimeout(timer));
  return later;
}

/** The controls that the view follows in the browser: name -> [trait of the view, value of the control]. */
const FOLLOWED = { opacity: ["opacity", "value"], colormap: ["colormap_index", "index"] };

/** Draws with what these controls hold, while they are moved; each of them tells the kernel when it is at rest. */
async function followControls(model, signal) {
  const manager = model.widget_manager;
  const named = model.get("controls") ?? {};
  for (const [name, [trait, value]] of Object.entries(manager ? FOLLOWED : {})) {
    if (!named[name]) continue;
    const control = await manager.get_model(named[name].replace("IPY_MODEL_", ""));
    if (signal.aborted) return;
    // The view's own trait is not saved: the control is what the kernel hears of.
    const follow = () => control.get(value) != null && model.set(trait, control.get(value));
    control.on(`change:${value}`, follow);
    signal.addEventListener("abort", () => control.off(`change:${value}`, follow));
    follow();
    quieten(control);
  }
}

const quiet = new WeakSet();

/** Lets a control of ours, which a drag changes sixty times a second, tell the kernel once it is at rest. */
function quieten(control) {
  if (quiet.has(control)) return; // another view of the same explorer has done so
  quiet.add(control);
  const forever = new AbortController();
  control.save_changes = atRest(control.save_changes.bind(control), forever.signal);
}
