/** The true class of the picture, where it is known, and the way to compare the prediction with it. */

function truthPart({ choose, signal }) {
  const words = h("span", { class: "gcw-words" });
  const button = h("button", { class: "gcw-button gcw-small", type: "button", "aria-pressed": "false" }, "Compare prediction with truth");
  button.dataset.lmSuppressShortcuts = "true";
  const element = h("div", { class: "gcw-truth", hidden: true }, words, button);
  button.addEventListener("click", () => choose({ type: "truth" }), { signal });
  return {
    element,
    show(scene) {
      const truth = scene?.truth;
      element.hidden = !truth;
      if (!truth) return;
      const best = scene.predictions[0]?.index;
      const right = best === truth.index;
      words.replaceChildren(h("strong", {}, truth.label), ` (${chance(truth.probability)})`, right ? " is the true class, as predicted" : " is the true class");
      button.hidden = right;
      const met = isComparing(scene) && scene.target.index === best && scene.compare.target.index === truth.index;
      button.setAttribute("aria-pressed", met);
    },
  };
}
