/** What the model says: its best classes. */

/** The best predictions as bars that are buttons: a click asks the kernel to explain that class. */
function predictionPart({ choose, signal }) {
  const element = h("div", { class: "gcw-predictions", role: "group", "aria-label": "Predictions" });
  let truth = null; // index of the true class, where it is known

  function row(tag, { index, label, probability }, most, explained) {
    const length = most > 0 ? (probability / most) * 100 : 0;
    const bar = h("span", { class: "gcw-share" }, h("span"));
    bar.firstChild.style.width = `${clamp(length, 0, 100)}%`;
    const name = h("span", { class: "gcw-label", title: label }, label);
    const line = h(tag, { "data-index": index }, name, bar, h("span", { class: "gcw-value" }, chance(probability)));
    line.classList.toggle("gcw-explained", explained);
    line.classList.toggle("gcw-true", index === truth);
    return line;
  }

  element.addEventListener("click", (event) => {
    const index = event.target.closest("button.gcw-prediction")?.dataset.index;
    if (index !== undefined) choose({ type: "target", index: Number(index) });
  }, { signal });

  return {
    element,
    show(scene) {
      const focused = element.contains(document.activeElement) ? document.activeElement.dataset.index : null;
      const predictions = scene?.predictions ?? [];
      const target = scene?.target;
      truth = scene?.truth?.index ?? null;
      const most = Math.max(0, ...predictions.map((p) => p.probability));
      const rows = predictions.map((prediction) => {
        const explained = prediction.index === target.index;
        const button = row("button", prediction, most, explained);
        button.type = "button";
        button.classList.add("gcw-prediction");
        button.setAttribute("aria-pressed", explained);
        button.dataset.lmSuppressShortcuts = "true";
        return button;
      });
      // A class beyond the first five is shown below them: its probability belongs to the answer.
      const beyond = target?.probability != null && !predictions.some((p) => p.index === target.index);
      if (beyond) rows.push(row("div", target, most, true));
      element.replaceChildren(...rows);
      if (focused !== null) rows.find((line) => line.dataset.index === focused)?.focus({ preventScroll: true });
    },
  };
}
