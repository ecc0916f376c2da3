/** The page around the view: its theme, its keys, the controls beside it. */

/** The signed colours and the hairline as the style sheet has them, for canvases. */
function paletteOf(root) {
  const style = getComputedStyle(root);
  const colour = (name) => style.getPropertyValue(name).trim() || "gray";
  return { pro: colour("--gcw-pro"), con: colour("--gcw-con"), line: colour("--gcw-line") };
}

/** Red, green, blue, alpha of a computed colour. */
function channelsOf(colour) {
  const [r, g, b, a = 1] = (colour.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  return { r, g, b, a };
}

/** "dark" or "light" after the first background that is painted behind an element; null where none is. */
function groundTheme(element) {
  for (let at = element?.parentElement; at; at = at.parentElement) {
    const { r, g, b, a } = channelsOf(getComputedStyle(at).backgroundColor);
    if (a > 0.5) return 0.2126 * r + 0.7152 * g + 0.0722 * b < 128 ? "dark" : "light";
  }
  return null;
}

/** What the host page says of itself: {host, theme, own}. `own`: nothing is painted behind the widget
 *  and the page gives no hint, so it follows the system and paints its own ground. Only then: a light
 *  notebook on a dark system stays light. */
function hostOf(element) {
  const { body, documentElement: html } = document;
  const jupyter = body.dataset.jpThemeLight;
  if (jupyter !== undefined) return { host: "jupyter", theme: jupyter === "false" ? "dark" : "light" };
  const code = body.dataset.vscodeThemeKind ?? [...body.classList].find((name) => name.startsWith("vscode-"));
  if (code) return { host: "vscode", theme: /dark|contrast$/.test(code) ? "dark" : "light" };
  const named = html.getAttribute("theme") ?? html.dataset.theme ?? html.dataset.bsTheme;
  if (named === "dark" || named === "light") return { host: "plain", theme: named };
  const ground = groundTheme(element.closest(".gradcam-widget") ?? element);
  if (ground) return { host: "plain", theme: ground };
  if (globalThis.google?.colab) return { host: "plain", theme: "light" };
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  return { host: "plain", theme: dark ? "dark" : "light", own: dark };
}

/** Writes the host's theme on the widget, for the style sheet; whether it is another than before. */
function applyTheme(elements) {
  const { host, theme, own = false } = hostOf(elements[0]);
  const before = elements[0].dataset.gcwTheme;
  for (const element of elements) {
    element.dataset.gcwHost = host;
    element.dataset.gcwTheme = theme;
    element.toggleAttribute("data-gcw-own-ground", own);
  }
  return theme !== before;
}

const THEMED = [
  "class", "data-jp-theme-light", "data-vscode-theme-kind", "theme", "data-theme", "data-bs-theme",
];

/** Calls `retheme` when the page may have another theme. `observe(observer, ...)` starts an observer and sees to
 *  its end. */
function watchTheme(retheme, observe) {
  for (const page of [document.body, document.documentElement]) {
    observe(new MutationObserver(retheme), page, { attributes: true, attributeFilter: THEMED });
  }
}

const FOCUSABLE = "select, button, canvas, input, [tabindex], [contenteditable]";

/** Makes the widget's controls good citizens of a notebook: no key pressed in them is a shortcut of the
 *  notebook, and each has a name for those who do not see it. */
function adopt(scope) {
  for (const element of scope.querySelectorAll(FOCUSABLE)) {
    if (!element.dataset.lmSuppressShortcuts) element.dataset.lmSuppressShortcuts = "true";
  }
  for (const handle of scope.querySelectorAll(".noUi-handle, .ui-slider-handle")) {
    const label = handle.closest(".widget-slider, .jupyter-widgets")?.querySelector("label")?.textContent;
    if (label && !handle.hasAttribute("aria-label")) handle.setAttribute("aria-label", label);
    if (handle.matches(".ui-slider-handle:not([role])")) makeSlider(handle);
  }
  for (const label of scope.querySelectorAll('.widget-label[title="null"]')) {
    label.removeAttribute("title"); // ipywidgets writes an absent tooltip as a word
  }
  for (const group of scope.querySelectorAll(".gradcam-controls .widget-toggle-buttons")) {
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", group.querySelector("label")?.textContent ?? "");
    showPressed(group);
  }
  for (const button of scope.querySelectorAll(".gradcam-controls button.gradcam-upload")) {
    if (button.title) continue;
    // ipywidgets 7 has no tooltip for it, and counts its files behind its words
    const words = button.textContent.replace(/\s*\(\d+\)\s*$/, "").trim();
    if (words && button.getAttribute("aria-label") !== words) button.setAttribute("aria-label", words);
  }
  for (const button of scope.querySelectorAll(".gradcam-controls button[title]:not(.widget-toggle-button)")) {
    // "‹" and an icon are no names; the tooltip is one.
    if (button.title && button.getAttribute("aria-label") !== button.title) {
      button.setAttribute("aria-label", button.title);
    }
  }
}

/** The handle of ipywidgets 7 is a slider to the eye alone: its place says how much, in percent. */
function makeSlider(handle) {
  const tell = () => handle.setAttribute("aria-valuenow", Math.round(parseFloat(handle.style.left) || 0));
  handle.setAttribute("role", "slider");
  handle.setAttribute("aria-valuemin", 0);
  handle.setAttribute("aria-valuemax", 100);
  tell();
  new MutationObserver(tell).observe(handle, { attributes: true, attributeFilter: ["style"] });
}

/** Which of several buttons is chosen, for those who do not see its colour. */
function showPressed(group) {
  for (const button of group.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", button.classList.contains("mod-active"));
  }
}

/** Keeps that up for all such groups among the controls. */
function watchPressed(scope, observe) {
  for (const group of scope.querySelectorAll(".gradcam-controls .widget-toggle-buttons")) {
    const watched = { attributes: true, attributeFilter: ["class"], subtree: true };
    observe(new MutationObserver(() => showPressed(group)), group, watched);
  }
}

/** A class field that opens its whole list: a browser filters the list by the text in the field, so on
 *  focus the text steps aside into the placeholder, and comes back if nothing was chosen. */
function easeClassField(scope, signal) {
  const fieldOf = (event) => event.target.closest?.(".gradcam-class input");
  const options = (field) => [...(field.list?.options ?? [])].map((option) => option.value);
  const before = new WeakMap();
  const restore = (field) => {
    const kept = before.get(field);
    if (!kept) return;
    before.delete(field);
    if (!options(field).includes(field.value)) field.value = kept.value;
    field.placeholder = kept.placeholder;
  };
  const stepAside = (field) => {
    const placeholder = before.get(field)?.placeholder ?? field.placeholder;
    before.set(field, { value: field.value, placeholder });
    field.placeholder = field.value || placeholder;
    field.value = "";
  };
  scope.addEventListener("focusin", (event) => fieldOf(event) && stepAside(fieldOf(event)), { signal });
  scope.addEventListener("focusout", (event) => fieldOf(event) && restore(fieldOf(event)), { signal });
  scope.addEventListener("click", (event) => {
    const field = fieldOf(event);
    if (!field) return;
    if (options(field).includes(field.value)) stepAside(field); // a click after a choice, the focus still here
    if (field.value !== "") return;
    try {
      field.showPicker?.();
    } catch {
      // A browser may refuse to open the list itself; arrow down still does.
    }
  }, { signal });
}

/** What a field has no room for is whole in its title. */
function tellWhole(scope, signal) {
  scope.addEventListener("pointerover", ({ target }) => {
    const field = target.closest?.(".gradcam-controls :is(select, .gradcam-class input)");
    const text = (field?.selectedOptions?.[0]?.text ?? (field?.value || field?.placeholder))?.replaceAll("\u00a0", " ");
    if (field && field.title !== text) field.title = text;
  }, { signal });
}

const ASKING = [".gradcam-picture", ".gradcam-layer-group", ".gradcam-class", ".gradcam-method", ".gradcam-evidence"];

/** Calls `touch` when the user chooses something in a control that asks the kernel; the others need no kernel. */
function watchControls(scope, touch, signal) {
  const asks = (event, what) => event.target.closest?.(what) && event.target.closest(ASKING.join());
  scope.addEventListener("change", (event) => asks(event, "select, input") && touch(), { signal });
  scope.addEventListener("click", (event) => asks(event, "button:not(:disabled)") && touch(), { signal });
}
