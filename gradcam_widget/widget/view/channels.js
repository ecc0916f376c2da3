/** Right: through which channels? The bars of alpha. */

/** Right: through which channels? The signed bars of alpha and the overview of all K. */
function channelPart({ root, tip, say, signal, lookAt, pin, activationOf, switches, pairs, palette, names }) {
  const title = h("div", { class: "gcw-title", role: "heading", "aria-level": "3" });
  const weights = h("p", { class: "gcw-weights" }, h("span", { class: "gcw-facts" }));
  const coverage = h("p", { class: "gcw-coverage" });
  const sort = h("select", { "aria-label": "Sort" }, ...Object.keys(ORDERS).map((name) => h("option", { value: name }, name)));
  const byTerm = h("option", { value: "cell", hidden: true }, "at the cell");
  sort.append(byTerm);
  const sorter = h("label", { class: "gcw-sort" }, h("span", {}, "Sort"), sort);
  const table = tablePart({ switches, names, signal });
  const zero = h("div", { class: "gcw-zero" });
  const list = h("div", { class: "gcw-bars", role: "listbox" });
  const lines = h("div", { class: "gcw-lines" }, zero, list);
  const canvas = h("canvas", { class: "gcw-overview", role: "slider", tabindex: "0", "aria-label": "Channels shown" });
  const brush = h("div", { class: "gcw-window" });
  const span = h("div", { class: "gcw-range", hidden: true });
  const overview = h("div", { class: "gcw-all" }, canvas, span, brush);
  const head = h("div", { class: "gcw-head" }, title, sorter, weights, coverage);
  const element = h("div", { class: "gcw-which" }, head, pairs.head, lines, overview, switches.element, table.element);

  let scene = null;
  let order = new Uint32Array(0);
  let most = 0;
  let first = 0; // rank of the first bar shown
  let active = 0; // rank of the bar that Tab reaches
  let wanted = 18; // bars that have room
  let ratio = 1;
  let pinned = null; // the channel that is kept on the picture
  let evidenceFor = 0; // sum of the positive contributions
  let evidenceAgainst = 0; // and of the negative ones
  let format = signed;
  let probed = null; // {cell, terms}: the bars are what the channels add at a cell
  let before = null; // how the bars stood before
  let range = null; // [anchor, end]: ranks between which the channels are picked
  let measured = null; // the room of a bar, {paired, half, left}, as it was last read off the page
  let width = 0; // of the column, in CSS pixels

  const shown = () => Math.min(wanted, order.length);
  const bars = () => [...list.children];
  const rankOf = (bar) => Number(bar.dataset.rank);
  const barAt = (rank) => bars()[rank - first];

  function newBar() {
    const part = (name) => h("span", { class: name });
    const track = h("span", { class: "gcw-track" }, part("gcw-fill"));
    const bar = h("div", { class: "gcw-bar", role: "option" }, part("gcw-number"), track, part("gcw-value"), part("gcw-switch"));
    bar.dataset.lmSuppressShortcuts = "true";
    return bar;
  }

  /** Writes one channel into a bar; `half` is the room on each side of the zero line. */
  function fill(bar, rank, half) {
    const channel = order[rank];
    const value = (probed?.terms ?? scene.alpha)[channel];
    const length = most > 0 ? Math.round((Math.abs(value) / most) * half * ratio) / ratio : 0;
    const visible = value === 0 ? 0 : Math.max(length, 1 / ratio);
    const [number_, track, text] = bar.children;
    Object.assign(bar.dataset, { channel, rank, alpha: scene.alpha[channel] });
    if (probed) bar.dataset.term = value;
    else delete bar.dataset.term;
    bar.classList.toggle("gcw-con", value < 0);
    bar.tabIndex = rank === active ? 0 : -1;
    bar.setAttribute("aria-selected", channel === pinned);
    number_.textContent = `#${channel}`;
    text.textContent = format(value);
    track.firstChild.style.width = `${visible}px`;
    track.firstChild.style.left = `${value < 0 ? half - visible : half}px`;
    const there = probed ? `adds ${signed(value)} at cell ${probed.cell.join(", ")}, ` : "";
    const words = `channel ${channel}, ${there}alpha ${signed(scene.alpha[channel])}, contribution ${signed(scene.contribution[channel])}`;
    bar.setAttribute("aria-label", `${words}, rank ${rank + 1} of ${order.length}`);
    bar.classList.toggle("gcw-picked", range !== null && rank >= Math.min(...range) && rank <= Math.max(...range));
    switches.fill(bar, channel);
    bar.setAttribute("aria-posinset", rank + 1);
    bar.setAttribute("aria-setsize", order.length);
    pairs.fill(bar, channel);
    names.dress(bar, scene, channel);
  }

  /** The room on each side of the zero line, and where the bars begin. To read it makes the browser lay out the
   *  whole page, so it is read only where it can have changed. */
  function roomOf(bar) {
    if (!bar) return { half: 0, left: 0 };
    const paired = bar.classList.contains("gcw-paired");
    if (measured?.paired !== paired) {
      const track = bar.children[1];
      measured = { paired, half: Math.floor((track.clientWidth / 2) * ratio) / ratio, left: track.offsetLeft };
    }
    return measured;
  }

  /** Shows the bars from rank `next` on. Bars that stay keep their element, those that leave are used
   *  again at the other end: 2048 channels cost no more than the rows that are visible. */
  function scrollTo(next) {
    const count = shown();
    const target = clamp(Math.round(next), 0, order.length - count);
    const step = target - first;
    first = target;
    active = clamp(active, first, Math.max(first, first + count - 1));
    while (list.children.length > count) list.lastChild.remove();
    while (list.children.length < count) list.append(newBar());
    if (step > 0 && step < count) list.append(...bars().slice(0, step));
    if (step < 0 && -step < count) list.prepend(...bars().slice(step));
    for (const bar of bars()) pairs.dress(bar);
    const { half, left } = roomOf(list.firstChild);
    for (const [index, bar] of bars().entries()) fill(bar, first + index, half);
    zero.style.left = `${left + half}px`;
    showWindow();
  }

  function showWindow() {
    const count = Math.max(order.length, 1);
    const width = canvas.width / ratio;
    const size = Math.max((shown() / count) * width, 8);
    const room = order.length > shown() ? first / (order.length - shown()) : 0;
    brush.style.width = `${Math.round(size * ratio) / ratio}px`;
    brush.style.left = `${Math.round(room * (width - size) * ratio) / ratio}px`;
    brush.hidden = order.length <= shown();
    span.hidden = range === null;
    if (range) {
      const [left, right] = [Math.min(...range), Math.max(...range) + 1].map((at) => Math.round((at / count) * width * ratio) / ratio);
      span.style.left = `${left}px`;
      span.style.width = `${Math.max(right - left, 1 / ratio)}px`;
    }
    canvas.setAttribute("aria-valuemin", 1);
    canvas.setAttribute("aria-valuemax", Math.max(1, order.length - shown() + 1));
    canvas.setAttribute("aria-valuenow", first + 1);
    canvas.setAttribute("aria-valuetext", `ranks ${first + 1} to ${first + shown()} of ${order.length}`);
  }

  /** The channel's mean activation, where its map is here. */
  function meanOf(channel) {
    const map = activationOf(channel);
    return map ? [["mean activation", number(map.reduce((sum, v) => sum + v, 0) / map.length)]] : [];
  }

  /** How much of the evidence of its sign the channel gives. */
  function shareOf(channel) {
    const value = scene.contribution[channel];
    if (value === 0) return [];
    const share = value / (value > 0 ? evidenceFor : evidenceAgainst);
    return [["share", `${number(100 * share)} % of the ${value > 0 ? "positive" : "negative"}`]];
  }

  function showTip(bar) {
    const channel = Number(bar.dataset.channel);
    const facts = [
      [`#${channel}`, `rank ${rankOf(bar) + 1} of ${order.length}`],
      ...(probed ? [[`at (${probed.cell.join(", ")})`, signed(probed.terms[channel])]] : []),
      ["α", signed(scene.alpha[channel])],
      ...meanOf(channel),
      ["contribution", signed(scene.contribution[channel])],
      ...shareOf(channel),
      ...names.facts(scene, channel),
    ];
    // The half without a bar is free: there the tip covers neither this bar nor the numbers.
    const track = bar.children[1].getBoundingClientRect();
    const middle = zero.getBoundingClientRect().left;
    const box = bar.getBoundingClientRect();
    const con = bar.classList.contains("gcw-con");
    const free = { top: -1e6, bottom: 1e6, left: con ? middle : track.left, right: con ? track.right : middle };
    const own = { top: box.top, bottom: box.bottom, left: con ? track.left : middle, right: con ? middle : track.right };
    const room = root.getBoundingClientRect();
    names.want(scene, channel);
    tip.show(facts, own, [{ ...free, top: room.top, bottom: room.bottom }], names.strip(scene, channel, 5));
  }

  /** Moves the bar that has the focus to a rank, scrolling where it is out of sight. */
  function focusRank(rank) {
    active = clamp(rank, 0, order.length - 1);
    const least = active - shown() + 1;
    scrollTo(clamp(first, least, active));
    barAt(active)?.focus({ preventScroll: true });
  }

  function onBarKey(event) {
    const bar = event.target.closest(".gcw-bar");
    if (!bar || event.ctrlKey || event.metaKey || event.altKey) return;
    const rank = rankOf(bar);
    const targets = {
      ArrowDown: rank + 1,
      ArrowUp: rank - 1,
      PageDown: rank + shown(),
      PageUp: rank - shown(),
      Home: 0,
      End: order.length - 1,
    };
    if (event.key === "Escape") pin(null);
    else if ((event.key === "Enter" || event.key === " ") && event.shiftKey) switches.toggle(order[rank]);
    else if (event.key === "Enter" || event.key === " ") toggle(bar);
    else if (event.key in targets) focusRank(targets[event.key]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function onOverviewKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = shown();
    const targets = {
      ArrowRight: first + 1,
      ArrowDown: first + 1,
      ArrowLeft: first - 1,
      ArrowUp: first - 1,
      PageDown: first + page,
      PageUp: first - page,
      Home: 0,
      End: order.length,
    };
    if (event.key === "Escape" && range) pick(null);
    else if (!(event.key in targets)) return;
    else if (event.shiftKey) extend(targets[event.key] - first, event.key);
    else scrollTo(targets[event.key]);
    event.preventDefault();
    event.stopPropagation();
  }

  /** Picks the channels between two ranks, [anchor, end], and shows the first of them; null for none. */
  function pick(next) {
    range = next;
    scrollTo(range ? Math.min(...range) : first);
    switches.offer({ picked: range && [...order.slice(Math.min(...range), Math.max(...range) + 1)] });
  }

  /** Moves the end of the range by keys; the first of them picks the channels that are on show. */
  function extend(step, key) {
    const last = order.length - 1;
    const [anchor, end] = range ?? [first, first + shown() - 1];
    const moved = key === "Home" ? 0 : key === "End" ? last : clamp(end + (range ? step : 0), 0, last);
    pick([anchor, moved]);
    say(`ranks ${Math.min(...range) + 1} to ${Math.max(...range) + 1} of ${order.length} picked`);
  }

  /** Dragging the window keeps the grip. Dragging elsewhere picks channels, a press there brings the window. */
  function onOverviewPress(event) {
    if (event.button !== 0) return;
    const box = canvas.getBoundingClientRect();
    const grasp = brush.getBoundingClientRect(); // empty where all channels are on show
    const within = event.clientX >= grasp.left && event.clientX <= grasp.right;
    const grip = within ? event.clientX - grasp.left : grasp.width / 2;
    const rankAt = (x) => clamp(Math.floor(((x - box.left) / box.width) * order.length), 0, order.length - 1);
    let picking = false;
    const scroll = (at) => {
      const room = Math.max(box.width - grasp.width, 1);
      scrollTo(((at.clientX - box.left - grip) / room) * (order.length - shown()));
    };
    const drag = (at) => {
      picking ||= !within && Math.abs(at.clientX - event.clientX) > 3;
      if (picking) pick([rankAt(event.clientX), rankAt(at.clientX)]);
      else if (within) scroll(at);
    };
    const release = () => {
      press.abort();
      if (picking) {
        say(`${plural(Math.abs(range[1] - range[0]) + 1, "channel")} picked`);
      } else if (!within) {
        pick(null);
        scroll(event);
      }
    };
    const press = new AbortController();
    const options = { signal: AbortSignal.any?.([press.signal, signal]) ?? press.signal };
    canvas.setPointerCapture(event.pointerId);
    canvas.addEventListener("pointermove", drag, options);
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(end, release, options);
    }
  }

  function sortNow() {
    order = !scene ? new Uint32Array(0) : sort.value === "cell" ? byMagnitude(probed.terms) : sortChannels(scene, sort.value);
    first = active = 0;
    range = null;
    switches.offer({ picked: null });
    const by = sort.value === "cell" ? "size" : sort.value;
    list.setAttribute("aria-label", `${probed ? `What the channels add at cell ${probed.cell.join(", ")}` : "Channel weights alpha"}, by ${by}`);
  }

  /** Writes what the bars are above them. */
  function entitle() {
    const { cell, terms } = probed ?? {};
    if (cell && scene.method.terms === "weight") title.replaceChildren("α", sub("k"), "A", h("sup", {}, "k"), ` ${aim(scene)} at cell (${cell.join(", ")})`);
    else if (cell) title.replaceChildren(`Terms ${aim(scene)} at cell (${cell.join(", ")})`);
    else title.replaceChildren("α", sub("k"), ` ${aim(scene)} at ${shorten(scene.layer.name)}`);
    title.title = scene.layer.label;
    const facts = [[scene.method.weights], [`K = ${order.length}`]];
    if (scene.method.name === "GradCAM") facts.push(formula(scene.evidence === "counterfactual")); // it is this method's own
    if (cell) {
      const sum = terms.reduce((total, value, k) => total + (switches.isOff(k) ? 0 : value), 0);
      facts.splice(0, 3, ["what each channel adds there"], [`together ${signed(sum)}`]);
    }
    weights.firstChild.replaceChildren(...facts.map((parts) => h("span", {}, ...parts)));
  }

  function draw() {
    table.show(scene, order, sort.value, probed);
    scrollTo(first);
    if (!scene) return;
    const values = probed?.terms ?? scene.alpha;
    const on = switches.isAnyOff() ? values.map((value, k) => (switches.isOff(k) ? 0 : value)) : values;
    paintOverview(canvas, on, order, most, palette());
  }

  /** The bars are the weights again. */
  function forget() {
    if (!probed) return;
    probed = null;
    byTerm.hidden = true;
    sort.value = before.sort;
    weights.style.minHeight = "";
  }

  /** Keeps the channel of a bar on the picture, or lets it go. */
  function toggle(bar) {
    const channel = Number(bar.dataset.channel);
    pin(channel === pinned ? null : channel);
  }

  function attend(bar) {
    lookAt(Number(bar.dataset.channel));
    showTip(bar);
  }

  function leave() {
    tip.hide();
    names.want(scene, null);
    lookAt(null);
  }

  const barOf = (event) => event.target.closest(".gcw-bar");
  list.addEventListener("pointerover", (event) => barOf(event) && attend(barOf(event)), { signal });
  list.addEventListener("pointerleave", leave, { signal });
  list.addEventListener("click", (event) => {
    const bar = barOf(event);
    if (!bar) return;
    if (event.shiftKey || event.target.matches(".gcw-switch")) switches.toggle(Number(bar.dataset.channel));
    else toggle(bar);
  }, { signal });
  switches.listen(draw);
  names.listen(draw);
  list.addEventListener("focusin", (event) => {
    active = rankOf(event.target);
    for (const bar of bars()) bar.tabIndex = rankOf(bar) === active ? 0 : -1;
    if (event.target.matches(":focus-visible")) attend(event.target);
  }, { signal });
  list.addEventListener("focusout", leave, { signal });
  list.addEventListener("keydown", onBarKey, { signal });
  canvas.addEventListener("keydown", onOverviewKey, { signal });
  canvas.addEventListener("pointerdown", onOverviewPress, { signal });
  sort.addEventListener("change", () => { sortNow(); draw(); }, { signal });

  return {
    element,
    show(next) {
      const kept = scene && next && baseOf(scene) === baseOf(next);
      const refined = kept && scene.isAhead && !next.isAhead; // its numbers were rounded, and are not any more
      if (!kept) forget();
      scene = next;
      most = pairs.show(scene);
      if (probed) most = largest(probed.terms);
      sort.querySelector("[value=difference]").hidden = !isComparing(scene);
      evidenceFor = scene ? scene.contribution.reduce((sum, v) => sum + Math.max(v, 0), 0) : 0;
      evidenceAgainst = scene ? scene.contribution.reduce((sum, v) => sum + Math.min(v, 0), 0) : 0;
      format = alignedFormat(most);
      if (!kept) sortNow();
      else if (refined && !probed) order = sortChannels(scene, sort.value);
      if (!scene) return;
      entitle();
      coverage.textContent = pairs.sentence() || coverageSentence(scene.coverage, scene.evidence, Boolean(scene.off));
    },
    /** Whether the user works in the bars, whose order then stays as it is. */
    isBusy: () => range !== null || (element.contains(document.activeElement) && document.activeElement.matches(":focus-visible")),
    /** Shows what the channels add at a cell, {cell, terms}, the largest first; with null the weights again, as they
     *  stood before. */
    probe(next) {
      if (!scene || (!next && !probed)) return;
      if (!next) {
        const stood = before;
        forget();
        most = pairs.show(scene);
        format = alignedFormat(most);
        sortNow();
        [first, active] = [stood.first, stood.active];
      } else {
        const same = probed && probed.cell[0] === next.cell[0] && probed.cell[1] === next.cell[1];
        if (same && probed.terms === next.terms) {
          entitle(); // channels may have been switched
          return;
        }
        if (!probed) {
          before = { sort: sort.value, first, active };
          weights.style.minHeight = `${weights.offsetHeight}px`; // fewer words must not move the bars
          byTerm.hidden = false;
          sort.value = "cell";
        }
        probed = next;
        most = largest(probed.terms);
        format = alignedFormat(most);
        sortNow();
      }
      entitle();
      draw();
    },
    /** What the weights are sorted by, also while the bars are about a cell. */
    order: () => (probed ? before.sort : sort.value),
    /** Marks the bar whose channel is kept on the picture. */
    mark(channel) {
      pinned = channel;
      switches.offer({ kept: channel });
      for (const bar of bars()) bar.setAttribute("aria-selected", Number(bar.dataset.channel) === pinned);
    },
    /** More is known of the channels: the bars say it to those who hear them. */
    relabel() {
      if (scene) scrollTo(first);
    },
    /** The activations have arrived: the tip that is open can say more. */
    retell() {
      const bar = list.querySelector(".gcw-bar:hover") ?? list.querySelector(".gcw-bar:focus-visible");
      if (bar) showTip(bar);
    },
    /** Lays out `rows` bars at this device pixel ratio and draws. */
    resize(rows, devicePixelRatio) {
      wanted = rows;
      if (ratio !== devicePixelRatio) measured = null;
      ratio = devicePixelRatio;
      width ||= overview.getBoundingClientRect().width;
      resizeCanvas(canvas, Math.max(1, Math.floor(width * ratio)), Math.round(44 * ratio), ratio);
      draw();
    },
    /** The view has another width: what was read off the page holds no longer. */
    forgetSize() {
      measured = null;
      width = 0;
    },
  };
}
