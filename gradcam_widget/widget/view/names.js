/** What channels look for: their names, and the patches of pictures that excite them most. */

const LINGER_MS = 90; // a pointer that only passes over a bar asks for nothing
const ASKED_TOGETHER = 12;
const PATCHES = 9;

/**
 * Names and patches of the channels of the layer on show. The kernel sends the names of a layer once, and the patches
 * of a channel when it is first looked at; they are kept here until other names come. Nothing of another layer shows.
 *
 * `arrived`: called when patches have come.
 */
function namesPart({ model, signal, arrived }) {
  const layers = new Map(); // layer -> {asked, sprites}, of one edition of the names
  const listeners = [];
  let edition = null;
  let resting = null; // the channel under the pointer or the focus that is not here yet
  let listed = []; // those of a panel
  let timer = 0;

  /** The names of a scene's layer; null where there are none. */
  function of(scene) {
    const message = model.get("names");
    const fits = scene && message?.layer === scene.layer.name && message.channels === scene.alpha.length;
    return fits ? message : null;
  }

  /** What is kept of the layer that the names on show are for. */
  function shelf() {
    const message = model.get("names") ?? {};
    if (message.edition !== edition) empty();
    edition = message.edition;
    if (!layers.has(message.layer)) layers.set(message.layer, { asked: new Set(), sprites: new Map() });
    return layers.get(message.layer);
  }

  function empty() {
    for (const { sprites } of layers.values()) for (const { url } of sprites.values()) if (url) URL.revokeObjectURL(url);
    layers.clear();
  }

  /** Asks, in one message, for the patches that are wanted and have not been asked for. */
  function ask() {
    timer = 0;
    const message = model.get("names");
    if (!message?.layer || signal.aborted) return;
    const { asked } = shelf();
    const wanted = [...new Set([resting, ...listed])].filter((channel) => channel !== null && !asked.has(channel));
    const channels = wanted.slice(0, ASKED_TOGETHER);
    listed = listed.filter((channel) => wanted.indexOf(channel) >= ASKED_TOGETHER);
    resting = null;
    if (!channels.length) return;
    for (const channel of channels) asked.add(channel);
    model.send({ type: "patches", layer: message.layer, edition: message.edition, channels });
    if (listed.length) ask();
  }

  function askSoon(ms) {
    clearTimeout(timer);
    timer = setTimeout(ask, ms);
  }

  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    empty();
  });

  /** {count, url, pictures, near} of a channel; null where it is not here. */
  const spriteOf = (scene, channel) => (of(scene) ? (shelf().sprites.get(channel) ?? null) : null);

  /** {name, fit} of a channel; null for one without a name. */
  function nameOf(scene, channel) {
    const message = of(scene);
    const entry = message?.named[channel];
    return entry ? { name: message.concepts[entry[0]], fit: entry[1] } : null;
  }

  return {
    of,
    nameOf,
    spriteOf,
    listen: (act) => listeners.push(act),
    /** The names on show are others. */
    refresh() {
      shelf();
      for (const act of listeners) act();
    },
    /** Patches have come. */
    take() {
      const message = model.get("patches");
      if (!message?.sprites || message.edition !== model.get("names")?.edition) return;
      if (message.layer !== model.get("names").layer) return;
      const { asked, sprites } = shelf();
      for (const { channel, data, ...rest } of message.sprites) {
        if (sprites.has(channel)) continue;
        asked.add(channel);
        const url = hasBytes(data) ? URL.createObjectURL(new Blob([bytesOf(data)], { type: "image/jpeg" })) : null;
        sprites.set(channel, { ...rest, url });
      }
      arrived();
    },
    /** The channel is looked at, or with null none: its patches are asked for if that lasts more than a moment. */
    want(scene, channel) {
      if (!of(scene)) return;
      resting = shelf().asked.has(channel) ? null : channel;
      askSoon(LINGER_MS);
    },
    /** The channels of a panel that is on show. */
    list(scene, channels) {
      if (!of(scene)) return;
      const { asked } = shelf();
      listed = channels.filter((channel) => !asked.has(channel));
      if (listed.length) askSoon(0);
    },
    /** The patches of a channel side by side, `most` of them; empty frames while they are on their way. */
    strip(scene, channel, most = PATCHES) {
      if (!of(scene)) return null;
      const sprite = spriteOf(scene, channel);
      if (sprite && !sprite.url) return h("span", { class: "gcw-patches gcw-never" }, sprite.away ? "its patches are not in this page" : "nothing excites it");
      const shown = Math.min(most, sprite?.count ?? most);
      const strip = h("span", { class: "gcw-patches", "aria-hidden": "true" });
      strip.classList.toggle("gcw-coming", !sprite);
      for (let i = 0; i < shown; i++) {
        const patch = h("span", { class: "gcw-patch" });
        if (sprite) {
          patch.style.backgroundImage = `url("${sprite.url}")`;
          patch.style.backgroundSize = `${100 * sprite.count}% 100%`;
          patch.style.backgroundPosition = `${sprite.count > 1 ? (100 * i) / (sprite.count - 1) : 0}% 0`;
        }
        strip.append(patch);
      }
      return strip;
    },
    /** What is said of a channel, [what, value]. */
    facts(scene, channel) {
      if (!of(scene)) return [];
      const named = nameOf(scene, channel);
      if (named) return [[named.name, named.fit]];
      const near = spriteOf(scene, channel)?.near;
      return [["no name", near ? `best: ${near}` : ""]];
    },
    /** ", named striped, IoU 0.07, most excited by chelsea" for those who hear it. */
    spoken(scene, channel) {
      if (!of(scene)) return "";
      const named = nameOf(scene, channel);
      const pictures = spriteOf(scene, channel)?.pictures ?? [];
      const excited = pictures.length ? `, most excited by ${[...new Set(pictures)].join(", ")}` : "";
      return `, ${named ? `named ${named.name}, ${named.fit}` : "no name"}${excited}`;
    },
    /** Writes a channel's name beside its bar. */
    dress(bar, scene, channel) {
      const track = bar.querySelector(".gcw-track");
      const named = nameOf(scene, channel);
      const label = track.querySelector(".gcw-called");
      if (!named) label?.remove();
      else (label ?? track.appendChild(h("span", { class: "gcw-called" }))).textContent = named.name;
      const spoken = this.spoken(scene, channel);
      if (spoken) bar.setAttribute("aria-label", `${bar.getAttribute("aria-label")}${spoken}`);
    },
  };
}
