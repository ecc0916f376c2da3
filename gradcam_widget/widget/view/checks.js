/** The panel "Is it true?": a check is chosen, its cost is told, it runs when asked to, and what it found is shown. */

/** What a check found: the verdict in words, its numbers as a table, the figure in the colours of the theme. */
function foundPart() {
  const verdict = h("p", { class: "gcw-verdict" });
  const about = h("p", { class: "gcw-about" });
  const head = h("thead");
  const body = h("tbody");
  const table = h("table", { class: "gcw-numbers" }, h("caption", { class: "gcw-hidden" }, "What was measured"), head, body);
  const pictures = ["light", "dark"].map((theme) => h("img", { class: `gcw-figure gcw-figure-${theme}`, hidden: true }));
  const words = h("div", { class: "gcw-found-words" }, verdict, table, about);
  const element = h("div", { class: "gcw-found", hidden: true }, words, h("div", { class: "gcw-found-figure" }, ...pictures));
  let addresses = [];
  const release = () => { addresses.forEach((address) => URL.revokeObjectURL(address)); addresses = []; };
  return {
    element,
    release,
    show(result) {
      element.hidden = !result?.verdict;
      release();
      verdict.textContent = result?.verdict ?? "";
      about.textContent = result?.about ?? "";
      const columns = result?.columns ?? [];
      const titled = columns.some(Boolean);
      head.replaceChildren(...(titled ? [h("tr", {}, h("td"), ...columns.map((name) => h("th", { scope: "col" }, name)))] : []));
      body.replaceChildren(...(result?.rows ?? []).map(([title, ...values]) => {
        const label = h("th", { scope: "row", title }, title);
        return h("tr", {}, label, ...values.map((value) => h("td", {}, value)));
      }));
      pictures.forEach((picture, i) => {
        const data = result?.[i === 0 ? "light" : "dark"];
        picture.hidden = !hasBytes(data);
        if (picture.hidden) {
          picture.removeAttribute("src");
          return;
        }
        const address = URL.createObjectURL(new Blob([bytesOf(data)], { type: "image/png" }));
        addresses.push(address);
        picture.src = address;
        picture.alt = `Figure of the check. ${result.verdict}`;
        picture.width = result.width;
        picture.height = result.height;
      });
    },
  };
}

function render({ model, el }) {
  const stop = new AbortController();
  const { signal } = stop;
  const id = `gcw-checks-${Math.random().toString(36).slice(2)}`;
  const toggle = h("button", { class: "gcw-disclose", type: "button", "aria-controls": id }, "Is it true?");
  const choice = h("select", { "aria-label": "Check" });
  const question = h("span", { class: "gcw-question" });
  const button = h("button", { class: "gcw-button gcw-check-run", type: "button" });
  const bar = h("progress", { class: "gcw-progress gcw-check-progress", "aria-label": "done of the check" });
  const cost = h("span", { class: "gcw-check-cost" });
  const notice = noticePart();
  notice.element.className = "gcw-check-notice"; // that of the picture is another one
  const found = foundPart();
  const live = h("div", { class: "gcw-hidden gcw-check-live", "aria-live": "polite" });
  const row = h("div", { class: "gcw-check-row" }, h("label", { class: "gcw-check-choice" }, h("span", {}, "Check"), choice), button, bar, cost);
  const none = h("p", { class: "gcw-unchecked" });
  const body = h("div", { class: "gcw-check-body", id, role: "group", "aria-label": "Checks of the map" }, row, question, notice.element, none, found.element);
  const root = h("div", { class: "gcw gcw-checks" }, toggle, body, live);
  el.append(root);

  const isOpen = () => Boolean(model.get("opened"));
  const rowOf = () => (model.get("checks") ?? []).find(({ name }) => name === model.get("check"));
  let stopping = false; // Cancel was pressed; the kernel follows within a batch
  let asking = false; // Run was pressed, and the kernel has not answered yet

  function showOpen() {
    toggle.setAttribute("aria-expanded", isOpen());
    body.hidden = !isOpen();
  }

  function showChecks() {
    const rows = model.get("checks") ?? [];
    const names = rows.map(({ name }) => name).join();
    if (choice.dataset.names !== names) {
      choice.dataset.names = names;
      choice.replaceChildren(...rows.map(({ name, title }) => h("option", { value: name }, title)));
    }
    choice.value = model.get("check");
    question.textContent = rowOf()?.question ?? "";
    showTask();
  }

  function showTask() {
    const task = model.get("task") ?? {};
    const running = asking || (Number.isFinite(task.done) && !stopping);
    if (!Number.isFinite(task.done)) stopping = false;
    const was = button.textContent;
    button.textContent = running ? "Cancel" : "Run";
    button.disabled = !running && !rowOf()?.cost;
    bar.hidden = !running;
    if (task.total) {
      bar.max = task.total;
      bar.value = task.done;
    } else {
      bar.removeAttribute("value"); // it has begun
    }
    cost.textContent = running ? (task.total ? `${task.done} of ${task.total}` : "begins") : rowOf()?.cost ?? "";
    none.hidden = running || Boolean(model.get("result")?.verdict) || Boolean(model.get("notice")?.message);
    none.textContent = rowOf()?.cost ? "Not run for the map on show." : "There is no map on show.";
    if (was && was !== button.textContent && running) live.textContent = "The check runs.";
  }

  function showResult() {
    const result = model.get("result");
    found.show(result);
    showTask();
    if (isOpen() && result?.verdict) live.textContent = result.verdict;
  }

  toggle.addEventListener("click", () => {
    model.set("opened", !isOpen());
    model.save_changes();
    showOpen();
  }, { signal });
  choice.addEventListener("change", () => {
    asking = false;
    model.set("check", choice.value);
    model.save_changes();
    showChecks();
  }, { signal });
  button.addEventListener("click", () => {
    const cancel = button.textContent === "Cancel";
    stopping = cancel;
    asking = !cancel;
    model.send({ type: cancel ? "cancel" : "run" });
    showTask();
  }, { signal });

  const heard = (act) => () => { asking = false; act(); };
  const listeners = [
    ["change:opened", showOpen],
    ["change:checks", showChecks],
    ["change:check", showChecks],
    ["change:task", heard(showTask)],
    ["change:result", heard(showResult)],
    ["change:notice", heard(() => { notice.show(model.get("notice")); showTask(); })],
  ];
  for (const [name, act] of listeners) model.on(name, act);

  const retheme = () => applyTheme([root]);
  const observers = [];
  const observe = (observer, ...args) => { observer.observe(...args); observers.push(observer); };
  observe(new ResizeObserver(() => {
    root.dataset.layout = root.clientWidth >= 860 ? "wide" : "narrow";
    retheme();
  }), root);
  watchTheme(retheme, observe);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", retheme, { signal });

  adopt(root);
  retheme();
  showOpen();
  showChecks();
  showResult();
  notice.show(model.get("notice"));
  const sent = model.get("result");
  model.send({ type: "ready", complete: !sent?.verdict || hasBytes(sent.light) });

  return () => {
    stop.abort();
    for (const [name, act] of listeners) model.off(name, act);
    for (const observer of observers) observer.disconnect();
    found.release();
    root.remove();
  };
}

export default { render };
