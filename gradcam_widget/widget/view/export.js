/** What is on show as a file, or as lines of code: asked of the kernel, and given to the browser to save or to copy. */

const EXPORTS = [
  { what: "png", words: "PNG", name: "Save PNG", tells: "the figure as a picture" },
  { what: "svg", words: "SVG", name: "Save SVG", tells: "the figure for print, its text as text" },
  { what: "npz", words: "Data", name: "Save data (NPZ)", tells: "alpha, map and activations with a manifest, for numpy" },
  { what: "html", words: "HTML", name: "Save HTML", tells: "a page to explore without a kernel" },
  { what: "code", words: "Copy code", name: "Copy code", tells: "the lines of Python that compute this" },
];

const weightOf = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

/** Lets the browser save bytes under a name. */
function saveBytes(root, bytes, name, mime) {
  const url = URL.createObjectURL(new Blob([bytes], { type: mime }));
  const link = h("a", { href: url, download: name, hidden: true, tabindex: "-1" });
  root.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** A quiet row: a button for each kind, and what came of the last one. `order()`: what the bars are sorted by. */
function exportPart({ root, model, say, signal, send, order }) {
  const own = Math.random().toString(36).slice(2, 10); // the kernel answers to all views of the widget
  const button = ({ what, words, name, tells }) => {
    const element = h("button", { class: "gcw-export", type: "button", title: `${name}: ${tells}`, "aria-label": name, "data-what": what }, words);
    element.dataset.lmSuppressShortcuts = "true";
    return element;
  };
  const buttons = new Map(EXPORTS.map((row) => [row.what, button(row)]));
  const note = h("span", { class: "gcw-note" });
  const files = h("span", { class: "gcw-exportrow" }, "Save ", ...[...buttons.values()].slice(0, -1));
  const row = h("div", { class: "gcw-exports", role: "group", "aria-label": "Export" }, h("span", { class: "gcw-name" }, "Export"), files, buttons.get("code"), note);
  const text = h("textarea", { class: "gcw-code", readonly: true, spellcheck: "false", "aria-label": "Code", rows: "8" });
  const close = h("button", { class: "gcw-button", type: "button" }, "Close");
  for (const control of [text, close]) control.dataset.lmSuppressShortcuts = "true";
  const hand = h("div", { class: "gcw-codebox", hidden: true }, text, close);
  const element = h("div", { class: "gcw-exportpanel", hidden: model.get("kernel") === false }, row, hand); // a hand-out has nobody to ask
  let count = 0;
  let waiting = null; // {ticket, what}

  function tell(words, isWrong = false) {
    note.textContent = words;
    note.classList.toggle("gcw-wrong", isWrong);
    say(words);
  }

  function settle() {
    if (waiting) buttons.get(waiting.what).removeAttribute("aria-busy");
    waiting = null;
  }

  function ask(what) {
    settle();
    hand.hidden = true;
    waiting = { ticket: `${own}-${++count}`, what };
    buttons.get(what).setAttribute("aria-busy", "true");
    tell(what === "html" ? "computing the page …" : what === "code" ? "" : "drawing …");
    if (what === "npz") note.textContent = "gathering …";
    send({ type: "export", what, ticket: waiting.ticket, sort: order() });
  }

  /** Puts the code where it can be copied by hand. */
  function offer(code) {
    hand.hidden = false;
    text.value = code;
    text.focus({ preventScroll: true });
    text.select();
    tell("the browser does not let it be copied: it is selected below, copy it with Ctrl+C");
  }

  async function copy(code) {
    try {
      await navigator.clipboard.writeText(code);
      tell(`${plural(code.trimEnd().split("\n").length, "line")} copied`);
    } catch {
      offer(code);
    }
  }

  function onMessage(content, buffers) {
    if (content?.type !== "export" || content.ticket !== waiting?.ticket || signal.aborted) return;
    settle();
    if (content.error) tell(content.error, true);
    else if (content.code !== undefined) copy(content.code);
    else {
      const bytes = bytesOf(buffers[0]);
      saveBytes(root, bytes, content.name, content.mime);
      tell([`${content.name}, ${weightOf(bytes.length)}`, content.note].filter(Boolean).join(JOINT));
    }
  }

  function shut() {
    const back = hand.contains(document.activeElement);
    hand.hidden = true;
    if (back) buttons.get("code").focus({ preventScroll: true });
  }

  row.addEventListener("click", (event) => {
    const { what } = event.target.closest(".gcw-export")?.dataset ?? {};
    if (what) ask(what);
  }, { signal });
  close.addEventListener("click", shut, { signal });
  hand.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    shut();
  }, { signal });
  model.on("msg:custom", onMessage);
  signal.addEventListener("abort", () => model.off("msg:custom", onMessage));

  return {
    element,
    /** Nobody will answer. */
    forget() {
      if (waiting) tell("");
      settle();
    },
  };
}
