/** Under the picture: the box round the largest segment of the heatmap, and the threshold that cuts it. */

/** `stage`: the element over the picture's canvas, in which the box is drawn. */
function boxPart({ model, say, signal, tellKernel }, stage) {
  const frame = h("div", { class: "gcw-box", hidden: true });
  const toggle = h("input", { type: "checkbox", class: "gcw-check" });
  const slider = h("input", { type: "range", class: "gcw-slide", min: "0", max: "1", step: "0.01", "aria-label": "Threshold" });
  const share = h("span", { class: "gcw-percent" });
  const corners = h("span", { class: "gcw-corners" });
  const tools = h("span", { class: "gcw-boxtools", hidden: true }, slider, share, corners);
  const name = h("label", { class: "gcw-boxname", title: "Box round the largest connected segment of the heatmap" }, toggle, "Box");
  const element = h("div", { class: "gcw-boxline" }, name, tools);
  stage.append(frame);

  let picture = null;
  let scene = null;
  let values = null; // the heatmap at the picture's size; null until it is needed
  let box = null;
  let ratio = 1;

  const threshold = () => clamp(Number(model.get("threshold") ?? 0.15), 0, 1);
  const isOn = () => Boolean(model.get("show_box"));
  const percent = () => `${Math.round(threshold() * 100)} %`;
  const cornersText = () => (box ? `(${box[0]}, ${box[1]})–(${box[2]}, ${box[3]})` : "no positive evidence");

  /** Puts the frame where the box is, in whole device pixels. */
  function place() {
    frame.hidden = !isOn() || !box;
    if (frame.hidden) return;
    const canvas = stage.querySelector("canvas");
    const at = (pixel, count, size) => Math.round((pixel * size) / count) / ratio;
    const [left, top, right, bottom] = box;
    const edges = [left, right].map((x) => at(x, picture.width, canvas.width));
    const sides = [top, bottom].map((y) => at(y, picture.height, canvas.height));
    frame.style.left = `${edges[0]}px`;
    frame.style.top = `${sides[0]}px`;
    frame.style.width = `${edges[1] - edges[0]}px`;
    frame.style.height = `${sides[1] - sides[0]}px`;
  }

  function update() {
    const on = isOn();
    toggle.checked = on;
    tools.hidden = !on;
    element.hidden = !scene;
    if (Number(slider.value) !== threshold()) slider.value = threshold();
    slider.setAttribute("aria-valuetext", `${percent()} of the maximum`);
    share.textContent = percent();
    if (on && scene && picture) {
      values ??= enlarged(scene.cam, scene.rows, scene.cols, picture.width, picture.height);
      box = boxOf(values, picture.width, picture.height, threshold());
    } else {
      box = null;
    }
    corners.textContent = on && scene ? cornersText() : "";
    place();
  }

  function set(changes) {
    for (const [trait, value] of Object.entries(changes)) model.set(trait, value);
    tellKernel();
  }

  const tell = () => say(box ? `box from ${box[0]}, ${box[1]} to ${box[2]}, ${box[3]} at ${percent()} of the maximum` : "no box: no positive evidence");
  toggle.addEventListener("change", () => {
    set({ show_box: toggle.checked });
    update();
    if (toggle.checked) tell();
    else say("no box");
  }, { signal });
  slider.addEventListener("input", () => set({ threshold: Number(slider.value) }), { signal });
  slider.addEventListener("change", () => { update(); tell(); }, { signal });

  return {
    element,
    update,
    /** Takes the picture and the scene that are on show. */
    show(nextPicture, nextScene) {
      if (nextScene !== scene || nextPicture !== picture) values = null;
      picture = nextPicture;
      scene = nextScene;
      update();
    },
    resize(devicePixelRatio) {
      ratio = devicePixelRatio;
      place();
    },
  };
}
