/** Elements, and the tip that several parts share. */

/** A new element: tag, attributes (class, data-*, aria-*; a true value is an empty attribute), children. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

const sub = (text) => h("sub", {}, text);

/** α_k = (1/Z) Σ_ij ∂y/∂A^k_ij, set in DOM so that it takes the page's fonts and colours. */
function formula(against) {
  const indices = h("span", { class: "gcw-stack" }, h("sup", {}, "k"), h("sub", {}, "ij"));
  const spoken = `alpha k is ${against ? "minus " : ""}the mean over all cells i j of the gradient of the logit y by the activation A k i j`;
  const written = h("span", { class: "gcw-math", "aria-hidden": "true" });
  written.append(h("i", {}, "α"), sub("k"), ` = ${against ? MINUS : ""}(1/`, h("i", {}, "Z"), ") Σ", sub("ij"), " ∂");
  written.append(h("i", {}, "y"), "/∂", h("i", {}, "A"), indices);
  return [written, h("span", { class: "gcw-hidden" }, spoken)];
}

/** The client rectangle of one cell [row, col] of a map of rows x cols, which is drawn on whole device pixels:
 *  `ratio` of them for each CSS pixel. */
function cellRect(canvas, [row, col], { rows, cols }, ratio) {
  const box = canvas.getBoundingClientRect();
  const edge = (index, count, start, size) => start + Math.round((index * size * ratio) / count) / ratio;
  return {
    left: edge(col, cols, box.left, box.width),
    right: edge(col + 1, cols, box.left, box.width),
    top: edge(row, rows, box.top, box.height),
    bottom: edge(row + 1, rows, box.top, box.height),
  };
}

/** The dark tip, shared by the picture and the bars: lines of text beside the thing they speak of. */
function tipPart(root) {
  const element = h("div", { class: "gcw-tip", "aria-hidden": "true", hidden: true });
  root.append(element);
  return {
    /** `lines`: arrays of words, one column each; `cell`, `areas`: client rectangles for placeTip; `extra`: an element
     *  below them, or null. */
    show(lines, cell, areas, extra = null) {
      const columns = Math.max(...lines.map((line) => line.length));
      element.style.gridTemplateColumns = `repeat(${columns}, auto)`;
      element.replaceChildren(...lines.flat().map((word) => h("span", {}, word)), ...(extra ? [extra] : []));
      element.hidden = false;
      const origin = root.getBoundingClientRect();
      const box = element.getBoundingClientRect();
      const { left, top } = placeTip(cell, box.width, box.height, [...areas, origin]);
      element.style.left = `${Math.round(left - origin.left)}px`;
      element.style.top = `${Math.round(top - origin.top)}px`;
    },
    hide() {
      element.hidden = true;
    },
  };
}
