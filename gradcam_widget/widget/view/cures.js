/** What helps where a map needs a word: buttons under the sentence. */

/** `fallback()`: the element that takes the focus where the buttons go while one of them has it. */
function curePart({ choose, say, signal }, fallback) {
  const element = h("div", { class: "gcw-cures", role: "group", "aria-label": "What helps", hidden: true });
  element.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    say(button.textContent);
    choose({ type: "cure", id: button.dataset.cure });
  }, { signal });
  return {
    element,
    /** Takes [{id, label}, ...], or nothing. */
    show(cures) {
      const next = (cures ?? []).map(({ id, label }) => [id, label].join("\n")).join("\n\n");
      if (next === element.dataset.shown) return;
      element.dataset.shown = next;
      const focused = element.contains(document.activeElement);
      element.replaceChildren(...(cures ?? []).map(({ id, label }) => {
        const button = h("button", { class: "gcw-button gcw-small", type: "button", "data-cure": id }, label);
        button.dataset.lmSuppressShortcuts = "true";
        return button;
      }));
      element.hidden = element.children.length === 0;
      if (focused) (element.firstChild ?? fallback()).focus({ preventScroll: true });
    },
  };
}
