/** What it cost, what went wrong, what would take long. */

/** Foot: what it cost, in one grey line. */
function statusPart() {
  const cost = h("span");
  const waiting = h("span", { class: "gcw-waiting" }, "waiting for the kernel");
  const note = h("span", { class: "gcw-note" });
  return {
    element: h("div", { class: "gcw-status" }, cost, waiting, note),
    show(status) {
      cost.textContent = status ? `${status.device} · ${status.passes}, ${milliseconds(status.milliseconds)}` : "";
      note.textContent = status?.note ?? "";
    },
  };
}

/** An error in words, above the picture; or why what is on show is out of date. */
function noticePart() {
  const element = h("div", { class: "gcw-notice", role: "alert" });
  let stale = false;
  return {
    element,
    /** Whether what is shown does not belong to the selection. */
    isStale: () => stale,
    show(notice) {
      stale = Boolean(notice?.stale);
      element.classList.toggle("gcw-news", Boolean(notice?.news));
      // Written only where it changed: an alert that is written again is read aloud again.
      const lines = notice?.title || notice?.message ? [notice.title, notice.message].filter(Boolean) : [];
      if (lines.join("\n") === [...element.children].map((child) => child.textContent).join("\n")) return;
      element.replaceChildren(...lines.map((line, i) => h(i === 0 ? "strong" : "span", {}, line)));
    },
  };
}

/** Many passes that a map needs: their number and a button first, then how far they are and a way to stop. */
function taskPart({ send, say, signal }) {
  const words = h("span", { class: "gcw-words" });
  const bar = h("progress", { class: "gcw-progress", "aria-label": "passes done" });
  const button = h("button", { class: "gcw-button", type: "button" });
  const element = h("div", { class: "gcw-task", role: "group", "aria-label": "Many passes", hidden: true }, words, bar, button);
  let state = "none";
  button.addEventListener("click", () => {
    send({ type: state === "running" ? "cancel" : "compute" });
  }, { signal });
  return {
    element,
    show(task) {
      const { method, cost, total, done } = task ?? {};
      const before = state;
      state = !total ? "none" : Number.isFinite(done) ? "running" : "waiting";
      element.hidden = state === "none";
      if (state === "none") return;
      bar.hidden = state !== "running";
      bar.max = total;
      bar.value = done ?? 0;
      words.textContent = state === "running" ? `${method}: ${done} of ${plural(total, "pass", "passes")}` : `${method} needs ${cost}.`;
      button.textContent = state === "running" ? "Cancel" : `Compute ${plural(total, "pass", "passes")}`;
      if (state !== before) say(words.textContent);
    },
  };
}
