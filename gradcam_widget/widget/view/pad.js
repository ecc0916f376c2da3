/**
 * The paint pad's view. It shows what painting did to the scores, and the occlusion map; and it keeps the
 * canvas, which ipycanvas draws, from swallowing the page's keys and wheel.
 */

const PAINT = "canvas.gradcam-paint, .gradcam-paint canvas";

const paintCanvas = (event) => event.target.closest?.(PAINT);

/** ipycanvas takes every key and every turn of the wheel over its canvas, and tells the kernel of every move of
 *  the mouse. Caught on their way down, only those events reach it that paint. */
function guardCanvas(container, undo, signal, isApart) {
  const on = (name, act) => container.addEventListener(name, (event) => {
    const canvas = paintCanvas(event);
    if (canvas) act(event, canvas);
  }, { capture: true, passive: name === "wheel" || name.startsWith("touch") ? true : undefined, signal });
  for (const name of ["mousedown", "mousemove", "mouseup", "mouseout", "touchstart", "touchmove", "touchend"]) {
    on(name, (event) => { if (isApart()) event.stopImmediatePropagation(); }); // nobody to paint for
  }
  on("wheel", (event) => event.stopPropagation()); // the page scrolls
  on("keydown", (event) => {
    event.stopPropagation(); // neither ipycanvas nor the notebook's commands; what the browser does stays
    if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "z") {
      event.preventDefault();
      undo();
    }
  });
  on("pointerdown", (event, canvas) => {
    if (event.button !== 0) return;
    // A stroke that leaves the canvas goes on, and its end is heard wherever it is.
    canvas.setPointerCapture?.(event.pointerId);
  });
  on("mousedown", (event, canvas) => {
    if (event.button !== 0) event.stopPropagation();
    // ipycanvas asks for the focus, and must not make the page jump in the middle of a stroke.
    canvas.focus = () => HTMLElement.prototype.focus.call(canvas, { preventScroll: true });
  });
  on("mousemove", (event) => { if (!(event.buttons & 1)) event.stopPropagation(); });
  on("mouseout", (event) => { if (!(event.buttons & 1)) event.stopPropagation(); });
  for (const name of ["touchstart", "touchmove"]) {
    on(name, (event) => { if (event.touches.length > 1) event.stopPropagation(); }); // two fingers scroll and zoom
  }
}

/** The element that scrolls what is around another one. */
function scrollerOf(element) {
  for (let at = element.parentElement; at; at = at.parentElement) {
    if (/auto|scroll/.test(getComputedStyle(at).overflowY) && at.scrollHeight > at.clientHeight) return at;
  }
  return document.scrollingElement;
}

/** Keeps the pad where it is on the screen while a hand is on it. What is painted changes what stands above it,
 *  such as the sentence about an empty map, and a stroke must not jump for that. */
function holdStill(container, outer) {
  const distance = () => container.getBoundingClientRect().top - outer.getBoundingClientRect().top;
  let before = distance();
  return new ResizeObserver(() => {
    const now = distance();
    const moved = now - before;
    before = now;
    if (moved && container.matches(":hover, :focus-within")) scrollerOf(container).scrollTop += moved;
  });
}

/** A canvas is a picture with a name; it is no stop on the way of Tab. Controls get the names they lack. */
function nameParts(container, label) {
  for (const canvas of container.querySelectorAll(PAINT)) {
    canvas.tabIndex = -1;
    canvas.setAttribute("role", "img");
    if (label && canvas.getAttribute("aria-label") !== label) canvas.setAttribute("aria-label", label);
  }
  for (const group of container.querySelectorAll(".gradcam-pad-rectangle")) {
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "Rectangle in pixels");
  }
  for (const field of container.querySelectorAll('input[type="color"]')) {
    const words = field.closest(".jupyter-widgets")?.querySelector("label")?.textContent;
    if (words && !field.hasAttribute("aria-label")) field.setAttribute("aria-label", words);
  }
}

/** A change of a probability, always with its sign; one that rounds to zero is none. */
function changeOf(before, after) {
  const change = after - before;
  if (Math.abs(change) < 0.0005) return "0";
  return `${change > 0 ? "+" : MINUS}${Math.abs(change).toFixed(3)}`;
}

/** The likeliest classes, before and after. A bar is the probability now, the mark on it the one before. */
function scoresPart() {
  const body = h("tbody");
  const heads = ["class", "", "before", "after", "change"].map((word) =>
    word ? h("th", { scope: "col" }, word) : h("td", {}),
  );
  const element = h("table", { class: "gcw-pad-scores", "aria-label": "Scores before and after painting" }, h("thead", {}, h("tr", {}, ...heads)), body);
  const wait = h("p", { class: "gcw-caption" }, "scores are being computed");
  const rowOf = () => {
    const now = h("span", { class: "gcw-pad-now" });
    const was = h("span", { class: "gcw-pad-was" });
    const cells = ["gcw-value", "gcw-value", "gcw-value gcw-pad-change"].map((name) => h("td", { class: name }));
    const label = h("th", { scope: "row", class: "gcw-label" });
    const track = h("td", { class: "gcw-pad-bars", "aria-hidden": "true" }, h("span", { class: "gcw-pad-line" }, now, was));
    const row = h("tr", {}, label, track, ...cells);
    return { row, label, now, was, cells };
  };
  let rows = [];
  return {
    element: h("div", { class: "gcw-pad-scored" }, element, wait),
    show(scores) {
      const given = scores?.rows ?? [];
      element.hidden = given.length === 0;
      wait.hidden = given.length > 0;
      while (rows.length < given.length) rows.push(rowOf());
      rows = rows.slice(0, given.length);
      if (body.children.length !== rows.length) body.replaceChildren(...rows.map((row) => row.row));
      given.forEach(({ label, before, after }, i) => {
        const { row, label: name, now, was, cells } = rows[i];
        row.classList.toggle("gcw-explained", label === scores.explained);
        name.textContent = label;
        name.title = label;
        now.style.width = `${100 * clamp(after, 0, 1)}%`;
        was.style.left = `${100 * clamp(before, 0, 1)}%`;
        [chance(before), chance(after), changeOf(before, after)].forEach((text, at) => { cells[at].textContent = text; });
        row.dataset.before = before;
        row.dataset.after = after;
      });
    },
    /** The first class in words, for those who do not see the table. */
    said(scores) {
      const first = scores?.rows?.find((row) => row.label === scores.explained) ?? scores?.rows?.[0];
      return first ? `${first.label}: ${chance(first.after)}, before ${chance(first.before)}` : "";
    },
  };
}

/** What each place of the picture is worth: asked for by a button, counted, stopped, and shown. */
function occlusionPart({ model, signal }) {
  const button = h("button", { class: "gcw-button", type: "button" });
  const bar = h("progress", { class: "gcw-progress", "aria-label": "passes done" });
  const words = h("span", { class: "gcw-words" });
  const picture = h("img", { class: "gcw-pad-occlusion", hidden: true });
  const sentences = h("div", { class: "gcw-pad-sentences" });
  const head = h("div", { class: "gcw-pad-occlusion-head" }, button, bar, words);
  const element = h("div", { class: "gcw-pad-occluded", role: "group", "aria-label": "Occlusion map", hidden: true }, head, picture, sentences);
  let running = false;
  let shown = null;
  let address = "";
  button.addEventListener("click", () => model.send({ type: running ? "cancel" : "occlude" }), { signal });
  const release = () => { if (address) URL.revokeObjectURL(address); address = ""; };
  return {
    element,
    release,
    show(task, occlusion) {
      element.hidden = !task?.total;
      running = Number.isFinite(task?.done);
      bar.hidden = !running;
      if (task?.total) {
        bar.max = task.total;
        bar.value = task.done ?? 0;
        button.textContent = running ? "Cancel" : "Occlusion map";
        words.textContent = running ? `${task.done} of ${plural(task.total, "pass", "passes")}` : plural(task.total, "pass", "passes");
      }
      if (occlusion?.data === shown) return;
      shown = occlusion?.data ?? null;
      release();
      picture.hidden = !hasBytes(shown);
      sentences.replaceChildren(...(occlusion?.sentences ?? []).map((text) => h("p", {}, text)));
      if (picture.hidden) return;
      address = URL.createObjectURL(new Blob([bytesOf(shown)], { type: "image/png" }));
      picture.src = address;
      picture.alt = ["Occlusion map", ...(occlusion.sentences ?? [])].join(". ");
      picture.width = occlusion.width;
      picture.height = occlusion.height;
    },
  };
}

function render({ model: given, el }) {
  const stop = new AbortController();
  const { signal } = stop;
  const connection = connectionPart(given, signal, () => {});
  const { model, isApart } = connection;
  const root = h("div", { class: "gcw gcw-pad", role: "group", "aria-label": "What painting did" });
  const live = h("div", { class: "gcw-hidden gcw-live", "aria-live": "polite" });
  const notice = noticePart();
  const scores = scoresPart();
  const occlusion = occlusionPart({ model, signal });
  root.append(notice.element, h("div", { class: "gcw-pad-results" }, scores.element, occlusion.element), live);
  el.append(root);

  let container = null;
  let telling = null;
  const label = () => model.get("canvas")?.label ?? "";
  const dressed = () => (container ? [root, container] : [root]);
  const retheme = () => applyTheme(dressed());

  function showScores() {
    scores.show(model.get("scores"));
    // Said when the hand rests, not at every move of it.
    clearTimeout(telling);
    telling = setTimeout(() => { live.textContent = scores.said(model.get("scores")); }, 800);
  }

  const listeners = [
    ["change:scores", showScores],
    ["change:task", () => occlusion.show(model.get("task"), model.get("occlusion"))],
    ["change:occlusion", () => occlusion.show(model.get("task"), model.get("occlusion"))],
    ["change:notice", () => notice.show(model.get("notice"))],
    ["change:canvas", () => container && nameParts(container, label())],
  ];
  for (const [name, act] of listeners) model.on(name, act);

  const observers = [];
  const observe = (observer, ...args) => { observer.observe(...args); observers.push(observer); };

  /** Once the view is on the page, the pad around it can be found. */
  function settle() {
    container = root.closest(".gradcam-pad");
    // A part of an explorer that is also shown by itself wears there what an explorer wears.
    if (container && !container.closest(".gradcam-widget")) container.classList.add("gradcam-widget");
    retheme();
    if (!container) return;
    const ready = () => { adopt(container); nameParts(container, label()); };
    ready();
    const outer = container.parentElement?.closest(".gradcam-widget");
    if (outer) observe(holdStill(container, outer), outer);
    else root.prepend(connection.element); // an explorer around the pad says it for both
    connection.within(container);
    guardCanvas(container, () => model.send({ type: "undo" }), signal, isApart);
    observe(new MutationObserver((records) => {
      if (records.some((record) => !root.contains(record.target))) ready();
    }), container, { childList: true, subtree: true });
    watchPressed(container, observe);
    watchTheme(retheme, observe);
  }

  let settled = false;
  observe(new ResizeObserver(() => {
    root.dataset.layout = root.clientWidth >= 520 ? "wide" : "narrow";
    if (settled || !root.isConnected || root.clientWidth === 0) return;
    settled = true;
    settle();
  }), root);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", retheme, { signal });

  adopt(root);
  retheme();
  for (const [, act] of listeners) act();
  const sent = model.get("occlusion");
  model.send({ type: "ready", complete: !sent?.width || hasBytes(sent.data) });

  return () => {
    stop.abort();
    clearTimeout(telling);
    for (const [name, act] of listeners) model.off(name, act);
    for (const observer of observers) observer.disconnect();
    occlusion.release();
    root.remove();
  };
}

export default { render };
