/** In words: which channels speak for the class, and which against it. */

/** Two lists of channels with their names and patches. A row kept is its channel on the picture. */
function sayingPart({ model, signal, names, lookAt, pin, isApart }) {
  const note = h("span", { class: "gcw-note" });
  const head = h("div", { class: "gcw-striphead" }, h("span", { class: "gcw-name", role: "heading", "aria-level": "3" }, "In words"), note);
  const body = h("div", { class: "gcw-sayings" });
  const element = h("div", { class: "gcw-saying", hidden: true }, head, body);
  let scene = null;
  let pinned = null;

  const isOwn = (words) => Boolean(words?.for_it) && words.revision === baseOf(scene) && Boolean(names.of(scene));

  /** "like striped, orange": the names in a list, each once. */
  function likeness(list) {
    const found = [...new Set(list.map(({ channel }) => names.nameOf(scene, channel)?.name).filter(Boolean))];
    return found.length ? `like ${found.join(", ")}` : list.length ? "none has a name" : "";
  }

  function row({ channel, alpha, pictures }, format) {
    const named = names.nameOf(scene, channel);
    const spoken = named ? `named ${named.name}, ${named.fit}` : "no name";
    const seen = pictures.length ? `, most excited by ${pictures.join(", ")}` : "";
    const label = `channel ${channel}, alpha ${signed(alpha)}, ${spoken}${seen}`;
    const button = h(
      "button",
      { class: "gcw-saidrow", type: "button", "data-channel": channel, "aria-label": label, "aria-pressed": channel === pinned },
      h("span", { class: "gcw-number" }, `#${channel}`),
      h("span", { class: "gcw-value" }, format(alpha)),
      h("span", { class: "gcw-saidname" }, named ? named.name : "no name", h("span", { class: "gcw-fit" }, named ? named.fit : "")),
      names.strip(scene, channel),
    );
    button.classList.toggle("gcw-nameless", !named);
    button.dataset.lmSuppressShortcuts = "true";
    return h("li", {}, button);
  }

  function column(title, list, kind, format) {
    const like = h("span", { class: "gcw-like" }, likeness(list));
    const rows = list.length ? h("ul", {}, ...list.map((word) => row(word, format))) : h("p", { class: "gcw-nobody" }, "no channel");
    return h("div", { class: `gcw-said gcw-said${kind}` }, h("div", { class: "gcw-saidhead" }, h("b", {}, title), like), rows);
  }

  function write() {
    const words = model.get("words");
    element.hidden = !words?.for_it;
    const own = isOwn(words);
    // Until those of the scene are here the old ones stay, marked as such: they name the class that they are about.
    element.classList.toggle("gcw-behind", !own);
    element.setAttribute("aria-busy", !own && !isApart());
    if (!own) return;
    const { label, against, for_it: pro, against_it: con } = words;
    const format = alignedFormat(largest([...pro, ...con].map(({ alpha }) => alpha)));
    const focused = body.contains(document.activeElement) ? document.activeElement.dataset.channel : null;
    const about = against ? `what speaks against ${label}` : label;
    body.replaceChildren(column(`For ${about}`, pro, "pro", format), column(against ? "Against that" : "Against it", con, "con", format));
    if (focused !== null) body.querySelector(`[data-channel="${focused}"]`)?.focus({ preventScroll: true });
    const { pictures, approximate } = names.of(scene);
    note.textContent = `what excites each channel most in ${plural(pictures, "picture")}${approximate ? ", round the cell: a cell sees more" : ""}`;
    if (!element.classList.contains("gcw-out")) names.list(scene, [...pro, ...con].map(({ channel }) => channel));
  }

  const rowOf = (event) => event.target.closest(".gcw-saidrow");
  const channelOf = (button) => Number(button.dataset.channel);
  const leave = () => lookAt(null);
  body.addEventListener("pointerover", (event) => (rowOf(event) && !element.classList.contains("gcw-behind") ? lookAt(channelOf(rowOf(event))) : leave()), { signal });
  body.addEventListener("pointerleave", leave, { signal });
  body.addEventListener("focusin", (event) => rowOf(event)?.matches(":focus-visible") && lookAt(channelOf(rowOf(event))), { signal });
  body.addEventListener("focusout", leave, { signal });
  body.addEventListener("click", (event) => {
    const button = rowOf(event);
    if (button && !element.classList.contains("gcw-behind")) pin(channelOf(button) === pinned ? null : channelOf(button));
  }, { signal });

  return {
    element,
    write,
    /** The scene on show. */
    relate(next) {
      scene = next;
      write();
    },
    /** Marks the row whose channel is kept on the picture. */
    mark(channel) {
      pinned = channel;
      for (const button of body.querySelectorAll(".gcw-saidrow")) button.setAttribute("aria-pressed", channelOf(button) === pinned);
    },
  };
}
