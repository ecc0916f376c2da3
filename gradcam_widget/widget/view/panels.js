/** Which sections of the view are on show, and how they stand. */

/**
 * The sections by name in their places: left and right of each other, and below.
 *
 * `places`: {left, right, below}, each {name: element}. The kernel names those that are on show; where it names
 * none at all (a view that was saved before there were panels) all of them are.
 */
function panelsPart({ left, right, below }) {
  const column = (className, sections) => h("div", { class: className }, ...Object.values(sections));
  const columns = { left: column("gcw-left", left), right: column("gcw-right", right) };
  const body = h("div", { class: "gcw-body" }, columns.left, columns.right);
  const sections = { ...left, ...right, ...below };
  let shown = Object.keys(sections);
  const has = (place) => Object.keys(place).some((name) => shown.includes(name));
  return {
    elements: [body, ...Object.values(below)],
    isShown: (name) => shown.includes(name),
    /** Whether something stands on both sides. */
    isPaired: () => has(left) && has(right),
    show(names) {
      shown = Object.keys(sections).filter((name) => !names || names.includes(name));
      // A class of its own: a section may hide itself with the attribute, for reasons of its own.
      for (const [name, element] of Object.entries(sections)) element.classList.toggle("gcw-out", !shown.includes(name));
      columns.left.classList.toggle("gcw-out", !has(left));
      columns.right.classList.toggle("gcw-out", !has(right));
      body.classList.toggle("gcw-out", !has(left) && !has(right));
    },
  };
}
