/** A hand-out: what the kernel answers and the controls, for a page with neither. The view is the live one. */

/** All numbers of a page: `data` as handout.py writes it, in which [first, count] stands for these bytes. */
function bookOf(data, numbers) {
  const bytes = ([first, count]) => numbers.subarray(first, first + count);
  const floats = (place) => new Float32Array(bytes(place).slice().buffer);
  const known = new Map();

  /** What one layer says of one class: {alpha, contribution, cam}, the map before the ReLU. */
  async function answer(picture, target, layer) {
    const key = [picture, target, layer].join();
    if (known.has(key)) return known.get(key);
    const { alpha, contribution, cam, coverage, words } = data.pictures[picture].targets[target].answers[layer];
    const means = floats(data.pictures[picture].layers[layer].means);
    const found = {
      alpha: floats(alpha),
      contribution: contribution ? floats(contribution) : floats(alpha).map((value, k) => value * means[k]),
      cam: await decodeArray({ ...cam, data: bytes(cam.data) }),
      shape: cam.shape,
      coverage,
      words,
    };
    known.set(key, found);
    return found;
  }

  /** The same with the evidence that is asked for: what speaks against a class is, unless the page says otherwise, what
   *  speaks for it with its signs turned. */
  async function answerTo({ picture, target, layer, evidence }) {
    const plain = await answer(picture, target, layer);
    if (evidence !== "counterfactual") return plain;
    const { against } = data.pictures[picture].targets[target].answers[layer];
    if (!against) {
      const [alpha, contribution, cam] = [plain.alpha, plain.contribution, plain.cam].map((values) => values.map((value) => -value));
      return { ...plain, alpha, contribution, cam, coverage: coverageOf(contribution) };
    }
    const [alpha, contribution] = [against.alpha, against.contribution].map(floats);
    const cam = await decodeArray({ ...against.cam, data: bytes(against.cam.data) });
    return { ...plain, alpha, contribution, cam, coverage: coverageOf(contribution) };
  }

  const none = {};
  /** The names of a layer's channels as the view takes them; {} where there are none. */
  const namesOf = (picture, layer) => data.names[data.pictures[picture].layers[layer].name]?.message ?? none;

  /** The patches of some channels; of those that are not here it is said. */
  function patchesOf(layer, edition, channels) {
    const known = data.names[layer]?.sprites ?? {};
    const spriteOf = (channel) => {
      const sprite = known[channel];
      return sprite ? { ...sprite, data: sprite.data && bytes(sprite.data) } : { channel, count: 0, data: null, pictures: [], near: "", away: true };
    };
    return { layer, edition, sprites: channels.map(spriteOf) };
  }

  /** The activations of a layer, or null where they are not here: `at(k, cell)`. */
  function activations(picture, layer) {
    const { maps, shape } = data.pictures[picture].layers[layer];
    if (!maps) return null;
    const [low, step] = [floats(maps.low), floats(maps.step)];
    const raw = bytes(maps.data);
    const steps = maps.bytes === 2 ? new Uint16Array(raw.slice().buffer) : raw;
    const cells = shape[1] * shape[2];
    return {
      at: (k, cell) => low[k] + steps[k * cells + cell] * step[k],
      message: { first: 0, shape, plain: true, bytes: maps.bytes, low: bytes(maps.low), step: bytes(maps.step), data: raw },
    };
  }

  return { data, bytes, answer, answerTo, namesOf, patchesOf, activations };
}

/** How few channels carry the positive evidence; as `coverage` in selection.py. */
function coverageOf(contribution, share = 0.5) {
  const positive = Float64Array.from(contribution.filter((value) => value > 0)).sort().reverse();
  if (!positive.length) return null;
  let sum = 0;
  const reached = positive.map((value) => (sum += value));
  const enough = share * sum * (1 - 1e-12);
  return { channels: reached.findIndex((value) => value >= enough) + 1, of: contribution.length, share };
}

const asArray = (values, shape) => ({ dtype: "f32", shape, scale: 1, offset: 0, data: Float32Array.from(values) });

/** The map without some channels: the fewer are summed, so that with all of them off it is 0 to the last bit. */
function camWithout(cam, alpha, maps, off) {
  const out = [...off.keys()].filter((k) => off[k]);
  const on = [...off.keys()].filter((k) => !off[k]);
  if (!out.length) return cam;
  const sumOf = (channels, cell) => channels.reduce((sum, k) => sum + alpha[k] * maps.at(k, cell), 0);
  return cam.map((value, cell) => (on.length <= out.length ? sumOf(on, cell) : value - sumOf(out, cell)));
}

/** What a map may be without. */
const ANYWHERE = { positive: "positive evidence", signed: "evidence", counterfactual: "evidence against the class" };

/** What a channel-by-channel sum needs: a method whose terms are alpha_k A^k, and the activations. */
const canSum = (method, maps) => Boolean(maps) && method.terms === "weight";

/**
 * The model of the view, with the kernel behind it: it answers from a book.
 *
 * `asked`: {picture, layer, target, compare, evidence}, indices into the book; `compare` is -1 for none.
 */
function handoutModel(book, tell) {
  const { data } = book;
  const { start } = data;
  const tables = Object.fromEntries(
    Object.entries(data.tables).map(([name, table]) => [name, { ...table, data: book.bytes(table.data) }]),
  );
  const listeners = [];
  const state = {
    kernel: false,
    picture: {}, scene: {}, strip: {}, pixels: {}, notice: {}, task: {}, activations: {}, terms: {}, ablation: {}, classes: {}, names: {}, patches: {}, words: {},
    answered: "", channel: null, probe: null, zoom: 1, class_table: false,
    opacity: start.opacity, scale: start.scale, threshold: start.threshold, show_box: start.show_box, panels: start.panels,
    tables, colormap: start.colormap, colormap_index: tables[start.colormap].index,
  };
  let asked = null;
  let shown = null; // what the scene in the state answers
  let off = new Uint8Array(0); // channels that are out of the sum
  let revision = 0;
  let base = 0;
  let latest = 0;
  const lastTable = {}; // by the number of sides, as "sequential"

  function set(name, value) {
    const changes = typeof name === "string" ? { [name]: value } : name;
    const changed = Object.keys(changes).filter((key) => state[key] !== changes[key]);
    Object.assign(state, changes);
    for (const key of changed) for (const [event, act] of [...listeners]) if (event === `change:${key}`) act();
    if (changed.includes("class_table")) fillClasses();
  }

  const pictureAt = (index) => data.pictures[index];

  /** The scene of a question, as scene.py words it. */
  async function sceneOf(question) {
    const { picture, layer, target, compare, evidence } = question;
    const { layers, targets, method, predictions, truth } = pictureAt(picture);
    const found = await book.answerTo(question);
    const maps = book.activations(picture, layer);
    const isOff = off.includes(1);
    const signedCam = isOff ? camWithout(found.cam, found.alpha, maps, off) : found.cam;
    const shownPart = (cam) => (evidence === "signed" ? cam : cam.map((value) => Math.max(value, 0)));
    const cam = shownPart(signedCam);
    const words = found.words[evidence];
    const { index, label, score, probability } = targets[target];
    const scene = {
      revision: 0,
      base: 0,
      question: (picture * 1000 + target) * 3 + ["positive", "signed", "counterfactual"].indexOf(evidence),
      layer: layers[layer],
      target: { index, label, score, probability },
      method: { ...method, terms: canSum(method, maps) ? "weight" : null },
      evidence,
      off: maskOf(off),
      max: largest(cam),
      coverage: isOff ? coverageOf(found.contribution.filter((_, k) => !off[k])) : found.coverage,
      predictions,
      status: null,
      diagnosis: words?.diagnosis ?? null,
      cures: words?.cures ?? [],
      truth,
      alpha: asArray(found.alpha, [found.alpha.length]),
      contribution: asArray(found.contribution, [found.alpha.length]),
      cam: asArray(cam, found.shape),
      remark: maps ? "" : "the activation maps of this layer are not in this file",
    };
    if (isOff) {
      scene.cures = [];
      scene.diagnosis = cam.some((value) => value !== 0) ? null : `The channels that are on add up to no ${ANYWHERE[evidence]} anywhere.`;
    }
    if (compare < 0) return scene;
    const second = await book.answerTo({ ...question, target: compare });
    const secondSigned = isOff ? camWithout(second.cam, second.alpha, maps, off) : second.cam;
    // that of the first class less the second, whatever is shown of each
    const sign = evidence === "counterfactual" ? -1 : 1;
    const contrast = Float32Array.from(signedCam, (value, cell) => sign * (value - secondSigned[cell]));
    const secondCam = shownPart(secondSigned);
    const other = targets[compare];
    scene.compare = {
      target: { index: other.index, label: other.label, score: other.score, probability: other.probability },
      max: largest(secondCam),
      contrast_max: largest(contrast),
      alpha: asArray(second.alpha, [second.alpha.length]),
      cam: asArray(secondCam, second.shape),
      contrast: asArray(contrast, second.shape),
    };
    return scene;
  }

  function stripOf({ picture, target, evidence }, question) {
    const { layers, targets } = pictureAt(picture);
    const { data: place, tiles } = targets[target].strips[evidence];
    const tile = (layer, i) => ({ name: layer.name, label: layer.label, shape: layer.shape, ...tiles[i] });
    return { evidence, question, layers: layers.map(tile), data: book.bytes(place) };
  }

  /** A colour table that the map needs, where the one in use has the other number of sides. */
  function tableFor(evidence) {
    const kind = evidence === "signed" ? "diverging" : "sequential";
    lastTable[tables[state.colormap].kind] = state.colormap;
    if (tables[state.colormap].kind === kind) return {};
    const name = lastTable[kind] ?? Object.keys(tables).find((other) => tables[other].kind === kind);
    return { colormap: name, colormap_index: tables[name].index };
  }

  /** Shows what is asked. Everything of an answer is set in one go: the view never sees a half of it. */
  async function show(changes = {}) {
    const ticket = ++latest;
    const scene = await sceneOf(asked);
    if (ticket !== latest) return;
    const before = shown;
    shown = asked;
    revision += 1;
    const isSwitch = Boolean(changes.isSwitch);
    if (!isSwitch) base = revision;
    Object.assign(scene, { revision, base });
    const next = { scene, notice: {}, ...tableFor(asked.evidence) };
    if (!before || before.picture !== asked.picture) {
      const { name, width, height, data: place } = pictureAt(asked.picture);
      next.picture = { name, width, height, data: book.bytes(place) };
    }
    if (!before || before.layer !== asked.layer || before.picture !== asked.picture) Object.assign(next, { channel: null, probe: null });
    if (!isSwitch) Object.assign(next, { activations: {}, terms: {}, strip: stripOf(asked, scene.question) });
    if (before && before.picture === asked.picture && before.target === asked.target && before.evidence === asked.evidence) delete next.strip;
    const names = book.namesOf(asked.picture, asked.layer);
    if (names !== state.names) Object.assign(next, { names, patches: {} });
    const said = pictureAt(asked.picture).targets[asked.target].said?.[asked.layer] ?? {};
    const words = said[asked.evidence] ?? said.positive;
    next.words = words ? { ...words, revision: base, edition: names.edition } : {};
    set(next);
    fillClasses();
    tell();
  }

  /** The table of classes and channels, while it is open. */
  async function fillClasses() {
    if (!state.class_table || !shown) return;
    const { picture, layer, target } = shown;
    const mine = base;
    if (state.classes.revision === mine) return;
    const { predictions, targets } = pictureAt(picture);
    const rows = predictions.map(({ index }) => targets.findIndex((one) => one.index === index));
    if (rows.includes(-1) || !rows.length) {
      set("classes", { revision: mine, note: "Not all of the likeliest classes are in this file." });
      return;
    }
    if (!rows.includes(target) && targets[target].index !== null) rows.push(target);
    const alphas = await Promise.all(rows.map((row) => book.answer(picture, row, layer).then((found) => found.alpha)));
    if (mine !== base) return;
    const most = alphas[0].map((_, k) => alphas.reduce((size, alpha) => Math.max(size, Math.abs(alpha[k])), 0));
    const channels = [...byMagnitude(most).subarray(0, 12)];
    const values = alphas.flatMap((alpha) => channels.map((k) => alpha[k]));
    set("classes", {
      revision: mine,
      classes: rows.map((row) => ({ index: targets[row].index, label: targets[row].label })),
      channels,
      alpha: asArray(values, [rows.length, channels.length]),
    });
  }

  const refuse = (message) => set("notice", { title: "Not in this page", message, stale: false });

  /** Changes what is asked, and shows it; what is another layer's or picture's is gone. */
  function ask(changes) {
    const next = { ...asked, ...changes };
    const keeps = next.picture === asked?.picture && next.layer === asked?.layer;
    if (!keeps || !canSum(pictureAt(next.picture).method, book.activations(next.picture, next.layer))) {
      off = new Uint8Array(pictureAt(next.picture).layers[next.layer].shape[0]);
    }
    asked = next;
    return show();
  }

  const answers = {
    target({ index }) {
      const { targets, predictions } = pictureAt(asked.picture);
      const target = targets.findIndex((one) => one.index === index);
      if (target >= 0) return ask({ target });
      const label = predictions.find((one) => one.index === index)?.label ?? `class ${index}`;
      return refuse(`${label} has not been computed for this page. The list Class has the classes that have.`);
    },
    layer({ name }) {
      const layer = pictureAt(asked.picture).layers.findIndex((one) => one.name === name);
      return layer >= 0 && ask({ layer });
    },
    patches({ layer, edition, channels }) {
      set("patches", book.patchesOf(layer, edition, channels));
    },
    activations(message) {
      const maps = book.activations(shown.picture, shown.layer);
      if (maps && message.revision === base) set("activations", { ...maps.message, revision: base });
    },
    async terms(message) {
      const maps = book.activations(shown.picture, shown.layer);
      if (!canSum(pictureAt(shown.picture).method, maps) || message.base !== base) return;
      const { alpha } = await book.answerTo(shown);
      if (message.base !== base) return;
      const values = alpha.map((value, k) => value * maps.at(k, message.cell));
      set("terms", { revision: base, first: message.cell, shape: [1, alpha.length], plain: true, data: values });
    },
    off(message) {
      if (message.base !== base) return null;
      off = unmask(message.mask, pictureAt(asked.picture).layers[asked.layer].shape[0]);
      return show({ isSwitch: true });
    },
    truth() {
      const { truth, targets, predictions } = pictureAt(asked.picture);
      const [first, second] = [predictions[0]?.index, truth?.index].map((index) => targets.findIndex((one) => one.index === index));
      if (!data.compares || first < 0 || second < 0) return refuse("This comparison has not been computed for this page.");
      const isMet = asked.target === first && asked.compare === second;
      return ask({ target: first, compare: isMet ? -1 : second });
    },
    cure({ id }) {
      const cure = state.scene.cures?.find((one) => one.id === id);
      if (!cure) return null;
      const { layer, ...changes } = cure.changes;
      return layer === undefined ? ask(changes) : ask({ ...changes, layer: pictureAt(asked.picture).layers.findIndex((one) => one.name === layer) });
    },
  };

  return {
    get: (name) => state[name],
    set,
    on: (name, act) => listeners.push([name, act]),
    off(name, act) {
      const at = listeners.findIndex(([other, mine]) => other === name && mine === act);
      if (at >= 0) listeners.splice(at, 1);
    },
    save_changes() {},
    /** As the kernel: an answer comes after the question, never during it. */
    async send({ request, ...message }) {
      await null;
      try {
        await answers[message.type]?.(message);
      } catch (error) {
        console.error("gradcam_widget:", error);
        set("notice", { title: "This cannot be shown.", message: error.message, stale: true });
      }
      if (request) set("answered", request);
    },
    ask,
    asked: () => asked,
  };
}

/** What the page begins with: what was on show, as far as it is here. */
function firstQuestion({ start, pictures, compares }) {
  const { layers, targets } = pictures[start.picture];
  const layer = layers.findIndex(({ name }) => name === start.layer);
  const target = targets.findIndex(({ label }) => label === start.target);
  return {
    picture: start.picture,
    layer: layer < 0 ? layers.length - 1 : layer,
    target: Math.max(target, 0),
    compare: compares ? targets.findIndex(({ label }) => label === start.compare) : -1,
    evidence: start.evidence,
  };
}

/** The row of controls, in the look of the live ones: native lists and a native slider, each with its label. */
function handoutControls(book, model) {
  const { data } = book;
  const labelled = (name, kind, control, ...more) => {
    control.id = `handout-${kind}`;
    const label = h("label", { class: "widget-label", for: control.id }, name);
    return h("div", { class: `jupyter-widgets widget-dropdown gradcam-${kind}` }, label, control, ...more);
  };
  const list = (act) => {
    const select = h("select");
    select.addEventListener("change", () => act(select));
    return select;
  };
  const step = (name, kind, by) => {
    const button = h("button", { class: `jupyter-button gradcam-${kind}`, type: "button", title: name, "aria-label": name });
    button.addEventListener("click", () => {
      const { picture, layer: now } = model.asked();
      model.ask({ layer: clamp(now + by, 0, data.pictures[picture].layers.length - 1) });
    });
    return button;
  };
  const index = (select) => Number(select.value);
  const picture = list((select) => turnTo(index(select)));
  const layer = list((select) => model.ask({ layer: index(select) }));
  const target = list((select) => model.ask({ target: index(select) }));
  const compare = list((select) => model.ask({ compare: index(select) }));
  const evidence = list((select) => model.ask({ evidence: select.value }));
  const colormap = list((select) => model.set({ colormap: select.value, colormap_index: model.get("tables")[select.value].index }));
  const opacity = h("input", { type: "range", class: "gcw-slide", min: "0", max: "1", step: "0.01" });
  opacity.addEventListener("input", () => model.set("opacity", Number(opacity.value)));
  const [previous, next] = [step("Previous layer", "previous", -1), step("Next layer", "next", 1)];
  const compares = data.compares && data.pictures.some(({ targets }) => targets.length > 1);
  const element = h("div", { class: "gradcam-controls" });
  if (data.pictures.length > 1) element.append(labelled("Picture", "picture", picture));
  element.append(
    h("div", { class: "widget-box gradcam-layer-group" }, previous, labelled("Layer", "layer", layer), next),
    labelled("Class", "class", target),
    ...(compares ? [labelled("Compare with", "compare", compare)] : []),
    labelled("Evidence", "evidence", evidence),
    labelled("Colour map", "colormap", colormap),
    labelled("Opacity", "opacity", opacity),
  );

  /** Fills a list with [value, words], where they are others than before, and chooses one. */
  function fill(select, options, value) {
    const key = JSON.stringify(options);
    if (select.dataset.shown !== key) {
      select.dataset.shown = key;
      select.replaceChildren(...options.map(([option, words]) => h("option", { value: option }, words)));
    }
    select.value = String(value);
    select.title = select.selectedOptions[0]?.textContent ?? "";
  }

  /** Another picture: layer and class stay, where it has them, unless the class was the likeliest one. */
  function turnTo(turned) {
    const { picture: before, layer: at, target: one, compare: two, evidence: side } = model.asked();
    const [from, to] = [data.pictures[before], data.pictures[turned]];
    const same = (target) => to.targets.findIndex(({ label }) => label === from.targets[target]?.label);
    const isLikeliest = from.targets[one].index === from.predictions[0]?.index;
    const best = to.targets.findIndex(({ index: number }) => number === to.predictions[0]?.index);
    const kept = isLikeliest ? -1 : same(one);
    const place = to.layers.findIndex(({ name }) => name === from.layers[at].name);
    model.ask({
      picture: turned,
      layer: place < 0 ? to.layers.length - 1 : place,
      target: kept >= 0 ? kept : Math.max(best, 0),
      compare: two < 0 ? -1 : same(two),
      evidence: side,
    });
  }

  return {
    element,
    /** Shows what is asked. */
    show() {
      const asked = model.asked();
      const { layers, targets } = data.pictures[asked.picture];
      const words = ({ label, probability }) => (probability === null ? label : `${label} · ${chance(probability)}`);
      fill(picture, data.pictures.map(({ name }, i) => [i, name]), asked.picture);
      fill(layer, layers.map(({ label }, i) => [i, label]), asked.layer);
      fill(target, targets.map((one, i) => [i, words(one)]), asked.target);
      fill(compare, [[-1, "no comparison"], ...targets.map((one, i) => [i, words(one)])], asked.compare);
      fill(evidence, data.evidence.map((side) => [side, side]), asked.evidence);
      const kind = asked.evidence === "signed" ? "diverging" : "sequential";
      const names = Object.keys(model.get("tables")).filter((name) => model.get("tables")[name].kind === kind);
      fill(colormap, names.map((name) => [name, name]), model.get("colormap"));
      opacity.value = String(model.get("opacity"));
      previous.disabled = asked.layer === 0;
      next.disabled = asked.layer === layers.length - 1;
    },
  };
}

const PAPER = 672; // CSS pixels: A4 and US Letter have this between margins of 16 mm

/** On paper the page is light and as wide as the paper; three pictures abreast are made smaller. `draw()` makes the
 *  view, which draws itself anew between the two steps. */
function fitPaper(container, isComparing, draw) {
  const { documentElement: html } = document;
  const width = () => (isComparing() ? THREE_ABREAST + 4 : PAPER);
  addEventListener("beforeprint", () => {
    html.dataset.theme = "light";
    for (const element of [container, ...container.querySelectorAll(".gcw")]) element.dataset.gcwTheme = "light";
    container.style.width = `${width()}px`;
  });
  addEventListener("afterprint", () => {
    delete html.dataset.theme;
    container.style.width = container.style.zoom = "";
  });
  draw();
  addEventListener("beforeprint", () => { container.style.zoom = String(PAPER / width()); });
}

/** Puts the explorer into the page. */
async function openHandout() {
  const textOf = (id) => document.getElementById(id).textContent;
  const packed = Uint8Array.from(atob(textOf("handout-numbers")), (character) => character.charCodeAt(0));
  const book = bookOf(JSON.parse(textOf("handout-data")), await inflate(packed));
  const container = document.getElementById("explorer");
  let controls = null;
  const model = handoutModel(book, () => controls.show());
  controls = handoutControls(book, model);
  const place = h("div", { class: "gradcam-canvas" });
  container.append(controls.element, place);
  await model.ask(firstQuestion(book.data));
  fitPaper(container, () => model.asked().compare >= 0, () => render({ model, el: place }));
}

openHandout().catch((error) => {
  console.error("gradcam_widget:", error);
  document.getElementById("explorer").replaceChildren(h("p", { role: "alert" }, `This page cannot be shown. ${error.message}`));
});
