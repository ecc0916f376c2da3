/**
 * The view as a whole. It alone turns the kernel's messages (picture, scene, notice, opacity, colour
 * map) into pixels and bars in the browser, and tells the kernel what was clicked. It computes no
 * evidence: the map arrives at layer size, and here it is only enlarged, coloured and blended.
 *
 * Every name and sentence that arrives is untrusted: it becomes text (textContent), never markup.
 */

/** Calls `act` once after a burst of calls, before the browser paints. */
function coalesced(act) {
  let pending = false;
  return () => {
    if (pending) return;
    pending = true;
    queueMicrotask(() => {
      pending = false;
      act();
    });
  };
}

/** The colour table to draw with: the one of the chosen index among those that fit the map. The index
 *  changes in the browser at once, the name comes with the kernel's answer. */
function tableInUse(model, signed) {
  const tables = model.get("tables") ?? {};
  const kind = signed ? "diverging" : "sequential";
  const all = Object.values(tables);
  const fitting = all.filter((table) => table.kind === kind);
  const named = tables[model.get("colormap")];
  return (
    fitting.find((table) => Number.isInteger(table.index) && table.index === model.get("colormap_index")) ??
    (signed && named?.kind !== kind ? null : named) ??
    fitting[0] ??
    all[0]
  );
}

/** The picture's side for a width of the view, in CSS pixels, and whether the bars stand beside it. */
function measure(width, paired) {
  const wide = paired && width >= 640;
  const side = wide ? clamp(Math.round(width * 0.4), 240, 560) : Math.min(width - 58, 560);
  return { wide, side };
}

/** The width of the view below which three bars and their values do not fit into one line. */
const SLIM = 560;

const MOST_LAYERS = 16; // whose activations are kept
const PREVIEW_AFTER_MS = 30;

/** As many bars as stand beside the picture; 18 at the width of the look. */
const rowsBeside = (height) => clamp(18 + Math.round((height - 448) / 15), 14, 26);

function render({ model: given, el }) {
  const stop = new AbortController();
  const { signal } = stop;
  const connection = connectionPart(given, signal, onConnection);
  const { isApart } = connection;
  const kept = keptPart({ given: connection.model, signal, isApart, changed: () => { refreshSoon(); refreshStrip(); } });
  const model = { ...connection.model, ...kept.model };
  // Whatever is asked or told is about the scene on show, of which the kernel must know first.
  const knowing = (act) => (...args) => { hand.flush(); return act(...args); };
  for (const name of ["send", "save_changes"]) model[name] = knowing(connection.model[name]);
  const root = h("div", { class: "gcw gcw-empty", role: "group", "aria-label": "Grad-CAM explorer" });
  const live = h("div", { class: "gcw-hidden gcw-live", "aria-live": "polite" });
  const say = (text) => { live.textContent = text; };
  const tip = tipPart(root);
  const requests = requestPart({ model: connection.model, signal, show: showLate, isApart });
  const hand = handPart({ tell: tellWish, stays: () => strip.isPlaying(), signal });
  const scenes = sceneStore();
  const send = knowing(requests.send);
  const choose = (message) => kept.take(message) || knowing(requests.choose)(message);
  const limits = (scene) => scaleLimits(model.get("scale"), scene ?? shown.scene, strip?.now());
  const palette = () => (ink ??= paletteOf(root));
  const parts = { root, tip, say, signal, model, lookAt, pin, activationOf, choose: chooseKept, send, chooseLayer, limits, palette, pairs: pairedBars() };
  Object.assign(parts, { keepProbe, onProbe, termsAt, mirror: (cell) => picture.mirror(cell), isApart });
  Object.assign(parts, { refuse: connection.refuse, tellKernel: atRest(() => model.save_changes(), signal) });
  const notice = noticePart();
  const picture = picturePart(parts);
  const box = boxPart(parts, picture.stage);
  picture.under.append(box.element);
  const terms = termsPart(parts, () => {
    picture.retell();
    onProbe();
  });
  const switches = (parts.switches = switchPart(parts));
  const names = (parts.names = namesPart({ model, signal, arrived: onPatches }));
  const channels = channelPart(parts);
  switches.listen(() => { picture.retell(); onProbe(); });
  const predictions = predictionPart(parts);
  const compare = comparePart(parts, picture.element);
  const truth = truthPart(parts);
  const scale = scalePart(parts);
  picture.under.append(scale.element);
  const cures = curePart(parts, () => picture.canvas);
  picture.under.querySelector(".gcw-diagnosis").after(cures.element);
  const pixels = pixelPart(parts, picture);
  const classes = classesPart(parts);
  const saying = sayingPart(parts);
  const rescue = curePart(parts, () => picture.canvas);
  const status = statusPart();
  const task = taskPart(parts);
  const strip = stripPart(parts);
  const exports = exportPart({ ...parts, order: channels.order });
  const panels = panelsPart({
    left: { heatmap: compare.element },
    right: { alpha: channels.element, predictions: h("div", {}, predictions.element, truth.element) },
    below: { layers: strip.element, words: saying.element, classes: classes.element, export: exports.element },
  });
  root.prepend(connection.element, kept.element, notice.element, rescue.element, task.element, ...panels.elements, status.element);
  root.append(live);
  el.append(root);

  let shown = { picture: null, scene: null, pixels: null };
  let lists = { show() {} }; // the controls that show layer and class, once they are found
  let ahead = null; // the kept scene on show, until the kernel's is the same
  let previewing = 0; // timer
  let wanted = null; // {name, scene}: the layer that was asked for last, and what the picture shows of it meanwhile
  let latest = 0;
  let latestStrip = 0;
  let stripTable = null;
  let latestMaps = 0;
  let looked = null; // the channel under the pointer or the focus
  const known = new Map(); // activations of layers: {maps, asked}, the least recently used first
  let framed = 0; // the frame in which the bars follow the probe
  let drawnWidth = 0;
  let laid = ""; // what the sizes of the parts depend on, as they were last read off the page
  let ink = null; // the style sheet's, for canvases

  /** Lays out and draws the parts. The width is read off the page only where it can have changed: for that the
   *  browser has to lay out the whole page at once, and again for the frame. The ResizeObserver tells of changes. */
  function layout(width = root.clientWidth) {
    drawnWidth = width;
    if (width === 0) return; // not on the page yet, or hidden: the ResizeObserver calls again
    const ratio = devicePixelRatio || 1;
    const { wide, side: usual } = measure(width, panels.isPaired() && !compare.isOn());
    const side = compare.sideIn(width) ?? usual;
    root.dataset.layout = wide ? "wide" : "narrow";
    root.dataset.compare = !compare.isOn() ? "off" : compare.sideIn(width) ? "abreast" : "stacked";
    root.toggleAttribute("data-slim", root.dataset.compare === "stacked" && width < SLIM);
    root.style.setProperty("--gcw-side", `${side}px`);
    const now = [width, side, wide, root.dataset.compare].join();
    if (now !== laid) channels.forgetSize();
    laid = now;
    const height = picture.resize(side, ratio);
    box.resize(ratio);
    compare.resize(width, ratio);
    pixels.draw();
    channels.resize(wide ? rowsBeside(height) : 18, ratio);
    strip.resize();
    if (shown.scene) root.dataset.revision = shown.scene.revision;
  }

  function colour() {
    const table = tableInUse(model, picture.isSigned());
    const opacity = clamp(Number(model.get("opacity")), 0, 1);
    picture.colour(hasBytes(table?.data) ? table : null, opacity);
    compare.colour([tableInUse(model, isSigned(shown.scene)), contrastTable(model, shown.scene)], opacity);
  }

  function recolour() {
    colour();
    picture.blend();
    compare.blend();
    classes.colour(contrastTable(model, shown.scene));
    colourStrip();
  }

  /** Other limits: what is on show is drawn within them. */
  function rescale() {
    scale.show(shown.scene);
    picture.rescale();
    strip.repaint();
    layout();
  }

  function showPanels() {
    panels.show(model.get("panels"));
    root.classList.toggle("gcw-untitled", !panels.isShown("alpha"));
  }

  /** Shows the panels that are asked for, in the room that there is. */
  function arrange() {
    tip.hide();
    showPanels();
    saying.write();
    laid = "";
    layout();
  }

  /** The activation map of a channel; null where it is not here yet, and then the kernel is asked, once. */
  function activationOf(channel) {
    const here = knownOf(shown.scene);
    // While the hand moves on, nothing is asked about what it passes.
    if (!here.maps.has(channel) && !here.asked && !hand.isMoving()) {
      here.asked = true;
      model.send({ type: "activations", revision: baseOf(shown.scene), channel });
    }
    return here.maps.get(channel) ?? null;
  }

  /** What is known of the activations of a scene's layer: they are the same for all targets and methods. */
  function knownOf(scene) {
    const key = scene.ground == null ? baseOf(scene) : `${scene.ground} ${scene.layer.name}`;
    const here = known.get(key) ?? { maps: new Map(), asked: false };
    known.delete(key);
    known.set(key, here);
    if (known.size > MOST_LAYERS) known.delete(known.keys().next().value);
    return here;
  }

  async function refreshActivations() {
    const ticket = ++latestMaps;
    const message = model.get("activations");
    if (!hasBytes(message?.data)) return;
    const maps = await decodeActivations(message).catch((error) => {
      console.error("gradcam_widget:", error);
      return new Map();
    });
    if (ticket !== latestMaps || signal.aborted || message.revision !== baseOf(shown.scene)) return;
    const here = knownOf(shown.scene);
    for (const [channel, map] of maps) here.maps.set(channel, map);
    here.asked = maps.size === 0;
    showChannel();
    channels.retell();
  }

  /** Keeps a cell under the probe, or with null none; the kernel hears of it. */
  function keepProbe(cell) {
    picture.keep(cell);
    model.set("probe", cell);
    model.save_changes();
  }

  const cellNumber = ([row, col]) => row * shown.scene.cols + col;

  /** The terms at a cell, where they are here; while the hand moves on, they are not asked for. */
  const termsOf = (cell) => (hand.isMoving() ? null : terms.at(shown.scene, cellNumber(cell)));

  /** The largest terms at a cell, in words, and their sum; null where they are not known yet. */
  function termsAt(cell) {
    if (sceneOnPicture() !== shown.scene) return null; // the cell is one of another layer
    const found = termsOf(cell);
    return found && strongest(found, (channel) => !switches.isOff(channel));
  }

  /** The probe has moved: the bars follow in the next frame, once. */
  function onProbe() {
    framed ||= requestAnimationFrame(() => {
      framed = 0;
      if (signal.aborted || !shown.scene) return;
      showTerms();
      compare.follow(picture.probed()?.cell ?? null);
    });
  }

  /** The bars are about the cell under the probe, unless the user works in them and has not kept the cell. */
  function showTerms() {
    // Bars of two classes stay what they are; the tip tells the place.
    const isPlain = sceneOnPicture() === shown.scene && !isComparing(shown.scene);
    const at = isPlain ? picture.probed() : null;
    if (at && !at.kept && channels.isBusy()) return;
    const found = at && termsOf(at.cell);
    if (!at || found) channels.probe(found && { cell: at.cell, terms: found });
  }

  function lookAt(channel) {
    if (channel === looked) return;
    looked = channel;
    showChannel();
  }

  /** Keeps a channel on the picture, or with null the heatmap; the kernel hears of it. */
  function pin(channel) {
    model.set("channel", channel);
    model.save_changes();
  }

  /** Asks for a layer of the strip; where its map is there, that is shown while the kernel has not answered. */
  function chooseLayer(layer) {
    if (layer.name === (wanted?.name ?? shown.scene?.layer.name)) return;
    if (!isApart() && goTo({ layer: layer.name })) return;
    const isTrue = !root.classList.contains("gcw-stale");
    const preview = isTrue ? previewOf(shown.scene, strip.now(), layer, isApart()) : null;
    if (kept.take({ type: "layer", name: layer.name })) return;
    if (isApart()) {
      const back = layer.name === shown.scene?.layer.name;
      if (!preview && !back) {
        strip.stop();
        return connection.refuse(`There is no map of ${layer.name} here.`);
      }
      wanted = back ? null : { name: layer.name, scene: preview };
      return showWanted();
    }
    wanted = { name: layer.name, scene: preview ?? wanted?.scene ?? null }; // without a map of its own, what is there stays
    choose({ type: "layer", name: layer.name });
    previewSoon();
  }

  /** A kernel at leisure answers before this: drawing the map of the strip would only make its answer wait. */
  function previewSoon() {
    previewing ||= setTimeout(() => {
      previewing = 0;
      if (wanted && !signal.aborted) showWanted();
    }, PREVIEW_AFTER_MS);
  }

  /** A choice among scenes that are kept needs no kernel. */
  function chooseKept(message) {
    if (!isApart() && message.type === "target" && goTo({ target: message.index })) return;
    choose(message);
  }

  /** Shows the kept scene to which a choice leads from the one on show; whether there is one. */
  function goTo(wish) {
    const { scene } = shown;
    // Channels that are off stay off for another class, of which no such map is kept.
    if (root.classList.contains("gcw-stale") || (wish.target !== undefined && scene?.off)) return false;
    const entry = scenes.find(scene, wish);
    if (!entry) return false;
    wanted = null;
    ahead = entry.scene ??= readyScene(entry.message);
    const isThere = baseOf(model.get("scene")) === ahead.base && !isAsking();
    if (isThere) hand.forget();
    else if (!isApart()) hand.move(wish);
    if (isThere) ahead = null;
    show({ ...shown, scene: entry.scene, pixels: entry.pixels }, model.get("notice"));
    return true;
  }

  /** Index of a class of which a scene is kept that could take the place of the one on show; null for none. */
  function classOf(label) {
    const { ground } = shown.scene ?? {};
    return scenes.messages().find((kept) => kept.ground === ground && kept.target.label === label)?.chosen ?? null;
  }

  /** The hand rests on a kept scene. */
  function tellWish({ layer, target }) {
    if (layer === undefined) requests.choose({ type: "target", index: target });
    else if (target === undefined) requests.choose({ type: "layer", name: layer });
    else requests.choose({ type: "go", layer, target });
  }

  const isAsking = () => ["layer", "target", "go"].some(requests.isOpen);

  /** What the kernel holds of the layer on show: nothing, where it has not come to that yet. */
  const ofLayer = (trait) => (ahead && ahead.layer.name !== model.get("scene")?.layer?.name ? null : (model.get(trait) ?? null));

  /** The scene that is to be on show: the kept one that the hand has come to, until the kernel has caught up. */
  function sceneNow() {
    const message = model.get("scene");
    if (ahead && message?.ground !== ahead.ground) {
      ahead = null; // another picture, method or evidence is on show: the kept scene is not about that
      hand.flush();
    }
    const isSettled = ahead?.base === baseOf(message) || (!hand.isMoving() && !isApart());
    if (ahead && isSettled && !isAsking()) {
      ahead = null;
      hand.forget();
    }
    return ahead ? ahead.source : message;
  }

  /** The strip of the scene's question, where it is kept and another one is on show. */
  function showStripOf(scene) {
    const kept = scene && strip.now()?.question !== scene.question && scenes.strip(scene.question);
    if (kept) showStrip(kept);
  }

  /** What the picture shows: the layer that is asked for, where its map is there and answers the same question. */
  function sceneOnPicture() {
    return wanted?.scene && wanted.scene.question === shown.scene?.question ? wanted.scene : shown.scene;
  }

  /** The scene on show on the picture, or the layer that is asked for; the bars wait until its scene is here. */
  function showWanted() {
    picture.show(shown.picture, sceneOnPicture(), false);
    box.show(shown.picture, sceneOnPicture());
    cures.show(sceneOnPicture()?.cures);
    colour();
    picture.redraw();
    markBehind();
    if (sceneOnPicture() === shown.scene) showChannel();
  }

  /** Outlines the layer on the picture, and marks what belongs to another one. */
  function markBehind() {
    const onPicture = sceneOnPicture();
    strip.choose(onPicture?.layer.name);
    const behind = Boolean(onPicture?.isPreview) && onPicture.layer.name !== shown.scene.layer.name;
    root.classList.toggle("gcw-ahead", behind);
    channels.element.classList.toggle("gcw-behind", behind);
    channels.element.setAttribute("aria-busy", behind && !isApart());
  }

  /** There is no kernel any more, or there is one again. */
  function onConnection(apart) {
    if (!apart) return kept.forget();
    if (ahead) kept.hold(ahead.source);
    ahead = null;
    requests.forget();
    hand.forget();
    exports.forget();
    switches.show(shown.scene, true); // a wish that nobody will grant
    show(shown, model.get("notice"));
  }

  /** The kernel is late, or no longer. */
  function showLate(late) {
    root.classList.toggle("gcw-late", late);
    say(late ? "waiting for the kernel" : "");
  }

  /** Forgets the layer that was asked for where it is here, or will not come. */
  function settleWanted() {
    if (wanted && !requests.isOpen("layer")) wanted = null;
  }

  /** The map on the picture is that of the channel looked at, else of the one kept, else the heatmap. */
  function showChannel() {
    const kept = ofLayer("channel");
    channels.mark(kept);
    classes.mark();
    saying.mark(kept);
    if (sceneOnPicture()?.isPreview) return; // the channels are those of another layer
    const channel = looked ?? kept;
    const inLayer = shown.scene && channel !== null && channel < shown.scene.alpha.length;
    const values = inLayer ? activationOf(channel) : null;
    if (!values && !picture.isLooking()) return;
    picture.look(values && { channel, values });
    pixels.cover(Boolean(values));
    colour();
    picture.redraw();
  }

  /** The strip has its own colours for the moment in which it is older than the scene. */
  function colourStrip() {
    const table = tableInUse(model, strip.evidence() === "signed");
    if (table !== stripTable) strip.colour(table);
    stripTable = table;
  }

  /** The strip comes in a message of its own, after the scene, which is not drawn again for it. */
  async function refreshStrip() {
    const ticket = ++latestStrip;
    const next = await decodeStrip(model.get("strip")).catch((error) => {
      console.error("gradcam_widget:", error);
      return null;
    });
    if (ticket !== latestStrip || signal.aborted) return;
    scenes.putStrip(model.get("strip"), next);
    if (!ahead || next?.question === ahead.question) showStrip(next);
  }

  function showStrip(next) {
    stripTable = tableInUse(model, next?.evidence === "signed");
    strip.show(next, stripTable);
    if (wanted?.scene) showWanted(); // it may answer another question now
    else markBehind();
    if (model.get("scale") === "shared") rescale();
  }

  /** Unpacks what is new. Pictures and scenes that are already shown are taken over as they are. */
  async function load() {
    const nextPicture = model.get("picture");
    const nextScene = sceneNow();
    const samePicture = shown.picture && shown.picture.data === nextPicture?.data;
    const sameScene = shown.scene && shown.scene.source === nextScene;
    const nextPixels = ahead ? shown.pixels?.message : model.get("pixels");
    const [loadedPicture, loadedScene, loadedPixels] = await Promise.all([
      samePicture ? shown.picture : decodePicture(nextPicture),
      sameScene ? shown.scene : decodeScene(nextScene),
      shown.pixels && shown.pixels.message === nextPixels ? shown.pixels : decodePixels(nextPixels),
    ]);
    return { picture: loadedPicture, scene: loadedScene, pixels: loadedPixels };
  }

  /** Scenes have been sent before they were asked for. */
  async function onCustom(content, buffers) {
    if (content?.type !== "scenes" || !buffers?.length) return;
    try {
      for (const message of await decodeAhead(content, buffers)) scenes.put(message);
    } catch (error) {
      console.error("gradcam_widget:", error);
    }
  }

  /** The table comes after its scene, and only while it is open. */
  async function refreshClasses() {
    const message = model.get("classes");
    const next = await decodeClasses(message).catch((error) => {
      console.error("gradcam_widget:", error);
      return null;
    });
    if (!signal.aborted && message === model.get("classes")) classes.take(next);
  }

  /** The names are those of another layer, or others. */
  function refreshNames() {
    names.refresh();
    saying.write();
  }

  /** Patches have come: what is open can show them. */
  function onPatches() {
    channels.retell();
    channels.relabel();
    saying.write();
  }

  function announce(before, now) {
    if (!before || !now || before === now || (baseOf(before) === baseOf(now) && before.off === now.off)) return;
    const found = now.diagnosis ?? coverageSentence(now.coverage, now.evidence, Boolean(now.off));
    if (baseOf(before) === baseOf(now)) {
      say([switches.sentence(), found].filter(Boolean).join(": "));
      return;
    }
    const what = `${EVIDENCE[now.evidence] ? `${now.evidence}: ` : ""}${now.target.label} at ${now.layer.name}`;
    say([comparisonWords(now), what, found].filter(Boolean).join(": "));
  }

  function show(next, message) {
    if (shown.picture && shown.picture !== next.picture) shown.picture.bitmap.close();
    switches.show(next.scene, Boolean(message?.title));
    announce(shown.scene, next.scene);
    shown = next;
    settleWanted();
    root.classList.toggle("gcw-empty", !next.scene);
    notice.show(message);
    rescue.show(message?.cures);
    cures.show(sceneOnPicture()?.cures);
    showTask();
    picture.show(next.picture, sceneOnPicture(), message);
    box.show(next.picture, sceneOnPicture());
    channels.show(next.scene);
    predictions.show(next.scene);
    compare.show(next.picture, next.scene);
    truth.show(next.scene);
    scale.show(next.scene);
    classes.relate(next.scene);
    saying.relate(next.scene);
    classes.colour(contrastTable(model, next.scene));
    pixels.show(next.pixels, sceneOnPicture(), next.picture?.name);
    status.show(next.scene?.status);
    showStripOf(next.scene);
    markBehind();
    colour();
    layout(drawnWidth || root.clientWidth);
    if (ofLayer("channel") !== null || looked !== null) showChannel();
    picture.keep(ofLayer("probe"));
    kept.mark(predictions.element.children);
    kept.write();
    kept.mirror(container);
    connection.mark();
    if (next.scene && (ahead || root.hasAttribute("data-ahead"))) lists.show(next.scene); // the kernel does so else
    root.toggleAttribute("data-ahead", Boolean(ahead) && !isApart()); // of the kernel
  }

  /** A map that waits for its passes is not the one on show. */
  function showTask() {
    const waiting = model.get("task") ?? {};
    task.show(waiting);
    const stale = notice.isStale() || Boolean(waiting.total);
    root.classList.toggle("gcw-stale", Boolean(stale && shown.scene));
  }

  /** Unpacking is asynchronous, so an older message can be ready after a newer one: the latest wins. */
  async function refresh() {
    const ticket = ++latest;
    const message = model.get("notice");
    let next;
    try {
      next = await load();
    } catch (error) {
      console.error("gradcam_widget:", error);
      if (ticket !== latest || signal.aborted) return;
      show(shown, { title: "This map could not be drawn.", message: error.message, stale: true });
      return;
    }
    if (ticket !== latest || signal.aborted) {
      if (next.picture && next.picture !== shown.picture) next.picture.bitmap.close();
      return;
    }
    scenes.put(next.scene?.source, next);
    show(next, message);
  }

  const refreshSoon = coalesced(refresh);

  /** A request has been answered. Where nothing else comes with it, a layer that is shown already must go. */
  function onAnswer() {
    if (signal.aborted || !requests.answer()) return;
    if (ahead && !isAsking()) refreshSoon();
    if (!wanted || requests.isOpen("layer")) return;
    if (model.get("scene")?.layer?.name !== wanted.name) strip.stop();
    refreshSoon();
  }

  const listeners = [
    ["change:answered", onAnswer],
    ["change:picture change:scene change:notice change:task change:strip", requests.arrive],
    ["change:picture change:scene change:pixels change:notice change:tables", refreshSoon],
    ["msg:custom", onCustom],
    ["change:activations", coalesced(refreshActivations)],
    ["change:channel", coalesced(() => signal.aborted || showChannel())],
    ["change:strip change:tables", coalesced(refreshStrip)],
    ["change:classes", coalesced(refreshClasses)],
    ["change:names", coalesced(() => signal.aborted || refreshNames())],
    ["change:patches", () => signal.aborted || names.take()],
    ["change:words", coalesced(() => signal.aborted || saying.write())],
    ["change:class_table", () => signal.aborted || classes.show()],
    ["change:zoom", () => signal.aborted || pixels.follow()],
    ["change:scale", coalesced(() => signal.aborted || rescale())],
    // A task that ends comes with its map, which takes a moment to unpack: until then the old one stays stale.
    ["change:task", coalesced(() => signal.aborted || (model.get("task")?.total ? showTask() : refresh()))],
    ["change:terms", coalesced(() => terms.refresh())],
    ["change:probe", coalesced(() => signal.aborted || picture.keep(ofLayer("probe")))],
    ["change:ablation", coalesced(() => signal.aborted || switches.showScore())],
    ["change:threshold change:show_box", coalesced(() => signal.aborted || box.update())],
    ["change:panels", coalesced(() => signal.aborted || arrange())],
    ["change:opacity change:colormap change:colormap_index", coalesced(() => signal.aborted || recolour())],
  ];
  const subscriptions = listeners.flatMap(([names, act]) => names.split(" ").map((name) => [name, act]));
  for (const [name, act] of subscriptions) model.on(name, act);

  // ------ the page around the view: size, device pixels, theme, the controls beside it
  let container = null;
  const dressed = () => (container ? [root, container] : [root]);
  /** Canvases are drawn again in the next frame: JupyterLab hides the notebook while it changes its theme,
   *  and shows it again before a ResizeObserver could notice. */
  function redraw() {
    applyTheme(dressed());
    ink = null;
    requestAnimationFrame(() => signal.aborted || layout());
  }
  const retheme = () => applyTheme(dressed()) && redraw();
  const observers = [];
  const observe = (observer, ...args) => { observer.observe(...args); observers.push(observer); };

  /** Once the view is on the page, its container can be found. */
  function settle() {
    container = root.closest(".gradcam-widget");
    const scope = container ?? root;
    adopt(scope);
    connection.within(scope);
    if (container) easeClassField(container, signal);
    if (container) tellWhole(container, signal);
    if (container) watchControls(container, requests.touch, signal);
    observe(new MutationObserver((records) => {
      if (records.some((record) => !root.contains(record.target))) adopt(scope);
    }), scope, { childList: true, subtree: true, attributes: true, attributeFilter: ["title"] });
    watchPressed(scope, observe);
    watchTheme(retheme, observe);
    redraw();
  }

  let settled = false;
  observe(new ResizeObserver(() => {
    if (!settled && root.isConnected && root.clientWidth > 0) {
      settled = true;
      settle();
    } else if (root.clientWidth !== drawnWidth) {
      layout();
    }
  }), root);

  /** A window that moves to another screen, or a zoom, changes the device pixels. */
  function watchRatio() {
    const query = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    query.addEventListener("change", () => { layout(); watchRatio(); }, { once: true, signal });
  }
  watchRatio();
  for (const media of ["(prefers-color-scheme: dark)", "(prefers-contrast: more)", "(forced-colors: active)"]) {
    matchMedia(media).addEventListener("change", redraw, { signal });
  }

  // Paper has another width than the screen: what is drawn must be of that width before the printer takes it.
  for (const event of ["beforeprint", "afterprint"]) {
    addEventListener(event, () => {
      ink = null; // paper is light
      layout();
    }, { signal });
  }

  // Plain keys pressed here mean nothing to the notebook around it; Tab and Escape go on.
  root.addEventListener("keydown", (event) => {
    const command = event.ctrlKey || event.metaKey || event.altKey;
    if (!command && event.key !== "Tab" && event.key !== "Escape") event.stopPropagation();
  }, { signal });

  adopt(root);
  applyTheme([root]);
  showPanels();
  refresh().then(refreshActivations); // a notebook that was saved has those of its scene
  refreshStrip();
  refreshClasses();
  followControls(model, signal).catch((error) => console.error("gradcam_widget:", error));
  followScenes(model, signal, { goTo, classOf, flush: hand.flush, taken: requests.arrive }).then(
    (found) => { lists = found; },
    (error) => console.error("gradcam_widget:", error),
  );
  model.send({ type: "ready", complete: isComplete(model) });

  return () => {
    stop.abort();
    for (const [name, act] of subscriptions) model.off(name, act);
    for (const observer of observers) observer.disconnect();
    shown.picture?.bitmap.close();
    root.remove();
  };
}

/** Once for each model, whether it is on a page or not. */
const initialize = ({ model }) => keepScenes(model);

export default { initialize, render };
