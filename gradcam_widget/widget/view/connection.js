/** Whether there is a kernel to ask; what is said, and what is switched off, where there is none. */

const HANDLED_MS = 1500; // after the kernel is done with a request, within which its answer is unpacked

const NEEDS_MODEL = [
  ".gradcam-controls :is(select, input, button, textarea)",
  ":is(.gcw-task, .gcw-cures, .gcw-truth, .gcw-switches, .gcw-pad-occluded) button",
  "button.gcw-prediction",
  "button.gcw-export",
].join();
const NEEDS_NONE = ".gradcam-colormap, .gradcam-opacity, .gcw-here"; // the browser links them to the view itself, or has the answer

/** The front end's own word on the kernel of a widget manager: false where it is gone for good; null where it has none. */
function managerIsLive(manager) {
  if (!manager || !("kernel" in manager)) return null;
  const { kernel } = manager;
  return Boolean(kernel) && !kernel.isDisposed && kernel.status !== "dead" && kernel.status !== "terminating";
}

/** What a widget manager tells of changes of its kernel. */
function kernelSignals(manager) {
  const session = manager?.context?.sessionContext;
  const signals = [session?.kernelChanged, session?.statusChanged, manager?.kernel?.statusChanged, manager?.kernel?.disposed];
  return signals.filter((signal) => signal?.connect && signal.disconnect);
}

/**
 * The view's connection to its kernel, found out in three ways, because no front end has all of them:
 *
 * - `comm_live` of the widget models, which JupyterLab, Notebook and Voila set to false when a kernel restarts, and
 *   which is false from the start in a notebook that was saved. A view cannot see that of its own model, so that of
 *   its layout is read, which lives and ends with it;
 * - the widget manager's kernel, where it shows one: when it is shut down, `comm_live` stays as it was;
 * - a request that the kernel has worked off without an answer: it does not know this widget any more.
 *
 * What arrives from the kernel is proof of the contrary. Where nothing is known, there is a kernel.
 *
 * Gives `model`, to be used in the place of the one that is taken: where nothing can be sent, sending does nothing.
 */
function connectionPart(given, signal, onChange) {
  const id = `gcw-apart-${Math.random().toString(36).slice(2, 10)}`;
  const title = h("strong", {});
  const words = h("span", {});
  const refusal = h("span", { class: "gcw-refusal" });
  const element = h("div", { class: "gcw-connection", role: "status", id, hidden: true }, title, words, refusal);
  const layout = given.get("layout");
  const manager = given.widget_manager;
  const begun = managerIsLive(manager);
  const open = new Set(); // requests without an answer
  let scope = null; // what is switched off together
  let apart = false;
  let wasLive = false;
  let deaf = false; // a message could not be sent, or was not answered
  let heard = false; // something has come from the kernel since the front end last spoke of it

  function isLive() {
    if (heard) return true;
    if (layout?.comm_live === false) return false;
    if (begun && managerIsLive(manager) === false) return false;
    return !deaf;
  }

  function tell() {
    const voila = document.body.dataset.voila !== undefined; // no cells there, and a new kernel for each page
    title.textContent = "Not connected to the kernel.";
    words.textContent = wasLive
      ? `What you see stays; what needs the model does not answer. ${voila ? "Load the page" : "Run the cell"} again.`
      : "What you see is as it was saved; what needs the model does not answer. In a notebook, run the cell again.";
  }

  function check() {
    if (signal.aborted) return;
    const live = isLive();
    wasLive ||= live;
    if (live === !apart) return;
    apart = !live;
    if (apart) {
      tell();
      // The front end lets the widgets believe in a kernel that was shut down: controls go on sending, and each of
      // them writes an error to the console. This is what it does itself when a kernel restarts.
      if (begun && managerIsLive(manager) === false && layout?.comm_live) manager.disconnect?.();
    }
    refusal.textContent = "";
    element.hidden = !apart;
    mark();
    onChange(apart);
  }

  /** Switches off what needs the model, and on again what was switched off here. */
  function mark() {
    if (!scope) return;
    scope.classList.toggle("gcw-apart", apart);
    for (const control of scope.querySelectorAll(NEEDS_MODEL)) {
      const ours = control.dataset.gcwApart !== undefined;
      if (apart && !ours && !control.disabled && !control.closest(NEEDS_NONE)) {
        control.disabled = true;
        control.dataset.gcwApart = "";
        control.setAttribute("aria-describedby", id);
      } else if (!apart && ours) {
        control.disabled = false;
        delete control.dataset.gcwApart;
        control.removeAttribute("aria-describedby");
      }
    }
  }

  /** Something has come from the kernel: it knows this widget. */
  function hear() {
    open.clear();
    heard = true;
    deaf = false;
    check();
  }

  function lose() {
    heard = false;
    deaf = true;
    check();
  }

  /** The front end says that its kernel has changed, or is busy or idle. */
  function look() {
    heard = false;
    check();
  }

  /** The front end says whether there is a connection. */
  function onLive() {
    if (layout?.comm_live) deaf = false;
    look();
  }

  /** The kernel is done with a request; the answer may still have to be unpacked. */
  function onHandled(request) {
    setTimeout(() => { if (!signal.aborted && open.has(request)) lose(); }, HANDLED_MS);
  }

  function send(content, callbacks, buffers) {
    if (apart) return;
    const { request } = content;
    let listen = callbacks;
    if (request && !callbacks) {
      open.add(request);
      const status = (message) => { if (message?.content?.execution_state === "idle") onHandled(request); };
      listen = { iopub: { status } };
    }
    try {
      given.send(content, listen, buffers);
    } catch (error) {
      console.info("gradcam_widget: not connected to the kernel:", error.message);
      lose();
    }
  }

  const bound = ["get", "set", "on", "off", "save_changes"].map((name) => [name, (...args) => given[name](...args)]);
  const model = { ...Object.fromEntries(bound), send, widget_manager: manager };

  const subscriptions = [];
  const subscribe = (to, event, act) => { to?.on?.(event, act); subscriptions.push([to, event, act]); };
  subscribe(given, "comm_live_update", onLive);
  subscribe(layout, "comm_live_update", onLive);
  for (const trait of ["answered", "scene", "strip", "scores", "notice", "task"]) subscribe(given, `change:${trait}`, hear);
  const told = kernelSignals(manager);
  for (const source of told) source.connect(look);
  signal.addEventListener("abort", () => {
    for (const [from, event, act] of subscriptions) from?.off?.(event, act);
    for (const source of told) source.disconnect(look);
  });

  return {
    element,
    model,
    isApart: () => apart,
    /** The widget around the view is known: from now on all of it is looked after. */
    within(next) {
      scope?.classList.remove("gcw-apart");
      scope = next;
      check();
      mark();
    },
    check,
    mark,
    /** Says why nothing comes of what was just tried. */
    refuse(sentence) {
      refusal.textContent = sentence;
    },
  };
}
