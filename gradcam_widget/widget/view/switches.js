/** Channels in the sum and out of it: which are on, and what can be done with those that are picked. */

/** Which of `count` channels a mask of the wire format names: 1 for each of them. */
function unmask(text, count) {
  const off = new Uint8Array(count);
  for (let k = 0; k < count && text; k++) {
    off[k] = (Number.parseInt(text.slice((k >> 3) * 2, (k >> 3) * 2 + 2), 16) >> (k & 7)) & 1;
  }
  return off;
}

/** The mask of channels: bit k % 8 of byte k // 8, in hexadecimal digits; "" for none. */
function maskOf(off) {
  if (!off.includes(1)) return "";
  const bytes = new Uint8Array(Math.ceil(off.length / 8));
  for (const [k, value] of off.entries()) bytes[k >> 3] |= value << (k & 7);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const WAIT_MS = 600;

/** Under the overview: how many channels are off, and buttons for those that are picked. */
function switchPart({ model, choose, say, signal, isApart, refuse }) {
  const words = h("span", { class: "gcw-switchwords" });
  const button = (act) => {
    const element = h("button", { class: "gcw-button gcw-small", type: "button" });
    element.dataset.lmSuppressShortcuts = "true";
    element.addEventListener("click", act, { signal });
    return element;
  };
  const onlyButton = button(() => only(chosen()));
  const withoutButton = button(() => without(chosen()));
  const resetButton = button(() => ask(new Uint8Array(count), "all channels on"));
  resetButton.textContent = "All on";
  const scoreButton = button(() => {
    waiting = true;
    model.send({ type: "ablate" });
    update();
  });
  const score = h("p", { class: "gcw-score" });
  const tools = h("div", { class: "gcw-switches", role: "group", "aria-label": "Channels in the sum" });
  tools.append(words, onlyButton, withoutButton, resetButton, scoreButton);
  const element = h("div", { class: "gcw-switchbox", hidden: true }, tools, score);
  const listeners = [];

  let scene = null;
  let count = 0;
  let off = new Uint8Array(0); // as the map on show leaves them out
  let wish = null; // as the user wants them, until the kernel's map is there
  let late = false; // it takes long enough to be said
  let timer = 0;
  let picked = null; // channels of a range, or null
  let kept = null; // the channel that is kept on the picture, or null
  let waiting = false; // for the model's score

  const overview = () => element.parentElement.querySelector(".gcw-overview");
  const now = () => wish ?? off;
  const isOff = (channel) => now()[channel] === 1;
  const isReady = () => Boolean(scene?.method.terms);
  const chosen = () => picked ?? (kept === null ? [] : [kept]);
  const howMany = (mask) => mask.reduce((sum, v) => sum + v, 0);

  /** "6 of 1280 channels off" */
  function sentence() {
    const some = howMany(now());
    if (some === 0) return "all channels on";
    if (some === count - 1) return `only channel ${now().indexOf(0)} on`;
    return `${some} of ${plural(count, "channel")} off`;
  }

  /** Asks the kernel for the map without these channels; the switches show it at once. */
  function ask(next, spoken) {
    if (!isReady()) return;
    if (isApart()) return refuse("A map without some of its channels needs the model.");
    wish = next;
    late = false;
    clearTimeout(timer);
    timer = setTimeout(() => { late = wish !== null; update(); }, WAIT_MS);
    choose({ type: "off", base: baseOf(scene), mask: maskOf(next) });
    say(spoken ?? sentence());
    tellAll();
  }

  function toggle(channel) {
    const next = now().slice();
    next[channel] = 1 - next[channel];
    ask(next, `channel ${channel} ${next[channel] ? "off" : "on"}, ${howMany(next)} of ${count} off`);
  }

  function only(channels) {
    const next = new Uint8Array(count).fill(1);
    for (const channel of channels) next[channel] = 0;
    ask(next);
  }

  /** Takes channels out; where all of them are out, brings them back. */
  function without(channels) {
    const back = channels.every(isOff);
    const next = now().slice();
    for (const channel of channels) next[channel] = back ? 0 : 1;
    ask(next);
  }

  function tellAll() {
    update();
    for (const listener of listeners) listener();
  }

  function update() {
    const focused = document.activeElement;
    write();
    // A button that goes must not take the focus with it.
    const lost = focused.hidden || focused.disabled || element.hidden;
    if (tools.contains(focused) && lost) (tools.querySelector("button:not([hidden], :disabled)") ?? overview()).focus({ preventScroll: true });
  }

  function write() {
    element.hidden = !isReady();
    if (!isReady()) return;
    const some = howMany(now());
    const these = chosen();
    const name = picked ? `these ${these.length}` : `#${these[0]}`;
    onlyButton.hidden = withoutButton.hidden = these.length === 0;
    onlyButton.textContent = `Only ${name}`;
    withoutButton.textContent = `${these.length > 0 && these.every(isOff) ? "With" : "Without"} ${name}`;
    resetButton.hidden = some === 0;
    scoreButton.hidden = some === 0 || model.get("kernel") === false; // a hand-out has no model to ask
    scoreButton.disabled = waiting || wish !== null;
    scoreButton.textContent = waiting ? "Asking the model" : "Score without them";
    const hint = count > 1 ? "drag over the channels to pick some, ■ takes one out of the sum" : "";
    words.textContent = some > 0 ? `${sentence()}${late ? ", waiting for the kernel" : ""}` : these.length ? "" : hint;
  }

  /** What the model itself says, where it has been asked. */
  function scoreWords() {
    const found = model.get("ablation") ?? {};
    if (!Number.isFinite(found.score) || !scene) return "";
    const change = signed(found.score - found.full_score);
    const hasChance = Number.isFinite(found.probability);
    const left = hasChance ? `, probability ${chance(found.probability)}` : "";
    const whole = hasChance ? ` and ${chance(found.full_probability)}` : "";
    return `${scene.target.label} without them: score ${number(found.score)} (${change})${left}; with all ${number(found.full_score)}${whole}.`;
  }

  function showScore() {
    score.textContent = scoreWords();
    if (!score.textContent) return;
    waiting = false;
    say(score.textContent);
    update();
  }

  signal.addEventListener("abort", () => clearTimeout(timer));

  return {
    element,
    isOff,
    isReady,
    toggle,
    sentence,
    showScore,
    /** Calls `act` when a channel has been switched. */
    listen: (act) => listeners.push(act),
    /** Whether any channel is out of the sum. */
    isAnyOff: () => now().includes(1),
    /** Takes a scene, and whether the kernel has refused something. Where the scene is what was asked for, or about
     *  another question, the wish has come to its end. */
    show(next, refused) {
      const other = baseOf(next) !== baseOf(scene);
      scene = next;
      count = scene?.alpha.length ?? 0;
      off = unmask(scene?.off, count);
      if (other || refused || !wish || maskOf(wish) === maskOf(off)) {
        wish = null;
        late = false;
        clearTimeout(timer);
      }
      waiting = false;
      score.textContent = scoreWords();
      update();
    },
    /** Takes what the buttons are about: channels of a range, or the channel that is kept. */
    offer(changes) {
      if ("picked" in changes) picked = changes.picked;
      if ("kept" in changes) kept = changes.kept;
      update();
    },
    /** Writes a channel's state into its bar. */
    fill(bar, channel) {
      bar.classList.toggle("gcw-off", isOff(channel));
      bar.setAttribute("aria-checked", !isOff(channel));
      const box = bar.querySelector(".gcw-switch");
      box.hidden = !isReady();
      box.title = `${isOff(channel) ? "Bring channel" : "Take channel"} ${channel} ${isOff(channel) ? "back into" : "out of"} the sum`;
    },
  };
}
