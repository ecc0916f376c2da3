/** The bars as a table, for those who do not see them, and for copying. */

const TABLE_ROWS = 50;

/** Below the bars: a line that opens a table of the first channels in the order chosen. Written only while it is open. */
function tablePart({ switches, names, signal }) {
  const caption = h("caption");
  const head = h("tr");
  const rows = h("tbody");
  const table = h("table", {}, caption, h("thead", {}, head), rows);
  // Scrolled from the keyboard too, so it can be focused.
  const room = h("div", { class: "gcw-tableroom", role: "region", tabindex: "0", "aria-label": "Table of the bars" }, table);
  const summary = h("summary", { "data-lm-suppress-shortcuts": "true" }, "Bars as a table");
  const element = h("details", { class: "gcw-table", hidden: true }, summary, room);
  room.dataset.lmSuppressShortcuts = "true";

  let shown = null; // {scene, order, name, probed}
  let isWritten = false;

  function columnsOf({ scene, probed }) {
    const columns = [
      ...(probed ? [[`adds at cell (${probed.cell.join(", ")})`, (k) => signed(probed.terms[k])]] : []),
      ["α", (k) => signed(scene.alpha[k])],
      ["contribution", (k) => signed(scene.contribution[k])],
    ];
    if (isComparing(scene)) columns.splice(1, 0, [`α for ${scene.compare.target.label}`, (k) => signed(scene.compare.alpha[k])]);
    const calledOf = (k) => names.nameOf(scene, k);
    if (names.of(scene)) columns.push(["name", (k) => (calledOf(k) ? `${calledOf(k).name}, ${calledOf(k).fit}` : "")]);
    if (switches.isAnyOff()) columns.push(["in the sum", (k) => (switches.isOff(k) ? "no" : "yes")]);
    return columns;
  }

  function write() {
    if (isWritten || !element.open || !shown) return;
    isWritten = true;
    const { scene, order, name, probed } = shown;
    const columns = columnsOf(shown);
    const first = order.subarray(0, TABLE_ROWS);
    const all = order.length > first.length ? `${first.length} of ${order.length} channels` : plural(order.length, "channel");
    caption.textContent = `Channel weights α ${aim(scene)} at ${scene.layer.name}: ${all}, by ${probed && name === "cell" ? "what they add at the cell" : name}`;
    head.replaceChildren(...["channel", ...columns.map(([title]) => title)].map((title) => h("th", { scope: "col" }, title)));
    const lineOf = (k) => h("tr", {}, h("th", { scope: "row" }, `#${k}`), ...columns.map(([, text]) => h("td", {}, text(k))));
    rows.replaceChildren(...Array.from(first, lineOf));
  }

  element.addEventListener("toggle", write, { signal });

  return {
    element,
    /** Takes the scene on show and its channels in order; `name`: what they are sorted by; `probed`: {cell, terms}
     *  where the bars are what the channels add at a cell, or null. */
    show(scene, order, name, probed = null) {
      shown = scene && { scene, order, name, probed };
      isWritten = false;
      element.hidden = !scene;
      write();
    },
  };
}
