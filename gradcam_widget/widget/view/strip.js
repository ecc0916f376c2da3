/** Below: the maps of all layers. */

const PLAY_MS = 700;

/** Below: at which depth? A thumbnail of every layer in the list; a click or the arrow keys choose one. */
function stripPart({ chooseLayer, signal, limits }) {
  const note = h("span", { class: "gcw-note" });
  const play = h("button", { class: "gcw-button gcw-play", type: "button", "aria-pressed": "false" });
  const list = h("div", { class: "gcw-layers", role: "listbox", "aria-label": "Layers", "aria-orientation": "horizontal" });
  const head = h("div", { class: "gcw-striphead" }, h("span", { class: "gcw-name" }, "Layers"), play, note);
  const element = h("div", { class: "gcw-strip", hidden: true }, head, list);

  let strip = null;
  let chosen = -1;
  let rgb = null;
  let timer = 0;
  let frame = 0; // in which the chosen tile is brought into sight

  const tiles = () => [...list.children];
  const isPlaying = () => play.getAttribute("aria-pressed") === "true";

  /** What there is to say of a layer beyond its name. */
  function wordsOf(layer) {
    if (!layer.rows) return `${layer.label}: no map yet`;
    if (layer.max > 0) return layer.label;
    return `${layer.label}: ${strip.evidence === "counterfactual" ? "no evidence against the class" : "no positive evidence"}`;
  }

  function tileOf(layer, before) {
    const [, rows, cols] = layer.shape;
    const size = rows === cols ? `${rows}²` : `${rows} × ${cols}`;
    const words = wordsOf(layer);
    const { last, way } = shortName(layer.name);
    const tile = h(
      "div",
      { class: "gcw-layer", role: "option", title: words, "aria-label": words, tabindex: "-1" },
      h("canvas", { class: "gcw-thumbnail", "aria-hidden": "true", width: "1", height: "1" }),
      h("span", { class: "gcw-short" }, last),
      h("span", { class: "gcw-short" }, [way, size].filter(Boolean).join(" ")),
    );
    tile.dataset.name = layer.name;
    tile.dataset.lmSuppressShortcuts = "true";
    tile.classList.toggle("gcw-faded", layer.rows > 0 && !(layer.max > 0));
    tile.classList.toggle("gcw-stage-start", Boolean(before) && (before.shape[1] !== rows || before.shape[2] !== cols));
    return tile;
  }

  /** Scrolls the list, and nothing but the list, until a tile is seen. */
  function reveal(tile) {
    const left = tile.offsetLeft - list.offsetLeft;
    const room = list.clientWidth - tile.offsetWidth;
    list.scrollLeft = clamp(list.scrollLeft, left - room + 8, left - 8);
  }

  /** To know where the tiles are makes the browser lay out the whole page: so with the next frame, for which it
   *  does that anyway. */
  function revealSoon() {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      if (chosen >= 0) reveal(tiles()[chosen]);
    });
  }

  function setPlaying(on) {
    clearTimeout(timer);
    play.setAttribute("aria-pressed", on);
    const words = on ? "Stop at this layer" : "Play through the layers";
    play.title = words;
    play.setAttribute("aria-label", words);
  }

  /** Asks for a layer; the outline follows when its map is on the picture. */
  const ask = (index) => chooseLayer(strip.layers[index]);

  function step() {
    if (!isPlaying() || !strip) return;
    if (chosen + 1 < strip.layers.length) ask(chosen + 1);
    else setPlaying(false);
  }

  function onPlay() {
    setPlaying(!isPlaying());
    if (!isPlaying() || !strip) return;
    if (chosen === strip.layers.length - 1) ask(0);
    else step();
  }

  function onKey(event) {
    const from = tiles().indexOf(event.target);
    if (from < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = strip.layers.length - 1;
    const targets = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last, Enter: from, " ": from };
    if (!(event.key in targets)) return;
    event.preventDefault();
    event.stopPropagation();
    setPlaying(false);
    const to = clamp(targets[event.key], 0, last);
    tiles()[to].focus({ preventScroll: true });
    ask(to);
  }

  list.addEventListener("click", (event) => {
    const index = tiles().indexOf(event.target.closest(".gcw-layer"));
    if (index < 0) return;
    setPlaying(false);
    ask(index);
  }, { signal });
  list.addEventListener("keydown", onKey, { signal });
  list.addEventListener("focusin", (event) => {
    for (const tile of tiles()) tile.tabIndex = tile === event.target ? 0 : -1;
    reveal(event.target);
  }, { signal });
  play.addEventListener("click", onPlay, { signal });
  signal.addEventListener("abort", () => { clearTimeout(timer); cancelAnimationFrame(frame); });
  setPlaying(false);

  function paint() {
    for (const [index, tile] of tiles().entries()) {
      const layer = strip.layers[index];
      paintThumbnail(tile.firstChild, layer, rgb, strip.evidence === "signed", limits().layer(layer));
    }
  }

  return {
    element,
    isPlaying,
    evidence: () => strip?.evidence,
    /** The strip on show, or null. */
    now: () => strip,
    repaint: paint,
    /** Takes the layers, or null for none, and the colour table that fits them. */
    show(next, table) {
      const focused = list.contains(document.activeElement) ? document.activeElement.dataset.name : null;
      strip = next;
      element.hidden = !strip || strip.layers.length < 2;
      list.replaceChildren(...(strip?.layers ?? []).map((layer, i, all) => tileOf(layer, all[i - 1])));
      note.textContent = list.querySelector(".gcw-faded")
        ? `faded: no ${strip.evidence === "counterfactual" ? "evidence against the class" : "positive evidence"} at this layer`
        : "";
      tiles().find((tile) => tile.dataset.name === focused)?.focus({ preventScroll: true });
      this.colour(table);
    },
    /** Outlines the layer of the scene on show. */
    choose(name) {
      chosen = strip ? strip.layers.findIndex((layer) => layer.name === name) : -1;
      const focused = list.contains(document.activeElement);
      for (const [index, tile] of tiles().entries()) {
        tile.setAttribute("aria-selected", index === chosen);
        if (!focused) tile.tabIndex = index === Math.max(chosen, 0) ? 0 : -1;
      }
      revealSoon();
      clearTimeout(timer);
      if (isPlaying()) timer = setTimeout(step, PLAY_MS);
    },
    /** The layer that was asked for will not come. */
    stop: () => setPlaying(false),
    /** The view has another width: the chosen layer stays in sight. */
    resize: revealSoon,
    colour(table) {
      rgb = hasBytes(table?.data) ? colours(table, strip?.evidence === "signed") : null;
      paint();
    },
  };
}
