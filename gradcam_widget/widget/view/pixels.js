/** A map at the picture's pixels, in place of the heatmap: guided backpropagation, with zoom. */

const MOST_ZOOM = 32;

/** The map of a message with its pixels, or null: {bitmap, values, width, height, limit}. */
async function decodePixels(message) {
  if (!hasBytes(message?.data)) return null;
  const { width, height, limit, revision, data } = message;
  const bitmap = await createImageBitmap(new Blob([bytesOf(data)], { type: "image/png" }), { colorSpaceConversion: "none" });
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { canvas, values: context.getImageData(0, 0, width, height).data, width, height, limit, revision, message };
}

/**
 * Lies over the picture where the method's map is one of the pixels. Zoom: the buttons, + and - and 0, drag to move,
 * arrow keys; the wheel with Ctrl, or while the map is zoomed and has the focus, so that a page scrolls on.
 */
function pixelPart({ root, model, tip, say, signal, tellKernel }, picture) {
  const canvas = h("canvas", { class: "gcw-pixels", role: "img", tabindex: "0", width: "1", height: "1", hidden: true });
  const button = (words, sign, act) => {
    const element = h("button", { class: "gcw-zoomer", type: "button", "aria-label": words, title: words }, sign);
    element.dataset.lmSuppressShortcuts = "true";
    element.addEventListener("click", act, { signal });
    return element;
  };
  const words = h("span", { class: "gcw-zoomed" });
  const smaller = button("Zoom out", MINUS, () => zoomTo(zoom / 2));
  const larger = button("Zoom in", "+", () => zoomTo(zoom * 2));
  const whole = button("Whole picture", "1:1", () => zoomTo(1));
  const tools = h("div", { class: "gcw-zoom", role: "group", "aria-label": "Zoom", hidden: true }, smaller, words, larger, whole);
  const caption = h("p", { class: "gcw-pixelwords", hidden: true });
  canvas.dataset.lmSuppressShortcuts = "true";
  picture.stage.append(canvas, tools);
  picture.under.prepend(caption);

  let scene = null;
  let map = null; // what has arrived
  let covered = false; // a channel's activation map is on the picture
  let zoom = 1;
  let middle = { x: 0, y: 0 }; // in pixels of the map
  let drag = null;

  const isOn = () => Boolean(map && scene?.method.pixels && map.revision === scene.revision && !scene.isPreview);

  /** Keeps the part on show within the map. */
  function bound() {
    const [half, tall] = [map.width / zoom / 2, map.height / zoom / 2];
    middle = { x: clamp(middle.x, half, map.width - half), y: clamp(middle.y, tall, map.height - tall) };
  }

  function draw() {
    const on = isOn() && !covered;
    canvas.hidden = tools.hidden = !on;
    caption.hidden = !isOn();
    root.classList.toggle("gcw-pixelled", on);
    if (!on) return;
    bound();
    const like = picture.canvas;
    if (canvas.width !== like.width) canvas.width = like.width;
    if (canvas.height !== like.height) canvas.height = like.height;
    Object.assign(canvas.style, { width: like.style.width, height: like.style.height });
    const [w, h_] = [map.width / zoom, map.height / zoom];
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = canvas.width / w < 1;
    context.drawImage(map.canvas, middle.x - w / 2, middle.y - h_ / 2, w, h_, 0, 0, canvas.width, canvas.height);
    canvas.classList.toggle("gcw-movable", zoom > 1);
    words.textContent = `${Number(zoom.toPrecision(3))}×`;
    smaller.disabled = whole.disabled = zoom <= 1;
    larger.disabled = zoom >= MOST_ZOOM;
  }

  /** `at`: a place of the map that stays where it is on the screen. */
  function zoomTo(next, at = middle) {
    const before = zoom;
    zoom = clamp(next, 1, MOST_ZOOM);
    middle = { x: at.x + ((middle.x - at.x) * before) / zoom, y: at.y + ((middle.y - at.y) * before) / zoom };
    tip.hide();
    draw();
    tell();
    if (zoom === before) return;
    model.set("zoom", zoom);
    tellKernel();
  }

  function move(x, y) {
    middle = { x: middle.x + x, y: middle.y + y };
    tip.hide();
    draw();
  }

  const tell = () => say(zoom > 1 ? `zoom ${words.textContent}, around pixel ${Math.floor(middle.x)}, ${Math.floor(middle.y)}` : "whole picture");

  /** The place of the map under the pointer. */
  function placeOf(event) {
    const box = canvas.getBoundingClientRect();
    return {
      x: middle.x + ((event.clientX - box.left) / box.width - 0.5) * (map.width / zoom),
      y: middle.y + ((event.clientY - box.top) / box.height - 0.5) * (map.height / zoom),
    };
  }

  function read(event) {
    const place = placeOf(event);
    const [x, y] = [clamp(Math.floor(place.x), 0, map.width - 1), clamp(Math.floor(place.y), 0, map.height - 1)];
    const rgb = [...map.values.slice((y * map.width + x) * 4, (y * map.width + x) * 4 + 3)];
    const value = (v) => (v === 255 || v === 1 ? (v === 1 ? "≤ " : "≥ ") : "") + number(((v - 128) / 127) * map.limit);
    const box = canvas.getBoundingClientRect();
    const at = { left: event.clientX - 8, right: event.clientX + 8, top: event.clientY - 8, bottom: event.clientY + 8 };
    tip.show([[`pixel (${x}, ${y})`, ""], ...rgb.map((v, i) => [["red", "green", "blue"][i], value(v)])], at, [box]);
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || zoom <= 1) return;
    drag = { x: event.clientX, y: event.clientY };
    canvas.setPointerCapture(event.pointerId);
  }, { signal });
  canvas.addEventListener("pointermove", (event) => {
    if (!isOn()) return;
    if (!drag) {
      read(event);
      return;
    }
    const box = canvas.getBoundingClientRect();
    move(((drag.x - event.clientX) / box.width) * (map.width / zoom), ((drag.y - event.clientY) / box.height) * (map.height / zoom));
    drag = { x: event.clientX, y: event.clientY };
  }, { signal });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    canvas.addEventListener(end, () => { drag = null; }, { signal });
  }
  for (const end of ["pointerleave", "blur"]) canvas.addEventListener(end, () => tip.hide(), { signal });
  canvas.addEventListener("wheel", (event) => {
    const isMeant = event.ctrlKey || event.metaKey || (zoom > 1 && document.activeElement === canvas);
    if (!isMeant || !isOn()) return;
    event.preventDefault();
    zoomTo(zoom * 2 ** (-clamp(event.deltaY, -120, 120) / 120), placeOf(event));
  }, { signal, passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (!isOn() || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = [map.width / zoom / 8, map.height / zoom / 8];
    const moves = { ArrowLeft: [-step[0], 0], ArrowRight: [step[0], 0], ArrowUp: [0, -step[1]], ArrowDown: [0, step[1]] };
    if (event.key === "+" || event.key === "=") zoomTo(zoom * 2);
    else if (event.key === "-" || event.key === "_") zoomTo(zoom / 2);
    else if (event.key === "0" || (event.key === "Escape" && zoom > 1)) zoomTo(1);
    else if (event.key in moves && zoom > 1) {
      move(...moves[event.key]);
      tell();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }, { signal });

  return {
    /** Takes the map that has arrived, and the scene on the picture. */
    show(nextMap, nextScene, name) {
      const focused = document.activeElement === canvas || tools.contains(document.activeElement);
      if (nextMap && (nextMap.width !== map?.width || nextMap.height !== map?.height)) {
        middle = { x: nextMap.width / 2, y: nextMap.height / 2 };
      }
      map = nextMap;
      scene = nextScene;
      zoom = clamp(Number(model.get("zoom") ?? 1) || 1, 1, MOST_ZOOM);
      if (isOn()) {
        canvas.setAttribute("aria-label", `${name ?? "picture"}: ${mapName(scene)}, at the pixels`);
        caption.textContent = map.limit > 0
          ? `${scene.method.name} at the pixels: grey is 0, the brightest +${number(map.limit)}, the darkest ${number(-map.limit)}`
          : `${scene.method.name} at the pixels: 0 everywhere`;
      }
      draw();
      if (focused && canvas.hidden) picture.canvas.focus({ preventScroll: true });
    },
    /** A channel's activation map is on the picture, or no longer. */
    cover(next) {
      if (covered === next) return;
      covered = next;
      draw();
    },
    /** The zoom was set from elsewhere. */
    follow() {
      const next = clamp(Number(model.get("zoom") ?? 1) || 1, 1, MOST_ZOOM);
      if (next === zoom) return;
      zoom = next;
      draw();
    },
    draw,
  };
}
