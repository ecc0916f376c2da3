/** Scenes that the browser keeps: what it has been shown, or sent ahead, is on show again without the kernel. */

/*
 * A kept scene is the message of a scene (`Scene` in scene.py) as it came, with its binary parts. What tells it from
 * all others is in it, and given by the kernel, which never gives one number to two things:
 *
 *   base      of this scene: the same each time this picture, model, layer, target, method, evidence and class beside
 *             it are shown. One that differs by channels that are off alone (`off`) has it too, and is not kept.
 *   question  the same for all layers, and classes beside it, of one picture, target, method and evidence.
 *   ground    the same for all layers and targets of one picture, method, evidence and class beside it.
 *   chosen    index of the class, where it can be chosen by that ({type: "target", index}); else null.
 *
 * A picture that is painted, uploaded anew or prepared otherwise, and a model that has changed, have other numbers from
 * then on: what was kept of them before is not found any more.
 *
 * The kernel sends scenes ahead in a custom message {"type": "scenes", "shared", "scenes", "size"} with one deflated
 * buffer: each scene is {...shared, ...scene}, and the `data` of its arrays is [first byte, count] of the inflated buffer.
 */

const MOST_SCENES = 256;
const MOST_KEPT_BYTES = 32e6;

const isDeflated = ({ cam, alpha, contribution, compare }) =>
  [cam, alpha, contribution, compare?.alpha, compare?.cam, compare?.contrast].some((array) => array?.dtype === "u8z");

/** Scenes by their base, and strips by their question; the least recently used go first. */
function sceneStore({ most = MOST_SCENES, bytes = MOST_KEPT_BYTES } = {}) {
  const entries = new Map(); // base -> {message, scene: unpacked or null, pixels, weight}, the least recently used first
  const strips = new Map(); // question -> {message, strip}
  let weight = 0;

  function drop(base) {
    weight -= entries.get(base)?.weight ?? 0;
    entries.delete(base);
  }

  function shed() {
    while (entries.size > 1 && (entries.size > most || weight > bytes)) drop(entries.keys().next().value);
    while (strips.size > 16) strips.delete(strips.keys().next().value);
  }

  /** About what a scene takes when it is unpacked, and its map at the pixels. */
  function weigh({ layer, cam, compare }, pixels) {
    const values = 2 * layer.shape[0] + cam.shape.reduce((a, b) => a * b, 1);
    return 2000 + 8 * values * (compare?.alpha ? 2 : 1) + (pixels ? 4 * pixels.width * pixels.height : 0);
  }

  const isKeepable = (message) => Boolean(message?.layer) && Number.isInteger(message.ground) && Number.isInteger(message.base) && !message.off;

  return {
    get size() { return entries.size; },
    get weight() { return weight; },
    messages: () => [...entries.values()].map(({ message }) => message),
    /** Keeps a scene. `scene`: the same, unpacked, where that has been done; `pixels`: its map at the pixels. One that
     *  was sent ahead does not take the place of the kernel's answer. */
    put(message, { scene = null, pixels = null } = {}) {
      if (!isKeepable(message)) return;
      const before = entries.get(message.base);
      if (before && message.isAhead && !before.message.isAhead) return;
      if (!scene && isDeflated(message)) return void decodeScene(message).then((unpacked) => this.put(message, { scene: unpacked, pixels }));
      drop(message.base);
      const entry = { message, scene, pixels, weight: weigh(message, pixels) };
      entries.set(message.base, entry);
      weight += entry.weight;
      shed();
    },
    /** The kept scene to which a choice, {layer: name, target: class index}, leads from a scene; or null. */
    find(from, { layer = from?.layer.name, target }) {
      if (!isKeepable({ ...from, off: "" })) return null;
      const fits = ({ message }) =>
        message.ground === from.ground &&
        message.layer.name === layer &&
        (target === undefined ? message.question === from.question : message.chosen === target);
      const entry = [...entries.values()].reverse().find(fits) ?? null;
      if (entry) {
        entries.delete(entry.message.base);
        entries.set(entry.message.base, entry); // used last
      }
      return entry;
    },
    /** Keeps a strip: the message and what it holds. */
    putStrip(message, strip) {
      if (!strip || !Number.isInteger(strip.question)) return;
      strips.delete(strip.question);
      strips.set(strip.question, { message, strip });
      shed();
    },
    strip: (question) => strips.get(question)?.strip ?? null,
  };
}

/** The scenes of a message that were sent ahead, as scene messages. */
async function decodeAhead({ shared, scenes, size }, buffers) {
  const raw = await inflate(bytesOf(buffers[0]));
  if (raw.length !== size) throw new Error(`The scenes have ${raw.length} bytes instead of ${size}.`);
  const array = (packed) => ({ ...packed, data: raw.subarray(packed.data[0], packed.data[0] + packed.data[1]) });
  const compareOf = (compare) => (compare?.alpha ? { ...compare, alpha: array(compare.alpha), cam: array(compare.cam), contrast: array(compare.contrast) } : compare);
  return scenes.map((scene) => ({
    ...shared,
    ...scene,
    cam: array(scene.cam),
    alpha: array(scene.alpha),
    contribution: array(scene.contribution),
    ...(scene.compare ? { compare: compareOf(scene.compare) } : {}),
    revision: -scene.base, // the kernel has not shown it
    isAhead: true,
  }));
}
