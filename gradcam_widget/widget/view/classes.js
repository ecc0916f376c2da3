/** Which classes share a channel: a table of the likeliest classes and their strongest channels. */

/** The table of a message with its numbers, or null for none; {note} where there cannot be one. */
async function decodeClasses(message) {
  if (message?.note) return message;
  if (!message?.alpha) return null;
  return { ...message, alpha: await decodeArray(message.alpha) };
}

/** Black or white, whichever is read better on a colour. */
function inkOn(r, g, b) {
  const linear = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179 ? "#000000" : "#ffffff";
}

const NAME_WIDTH = 126; // CSS pixels, of a class and of a number, with the gaps
const CELL_WIDTH = 60;

/** A head that opens the table, and the table. A click on a cell explains its class and keeps its channel. */
function classesPart({ model, say, signal, choose, pin, isApart, refuse }) {
  const id = `gcw-classes-${Math.random().toString(36).slice(2, 10)}`;
  const toggle = h("button", { class: "gcw-disclose", type: "button", "aria-expanded": "false", "aria-controls": id }, "Classes and channels");
  const note = h("span", { class: "gcw-note" });
  const table = h("table", { class: "gcw-classes", "aria-label": "Channel weights alpha of the likeliest classes" });
  const words = h("p", { class: "gcw-classnote", hidden: true });
  const body = h("div", { class: "gcw-classbody", id, hidden: true }, table, words);
  const element = h("div", { class: "gcw-classpanel" }, h("div", { class: "gcw-striphead" }, toggle, note), body);
  toggle.dataset.lmSuppressShortcuts = "true";

  let data = null;
  let scene = null;
  let colourTable = null;
  let active = [0, 0]; // row and column of the cell that Tab reaches

  const isOpen = () => Boolean(model.get("class_table"));
  const cellAt = (row, column) => table.tBodies[0]?.rows[row]?.cells[column + 1]?.firstChild;
  const valueAt = (row, column) => data.alpha[row * data.channels.length + column];

  function fill() {
    const { classes, channels, alpha } = data;
    const format = alignedFormat(largest(alpha));
    const head = h("tr", {}, h("th", { scope: "col" }, "class"), ...channels.map((channel) => h("th", { scope: "col", "data-channel": channel }, `#${channel}`)));
    const rows = classes.map(({ index, label }, row) => h(
      "tr",
      { "data-index": index },
      h("th", { scope: "row", title: label }, label),
      ...channels.map((channel, column) => {
        const value = valueAt(row, column);
        const button = h("button", { class: "gcw-classcell", type: "button", tabindex: "-1", "data-row": row, "data-column": column }, format(value));
        button.dataset.lmSuppressShortcuts = "true";
        button.setAttribute("aria-label", `${label}, channel ${channel}, alpha ${signed(value)}`);
        return h("td", {}, button);
      }),
    ));
    const count = (column, sign) => classes.filter((_, row) => Math.sign(valueAt(row, column)) === sign).length;
    const sums = h("tr", {}, h("th", { scope: "row" }, "for / against"), ...channels.map((_, column) => h("td", {}, `${count(column, 1)} / ${count(column, -1)}`)));
    table.replaceChildren(h("thead", {}, head), h("tbody", {}, ...rows), h("tfoot", {}, sums));
    table.style.minWidth = `${NAME_WIDTH + channels.length * CELL_WIDTH}px`; // on a narrow page it scrolls
    note.textContent = `α at ${shorten(scene.layer.name)}: the ${plural(channels.length, "channel")} with the largest |α|, for ${plural(classes.length, "class", "classes")}`;
  }

  function paint() {
    if (!data?.alpha || !hasBytes(colourTable?.data)) return;
    const colours = bytesOf(colourTable.data);
    const most = largest(data.alpha);
    for (const button of table.querySelectorAll(".gcw-classcell")) {
      const value = valueAt(Number(button.dataset.row), Number(button.dataset.column));
      const at = Math.round((most > 0 ? (value / most + 1) / 2 : 0.5) * 255) * 3;
      const rgb = [...colours.subarray(at, at + 3)];
      button.style.background = `rgb(${rgb.join(" ")})`;
      button.style.color = inkOn(...rgb);
    }
  }

  /** Marks the class that is explained and the channel that is kept. */
  function mark() {
    if (!data?.alpha || !table.tBodies.length) return;
    const kept = model.get("channel") ?? null;
    for (const row of table.tBodies[0].rows) {
      const explained = Number(row.dataset.index) === scene?.target.index;
      row.classList.toggle("gcw-explained", explained);
      for (const cell of [...row.cells].slice(1)) {
        cell.firstChild.setAttribute("aria-pressed", explained && data.channels[cell.firstChild.dataset.column] === kept);
      }
    }
    for (const head of table.tHead.rows[0].cells) head.classList.toggle("gcw-keptchannel", kept !== null && head.dataset.channel === String(kept));
  }

  function reach(row, column) {
    active = [clamp(row, 0, data.classes.length - 1), clamp(column, 0, data.channels.length - 1)];
    for (const button of table.querySelectorAll(".gcw-classcell")) button.tabIndex = -1;
    const cell = cellAt(...active);
    if (cell) cell.tabIndex = 0;
    return cell;
  }

  function show() {
    const open = isOpen();
    toggle.setAttribute("aria-expanded", open);
    body.hidden = note.hidden = !open;
    const behind = open && scene && data?.revision !== baseOf(scene);
    body.classList.toggle("gcw-behind", Boolean(behind));
    body.setAttribute("aria-busy", Boolean(behind));
  }

  function write() {
    const focused = table.contains(document.activeElement);
    const there = Boolean(data?.alpha);
    table.hidden = !there;
    words.hidden = !data?.note;
    words.textContent = data?.note ?? "";
    if (there && scene) {
      fill();
      paint();
      mark();
      const cell = reach(...active);
      if (focused) cell?.focus({ preventScroll: true });
    } else {
      table.replaceChildren();
      note.textContent = "";
    }
    show();
  }

  toggle.addEventListener("click", () => {
    if (isApart() && !data && !isOpen()) return refuse("The table of classes and channels needs the model.");
    model.set("class_table", !isOpen());
    model.save_changes();
    show();
    say(isOpen() ? "table of classes and channels open" : "table of classes and channels closed");
  }, { signal });

  table.addEventListener("click", (event) => {
    const button = event.target.closest(".gcw-classcell");
    if (!button) return;
    const [row, column] = [Number(button.dataset.row), Number(button.dataset.column)];
    reach(row, column);
    const { index } = data.classes[row];
    const channel = data.channels[column];
    if (button.getAttribute("aria-pressed") === "true") pin(null);
    else pin(channel);
    if (index !== scene?.target.index) choose({ type: "target", index });
  }, { signal });

  table.addEventListener("keydown", (event) => {
    const button = event.target.closest(".gcw-classcell");
    if (!button || event.ctrlKey || event.metaKey || event.altKey) return;
    const [row, column] = [Number(button.dataset.row), Number(button.dataset.column)];
    const last = data.channels.length - 1;
    const targets = { ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], Home: [row, 0], End: [row, last] };
    if (!(event.key in targets)) return;
    event.preventDefault();
    event.stopPropagation();
    reach(...targets[event.key])?.focus({ preventScroll: true });
  }, { signal });
  table.addEventListener("focusin", (event) => {
    const button = event.target.closest(".gcw-classcell");
    if (button) button.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, { signal });

  return {
    element,
    show,
    mark,
    /** The scene on show. */
    relate(next) {
      scene = next;
      if (data && !table.tBodies.length) write(); // it was here before its scene was unpacked
      show();
      mark();
    },
    /** Takes the table of a message. */
    take(next) {
      data = next;
      write();
    },
    colour(next) {
      if (next === colourTable) return;
      colourTable = next;
      paint();
    },
  };
}
