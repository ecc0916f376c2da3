/** Two classes side by side: the second picture, the contrast, and the second and third column of bars. */

/** The least width of the view, in CSS pixels, at which the three pictures stand in one row. */
const THREE_ABREAST = 760;

const isComparing = (scene) => Boolean(scene?.compare?.target);

/** The contrast has two sides whatever the evidence: signed evidence lends it its table, else it is the first. */
function contrastTable(model, scene) {
  if (isSigned(scene)) return tableInUse(model, true);
  return Object.values(model.get("tables") ?? {}).find((table) => table.kind === "diverging") ?? null;
}

/** The arrays of the second class, unpacked; what a scene without one has, as it is. */
async function decodeCompare(compare) {
  if (!compare?.target) return compare ?? null;
  const [alpha, cam, contrast] = await Promise.all([compare.alpha, compare.cam, compare.contrast].map(decodeArray));
  return { ...compare, alpha, cam, contrast };
}

/** What a cell of the other two pictures holds, in words: lines for a tip. */
function pairAt({ compare }, at) {
  return [
    [shorten(compare.target.label, 24), number(compare.cam[at])],
    ["contrast", signed(compare.contrast[at])],
  ];
}

/** A colour bar with its numbers, as beside the picture. */
function colourBar() {
  const ramp = h("canvas", { class: "gcw-ramp", "aria-hidden": "true", width: "1", height: "256" });
  const most = h("span", { class: "gcw-most" });
  const middle = h("span", { class: "gcw-middle", hidden: true }, "0");
  const least = h("span", { class: "gcw-least" });
  const element = h("div", { class: "gcw-scale", role: "img" }, ramp, most, middle, least);
  return {
    element,
    paint: (rgb) => paintScale(ramp, rgb),
    /** `ends`: words for the two ends. */
    show(max, isTwoSided, ends) {
      element.hidden = !(max > 0);
      most.replaceChildren(number(max, true), h("small", {}, ends[0]));
      least.replaceChildren(...(isTwoSided ? [h("small", {}, ends[1]), number(-max, true)] : ["0"]));
      middle.hidden = !isTwoSided;
      element.setAttribute("aria-label", `colour scale from ${isTwoSided ? number(-max) : "0"} to ${number(max)}`);
    },
  };
}

/** One more picture with a map on it. */
function platePart(kind) {
  const name = h("span", { class: "gcw-platename" });
  const fact = h("span", { class: "gcw-platefact" });
  const canvas = h("canvas", { class: "gcw-map", role: "img", tabindex: "0", width: "1", height: "1" });
  canvas.dataset.lmSuppressShortcuts = "true";
  const outline = h("div", { class: "gcw-cell", hidden: true });
  const bar = colourBar();
  const caption = h("p", { class: "gcw-caption" });
  const stage = h("div", { class: "gcw-stage" }, canvas, outline);
  const element = h("figure", { class: `gcw-plate gcw-plate-${kind}` }, h("figcaption", { class: "gcw-platehead" }, name, fact), stage, bar.element, caption);
  let overlay = null;
  let levels = null;
  return {
    element, canvas, outline, bar,
    name(label, words, about) {
      name.textContent = name.title = label;
      fact.textContent = words;
      canvas.setAttribute("aria-label", about);
    },
    say(words) {
      caption.textContent = words;
    },
    enlarge(cam, scene, width, height, max, isTwoSided, ratio) {
      resizeCanvas(canvas, width, height, ratio);
      levels = max > 0 ? upsample(cam, scene.rows, scene.cols, width, height, max, isTwoSided) : null;
      if (overlay?.canvas.width !== width || overlay.canvas.height !== height) overlay = overlayOf(width, height);
    },
    blend(bitmap, rgb, opacity, isTwoSided) {
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, canvas.width, canvas.height);
      context.imageSmoothingEnabled = true;
      context.imageSmoothingQuality = "high";
      if (bitmap) context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      if (!levels || !rgb) return;
      overlay.paint(levels, blendTable(rgb, opacity, isTwoSided));
      context.drawImage(overlay.canvas, 0, 0);
    },
  };
}

/** The picture of the first class, and beside it that of the second one and the contrast, where there is one. */
function comparePart({ tip, say, signal, limits, mirror }, picture) {
  const name = h("span", { class: "gcw-platename" });
  const fact = h("span", { class: "gcw-platefact" });
  const head = h("div", { class: "gcw-platehead", hidden: true }, name, fact);
  const note = h("p", { class: "gcw-comparenote", role: "note", hidden: true });
  const second = platePart("second");
  const contrast = platePart("contrast");
  const plates = [second, contrast];
  picture.prepend(head);
  const element = h("div", { class: "gcw-plates" }, picture, note);

  let shown = null; // the picture: {bitmap, width, height}
  let scene = null;
  let cell = null; // [row, col] that is read
  let first = null; // [row, col] under the probe of the first picture
  let ratio = 1;
  let rgbs = [null, null];
  let tables = [null, null];
  let opacity = 0.5;

  const mapsOf = () => [scene.compare.cam, scene.compare.contrast];
  const sides = () => [isSigned(scene), true];
  const room = () => { const { map, contrast: third } = limits(scene); return [map, third]; };

  function describe() {
    const { target, compare } = scene;
    const other = compare.target.label;
    const share = (one) => [`y = ${number(one.score)}`, one.probability == null ? "" : chance(one.probability)].filter(Boolean).join(" · ");
    name.textContent = name.title = target.label;
    fact.textContent = share(target);
    const map = mapName({ ...scene, target: compare.target });
    second.name(other, share(compare.target), `${shown?.name ?? "picture"}: ${map}`);
    contrast.name(`${target.label} ${MINUS} ${other}`, `Δy = ${signed(target.score - compare.target.score)}`, `${shown?.name ?? "picture"}: contrast, ${target.label} rather than ${other}, at ${scene.layer.name}`);
    const against = scene.evidence === "counterfactual" ? "evidence against" : "positive evidence for";
    second.say(compare.max > 0 ? "" : `No ${against} ${other} at this layer.`);
    contrast.say(compare.contrast_max > 0 ? `above 0: rather ${target.label}${JOINT}below 0: rather ${other}` : "No difference: both maps are the same at this layer.");
  }

  function showLimits() {
    const [map, third] = room();
    const two = isSigned(scene);
    second.bar.show(map, two, two ? ["for", "against"] : [limitWord(map, scene), ""]);
    contrast.bar.show(third, true, ["first", "second"]);
  }

  function clear() {
    cell = null;
    tip.hide();
    follow();
    mirror(null);
  }

  /** Outlines the cell that is read, else the one under the probe of the first picture, in both pictures. */
  function follow() {
    const at = cell ?? first;
    for (const { canvas, outline } of plates) {
      outline.hidden = !at || !isComparing(scene);
      if (outline.hidden) continue;
      const box = cellRect(canvas, at, scene, ratio);
      const origin = canvas.getBoundingClientRect();
      Object.assign(outline.style, {
        left: `${box.left - origin.left}px`,
        top: `${box.top - origin.top}px`,
        width: `${box.right - box.left}px`,
        height: `${box.bottom - box.top}px`,
      });
    }
  }

  /** Outlines a cell in all pictures, and reads the three maps there. */
  function read(next, plate, spoken = false) {
    cell = next;
    follow();
    mirror(cell);
    const at = cell[0] * scene.cols + cell[1];
    const own = [shorten(scene.target.label, 24), number(scene.cam[at])];
    const lines = [[`cell (${cell[0]}, ${cell[1]})`, ""], own, ...pairAt(scene, at)];
    tip.show(lines, cellRect(plate.canvas, cell, scene, ratio), [plate.canvas.getBoundingClientRect()]);
    if (spoken) say(lines.map((line) => line.join(" ")).join(", "));
  }

  function onKey(event, plate) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const step = steps[event.key];
    if (event.key === "Escape" && cell) clear();
    else if (step) {
      const [row, col] = cell ?? [-1, -1];
      const start = mapsOf()[plates.indexOf(plate)];
      const best = start.indexOf(start.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0));
      const from = Math.max(best, 0);
      const next = cell
        ? [clamp(row + step[0], 0, scene.rows - 1), clamp(col + step[1], 0, scene.cols - 1)]
        : [Math.floor(from / scene.cols), from % scene.cols];
      read(next, plate, true);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  for (const plate of plates) {
    const { canvas } = plate;
    const onPointer = (event) => {
      const box = canvas.getBoundingClientRect();
      const index = (at, size, count) => clamp(Math.floor((at / size) * count), 0, count - 1);
      read([index(event.clientY - box.top, box.height, scene.rows), index(event.clientX - box.left, box.width, scene.cols)], plate);
    };
    canvas.addEventListener("pointermove", onPointer, { signal });
    canvas.addEventListener("pointerdown", onPointer, { signal });
    canvas.addEventListener("pointerleave", (event) => event.pointerType === "touch" || clear(), { signal });
    canvas.addEventListener("blur", clear, { signal });
    canvas.addEventListener("keydown", (event) => onKey(event, plate), { signal });
  }

  return {
    element,
    isOn: () => isComparing(scene),
    /** Takes what is to be shown; `resize` draws it. */
    show(nextPicture, nextScene) {
      shown = nextPicture;
      scene = nextScene;
      const on = isComparing(scene);
      if (cell) clear();
      head.hidden = !on;
      note.textContent = scene?.compare?.note ?? "";
      note.hidden = !note.textContent;
      if (on) {
        if (!second.element.isConnected) note.before(second.element, contrast.element);
        describe();
      } else {
        for (const plate of plates) plate.element.remove();
      }
    },
    /** The side of each picture in a view of this width, or null where the pictures stand as ever. */
    sideIn: (width) => (isComparing(scene) && width >= THREE_ABREAST ? Math.floor((width - 28) / 3) - 64 : null),
    resize(width, devicePixelRatio) {
      if (!isComparing(scene) || !shown) return;
      ratio = devicePixelRatio;
      const side = this.sideIn(width) ?? Math.floor((width - 14) / 2) - 64;
      element.style.setProperty("--gcw-plate", `${side}px`);
      const fit = (side * ratio) / Math.max(shown.width, shown.height);
      const [w, h_] = [shown.width, shown.height].map((length) => Math.max(1, Math.floor(length * fit)));
      for (const [i, plate] of plates.entries()) {
        plate.enlarge(mapsOf()[i], scene, w, h_, room()[i], sides()[i], ratio);
      }
      showLimits();
      this.blend();
      if (cell) clear();
      else if (first) follow();
    },
    /** The cell under the probe of the first picture, or null. */
    follow(next) {
      first = next;
      if (isComparing(scene)) follow();
    },
    /** Takes the tables of the second picture and of the contrast, and an opacity; `blend` or `resize` draws. */
    colour(next, nextOpacity) {
      opacity = nextOpacity;
      if (!isComparing(scene)) return;
      for (const [i, plate] of plates.entries()) {
        const table = hasBytes(next[i]?.data) ? next[i] : null;
        const isTwoSided = sides()[i];
        if (table === tables[i]?.table && isTwoSided === tables[i]?.isTwoSided) continue;
        tables[i] = { table, isTwoSided };
        rgbs[i] = table ? colours(table, isTwoSided) : null;
        if (rgbs[i]) plate.bar.paint(rgbs[i]);
      }
    },
    blend() {
      if (!isComparing(scene)) return;
      for (const [i, plate] of plates.entries()) plate.blend(shown?.bitmap, rgbs[i], opacity, sides()[i]);
    },
  };
}

/** The bars of the second class and of the difference, in the rows that the first class has. */
function pairedBars() {
  const names = ["first", "second", "third"].map((place) => h("span", { class: `gcw-pair-${place}` }));
  const head = h("div", { class: "gcw-pairhead", hidden: true, "aria-hidden": "true" }, ...names);
  let scene = null;
  let most = 0;
  let format = signed;

  const differenceOf = (channel) => scene.alpha[channel] - scene.compare.alpha[channel];
  const isSplit = (channel) => scene.alpha[channel] * scene.compare.alpha[channel] < 0;

  function cells(bar) {
    if (!bar.querySelector(".gcw-pairtrack")) {
      const track = () => h("span", { class: "gcw-track gcw-pairtrack" }, h("span", { class: "gcw-fill" }));
      bar.append(track(), h("span", { class: "gcw-value gcw-pairvalue" }), track(), h("span", { class: "gcw-value gcw-pairvalue" }));
    }
    return [bar.querySelectorAll(".gcw-pairtrack"), bar.querySelectorAll(".gcw-pairvalue")];
  }

  return {
    head,
    /** Takes a scene; the largest magnitude of all bars, so that one length is one value in all of them. */
    show(next) {
      scene = next;
      head.hidden = !isComparing(scene);
      if (!scene) return 0;
      most = largest(scene.alpha);
      if (head.hidden) return most;
      const { alpha } = scene.compare;
      const differences = scene.alpha.map((value, k) => value - alpha[k]);
      most = Math.max(most, largest(alpha), largest(differences));
      format = alignedFormat(most);
      const labels = [scene.target.label, scene.compare.target.label];
      for (const [i, label] of labels.entries()) {
        names[i].textContent = names[i].title = label;
      }
      names[2].textContent = "difference";
      names[2].title = "⇄ marks a channel that speaks for one class and against the other";
      return most;
    },
    /** "14 channels speak for tabby and against lynx ⇄, 9 the other way round" */
    sentence() {
      if (!isComparing(scene)) return "";
      const { alpha } = scene.compare;
      const forFirst = scene.alpha.reduce((sum, value, k) => sum + (value > 0 && alpha[k] < 0), 0);
      const forSecond = scene.alpha.reduce((sum, value, k) => sum + (value < 0 && alpha[k] > 0), 0);
      return `${plural(forFirst, "channel")} ${forFirst === 1 ? "speaks" : "speak"} for ${scene.target.label} and against ${scene.compare.target.label} ⇄, ${forSecond} the other way round`;
    },
    /** Gives a row of bars the room for three, or for one. */
    dress(bar) {
      const on = isComparing(scene);
      if (on === bar.classList.contains("gcw-paired")) return;
      bar.classList.toggle("gcw-paired", on);
      if (on) cells(bar);
      else for (const part of bar.querySelectorAll(".gcw-pairtrack, .gcw-pairvalue")) part.remove();
    },
    /** Writes a channel's second and third bar. */
    fill(bar, channel) {
      if (!isComparing(scene)) return;
      const values = [scene.compare.alpha[channel], differenceOf(channel)];
      const [tracks, texts] = cells(bar);
      for (const [i, value] of values.entries()) {
        const share = most > 0 ? (Math.abs(value) / most) * 50 : 0;
        tracks[i].classList.toggle("gcw-con", value < 0);
        const fill = tracks[i].firstChild;
        fill.style.width = value === 0 ? "0" : `max(1px, ${share}%)`;
        fill.style.left = value < 0 ? "auto" : "50%";
        fill.style.right = value < 0 ? "50%" : "auto";
        texts[i].textContent = format(value);
      }
      const split = isSplit(channel);
      if (split) texts[1].append(h("span", { class: "gcw-split" }, "⇄"));
      const words = `, for ${scene.compare.target.label} ${signed(values[0])}, difference ${signed(values[1])}${split ? ", for one and against the other" : ""}`;
      bar.setAttribute("aria-label", `${bar.getAttribute("aria-label")}${words}`);
      Object.assign(bar.dataset, { second: values[0], difference: values[1] });
    },
  };
}

/** What there is to say of a comparison. */
function comparisonWords(scene) {
  if (scene?.compare?.note) return scene.compare.note;
  return isComparing(scene) ? `compared with ${scene.compare.target.label}` : "";
}
