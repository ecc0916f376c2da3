/** Left: where? The picture with the heatmap on it. */

const NOT_SELECTED = "not this selection";

/** Left: where? The picture with the heatmap on it, its colour bar, and the probe. */
function picturePart({ tip, say, signal, limits, keepProbe, onProbe, termsAt }) {
  const canvas = h("canvas", { class: "gcw-picture", role: "img", tabindex: "0", width: "1", height: "1" });
  const outline = h("div", { class: "gcw-probe", hidden: true });
  const field = h("div", { class: "gcw-field", hidden: true });
  const badge = h("div", { class: "gcw-badge" }, NOT_SELECTED);
  const wait = h("div", { class: "gcw-wait" });
  const stage = h("div", { class: "gcw-stage" }, canvas, field, outline, badge, wait);
  const ramp = h("canvas", { class: "gcw-ramp", "aria-hidden": "true", width: "1", height: "256" });
  const mark = h("div", { class: "gcw-mark", hidden: true });
  const most = h("span", { class: "gcw-most" });
  const least = h("span", { class: "gcw-least" });
  const middle = h("span", { class: "gcw-middle", hidden: true }, "0");
  const scale = h("div", { class: "gcw-scale", role: "img" }, ramp, mark, most, middle, least);
  const diagnosis = h("p", { class: "gcw-diagnosis" });
  const what = h("p", { class: "gcw-what" }); // seen where nothing beside the picture says it
  const caption = h("p", { class: "gcw-caption" });
  const under = h("div", { class: "gcw-under" }, what, diagnosis, caption);
  const element = h("div", { class: "gcw-where" }, stage, scale, under);

  let picture = null;
  let scene = null;
  let overlay = null;
  let levels = null;
  let table = null;
  let tableSigned = false;
  let rgb = null;
  let opacity = 0.5;
  let probe = null; // [row, col] under the pointer or the keys, or null
  let kept = null; // [row, col] that stays, or null
  let tellsMore = false; // the keys moved the probe, and what the channels add there has not been said
  let lens = null; // {channel, values}: an activation map in the heatmap's place
  let ratio = 1;

  /** The map that lies on the picture: that of the scene, or of the channel that is looked at. */
  function mapOnShow() {
    if (!lens) return { cam: scene?.cam, max: limits(scene).map, signed: isSigned(scene) };
    return { cam: lens.values, max: largest(lens.values), signed: lens.values.some((v) => v < 0) };
  }

  /** The picture, and over it the heat. All that a change of opacity or colour map needs. */
  function blend() {
    const context = canvas.getContext("2d");
    const { width, height } = canvas;
    context.clearRect(0, 0, width, height);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    if (picture) context.drawImage(picture.bitmap, 0, 0, width, height);
    if (!levels || !rgb) return;
    overlay.paint(levels, blendTable(rgb, opacity, mapOnShow().signed));
    context.drawImage(overlay.canvas, 0, 0);
  }

  /** Enlarges the map to the canvas: once for each scene and size. */
  function enlarge() {
    const { width, height } = canvas;
    const { cam, max, signed } = mapOnShow();
    levels = scene && max > 0 ? upsample(cam, scene.rows, scene.cols, width, height, max, signed) : null;
    if (overlay?.canvas.width !== width || overlay.canvas.height !== height) overlay = overlayOf(width, height);
  }

  /** Writes the limits of the colour bar beside it; the two sides of a signed one are named as well. */
  function showLimits(max, signed) {
    const low = signed ? number(-max) : "0";
    const [top, bottom] = signed && !lens ? ["for", "against"] : [lens ? "max" : limitWord(max, scene), ""];
    most.replaceChildren(number(max, true), h("small", {}, top));
    least.replaceChildren(...(signed ? [h("small", {}, bottom), number(-max, true)] : ["0"]));
    middle.hidden = !signed;
    scale.setAttribute("aria-label", `colour scale from ${low} to ${number(max)}`);
  }

  /** Says in words which map lies on the picture, and within which limits. */
  function describe() {
    const { max, signed } = mapOnShow();
    const [, rows, cols] = scene?.layer.shape ?? [];
    const cells = scene ? `${rows} × ${cols} ${rows * cols === 1 ? "cell" : "cells"}` : "";
    const map = lens ? `activation of channel ${lens.channel} at ${scene.layer.name}` : scene ? mapName(scene) : "no map yet";
    what.textContent = lens || scene ? map : "";
    canvas.setAttribute("aria-label", `${picture?.name ?? "picture"}: ${map}`);
    scale.hidden = !(max > 0);
    showLimits(max, signed);
    const silent = max > 0 ? "" : ": 0 everywhere, so it adds nothing to this map";
    const meaning = lens ? `activation A of channel #${lens.channel}${silent}` : EVIDENCE[scene?.evidence];
    const sees = fieldWords(scene, picture);
    const each = sees && !lens ? `each sees ${sees}` : "";
    caption.textContent = [picture?.name, [cells, each].filter(Boolean).join(", "), scene?.remark, meaning].filter(Boolean).join(JOINT);
  }

  /** The probe is nowhere, or back on the cell that is kept, of which nothing covers the picture. */
  function clearProbe() {
    probe = null;
    tip.hide();
    if (kept) outlineCell(kept);
    else outline.hidden = mark.hidden = field.hidden = true;
    onProbe();
  }

  /** Puts an outline over pixels of the picture, [left, top, right, bottom], in whole device pixels. */
  function putOver(element, [left, top, right, bottom]) {
    const at = (pixel, count, size) => Math.round((pixel * size) / count) / ratio;
    const [x, end] = [left, right].map((pixel) => at(pixel, picture.width, canvas.width));
    const [y, foot] = [top, bottom].map((pixel) => at(pixel, picture.height, canvas.height));
    Object.assign(element.style, { left: `${x}px`, top: `${y}px`, width: `${end - x}px`, height: `${foot - y}px` });
  }

  /** Outlines a cell and what it sees, and marks its value on the colour bar. */
  function outlineCell(cell) {
    const [row, col] = cell;
    const { cam, max, signed } = mapOnShow();
    const share = max > 0 ? cam[row * scene.cols + col] / max : 0;
    outline.hidden = false;
    outline.classList.toggle("gcw-kept", kept?.[0] === row && kept?.[1] === col);
    if (picture) {
      const [w, h_] = [picture.width / scene.cols, picture.height / scene.rows];
      putOver(outline, [col * w, row * h_, (col + 1) * w, (row + 1) * h_]);
      const seen = fieldOf(cell, scene, picture);
      field.hidden = !seen;
      if (seen) putOver(field, seen);
    }
    mark.hidden = !(max > 0);
    mark.style.top = `${(1 - clamp(signed ? (share + 1) / 2 : share, 0, 1)) * 100}%`;
  }

  /** The client rectangle of what the cell sees, where that leaves room for a tip beside it; else null. */
  function fieldBox() {
    const [all, seen] = [canvas.getBoundingClientRect(), field.getBoundingClientRect()];
    return seen.width > 0 && seen.width <= all.width / 2 && seen.height <= all.height / 2 ? seen : null;
  }

  /** Outlines the cell, marks its value on the colour bar and opens the tip beside it. */
  function showProbe(cell, spoken = false) {
    const moved = probe?.[0] !== cell[0] || probe?.[1] !== cell[1];
    probe = cell;
    const [row, col] = cell;
    const { cam, max, signed } = mapOnShow();
    const value = cam[row * scene.cols + col];
    const share = max > 0 ? value / max : 0;
    const box = cellRect(canvas, cell, scene, ratio);
    outlineCell(cell);
    const ofMax = `${share.toFixed(2).replace("-", MINUS)} of ${lens || limitWord(max, scene) === "max" ? "max" : "the scale"}`;
    const what = lens ? `A of #${lens.channel}` : "value";
    const added = lens ? null : termsAt(cell);
    const sees = picture && fieldOf(cell, scene, picture) ? fieldWords(scene, picture) : "";
    const lines = [[`cell (${row}, ${col})`, ofMax], ...(sees ? [["sees", sees]] : []), ...(added?.lines ?? [])];
    const beside = lens || !isComparing(scene) ? [] : pairAt(scene, row * scene.cols + col);
    // The map has no negative values, the sum can be one: then it is what the ReLU has cut away.
    if (added && value === 0 && added.sum < 0) lines.push(["sum", (added.sum > 0 ? "+" : "") + number(added.sum)]);
    tip.show([...lines, [what, number(value)], ...beside], fieldBox() ?? box, [canvas.getBoundingClientRect()]);
    if (spoken) tellsMore = !added;
    const most = [...(added?.lines.slice(0, 3) ?? []), ...beside].map((line) => line.join(" ")).join(", ");
    if (spoken) say(`cell ${row}, ${col}: ${number(value)}, ${ofMax}${most ? `; ${added ? "most by " : ""}${most}` : ""}`);
    if (moved) onProbe();
  }

  function cellUnder(event) {
    const box = canvas.getBoundingClientRect();
    const index = (at, size, count) => clamp(Math.floor((at / size) * count), 0, count - 1);
    return [index(event.clientY - box.top, box.height, scene.rows), index(event.clientX - box.left, box.width, scene.cols)];
  }

  const isSame = (cell, other) => cell?.[0] === other?.[0] && cell?.[1] === other?.[1];

  function onPointer(event) {
    if (!scene) return;
    const cell = cellUnder(event);
    if (!isSame(probe, cell)) showProbe(cell);
  }

  /** A click keeps the cell under the probe; another one on it lets it go. */
  function onClick(event) {
    if (!scene || scene.isPreview) return; // the next scene has this layer's cells, and the kernel not yet
    const cell = cellUnder(event);
    keepProbe(isSame(kept, cell) ? null : cell);
    say(kept ? `cell ${cell.join(", ")} kept` : "the probe is free");
  }

  function onKey(event) {
    if (!scene || event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key === "Escape" && (probe || kept)) {
      keepProbe(null);
      clearProbe();
    } else if (steps[event.key]) {
      const cell = moved(steps[event.key]);
      if (!scene.isPreview) keepProbe(cell);
      showProbe(cell, true);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** The next cell; the first key starts at the map's largest value. */
  function moved([down, right]) {
    const from = kept ?? probe;
    if (from) return [clamp(from[0] + down, 0, scene.rows - 1), clamp(from[1] + right, 0, scene.cols - 1)];
    const { cam } = mapOnShow();
    const best = cam.indexOf(cam.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0));
    return [Math.floor(Math.max(best, 0) / scene.cols), Math.max(best, 0) % scene.cols];
  }

  const leave = (event) => event.pointerType === "touch" || clearProbe();
  canvas.addEventListener("pointermove", onPointer, { signal });
  canvas.addEventListener("pointerdown", onPointer, { signal });
  canvas.addEventListener("pointerleave", leave, { signal });
  canvas.addEventListener("blur", clearProbe, { signal });
  canvas.addEventListener("click", onClick, { signal });
  canvas.addEventListener("keydown", onKey, { signal });

  return {
    element,
    stage,
    canvas,
    under,
    /** The limits have changed. */
    rescale: () => describe(),
    /** Takes what is to be shown; `resize` draws it. */
    show(nextPicture, nextScene, message) {
      const sameGrid = scene && nextScene && scene.rows === nextScene.rows && scene.cols === nextScene.cols;
      if (!sameGrid) kept = null;
      if (!sameGrid) clearProbe(); // else it stays where it is and reads the new map
      picture = nextPicture;
      scene = nextScene;
      lens = null;
      wait.hidden = Boolean(scene || picture);
      badge.textContent = message?.mark || NOT_SELECTED;
      wait.textContent = message?.title || message?.message ? "no map" : "waiting for the first map";
      diagnosis.textContent = scene?.diagnosis ?? "";
      describe();
    },
    isSigned: () => mapOnShow().signed,
    isLooking: () => lens !== null,
    /** Lays the activation map of a channel on the picture, or with null the heatmap again; `redraw` draws it. */
    look(next) {
      lens = next;
      describe();
    },
    redraw() {
      enlarge();
      blend();
      if (probe) showProbe(probe);
      else if (kept) outlineCell(kept);
    },
    /** Outlines a cell that is read in another picture, or with null none; the probe stays where it is. */
    mirror(cell) {
      if (!scene || probe) return;
      if (cell ?? kept) outlineCell(cell ?? kept);
      else outline.hidden = mark.hidden = field.hidden = true;
    },
    /** The cell that the bars are about, {cell, kept}: the one that is kept, else the one looked at; or null. */
    probed: () => (kept ? { cell: kept, kept: true } : probe && { cell: probe, kept: false }),
    /** Keeps a cell under the probe, [row, col], or with null none. */
    keep(cell) {
      kept = scene && cell?.[0] < scene.rows && cell?.[1] < scene.cols ? cell : null;
      if (probe) showProbe(probe);
      else clearProbe();
      onProbe();
    },
    /** What the channels add has come, or has changed. */
    retell() {
      if (probe) showProbe(probe, tellsMore);
    },
    /** Fits the picture into a square of `side` CSS pixels, in whole device pixels, and draws. */
    resize(side, devicePixelRatio) {
      ratio = devicePixelRatio;
      const { width, height } = picture ?? { width: 1, height: 1 };
      const fit = (side * ratio) / Math.max(width, height);
      resizeCanvas(canvas, Math.max(1, Math.floor(width * fit)), Math.max(1, Math.floor(height * fit)), ratio);
      enlarge();
      blend();
      if (probe) showProbe(probe);
      else tip.hide();
      if (!probe && kept) outlineCell(kept);
      return canvas.height / ratio;
    },
    /** Takes a colour table and an opacity; `blend` or `resize` draws them. */
    colour(nextTable, nextOpacity) {
      const { signed } = mapOnShow();
      if (nextTable !== table || signed !== tableSigned) {
        table = nextTable;
        tableSigned = signed;
        rgb = table ? colours(table, tableSigned) : null;
        if (rgb) paintScale(ramp, rgb);
      }
      opacity = nextOpacity;
    },
    blend,
  };
}
