/** What the view has asked of the kernel, and whether it must be waited for. */

const LATE_MS = 200; // an answer that takes longer is waited for in words
const SOON_MS = 100; // after which the kernel is asked whether it has come to what a control asked of it

/**
 * Requests, each answered by the kernel in the trait `answered`, in the order in which they were sent.
 *
 * Of the choices of one kind only one is on its way at a time: what is chosen meanwhile is held, the last of it is
 * sent when the answer comes, and the rest never. So a slow kernel is at most one answer behind the user's hand.
 *
 * `show(late)`: called when the kernel begins to be late, and when it no longer is. `isApart()`: whether there is no
 * kernel to ask; then nothing is asked.
 */
function requestPart({ model, signal, show, isApart }) {
  const own = Math.random().toString(36).slice(2, 10); // other views of this widget have requests of their own
  const sent = new Map(); // request -> {type, at}
  const held = new Map(); // type -> message
  let count = 0;
  let late = false;
  let lateTimer = 0;
  let touched = false; // a control beside the view was, and nothing has come of it yet
  let touchTimer = 0;

  const isSent = (type) => [...sent.values()].some((request) => request.type === type);

  function send(message) {
    if (isApart()) return;
    const request = `${own}-${++count}`;
    sent.set(request, { type: message.type, at: performance.now() });
    model.send({ ...message, request });
    if (isApart()) return; // as sending has shown
    if (!late) lateTimer ||= setTimeout(() => tell(true), LATE_MS);
  }

  function tell(now) {
    clearTimeout(lateTimer);
    lateTimer = 0;
    if (late === now) return;
    late = now;
    show(late);
  }

  /** Asks, where a control was touched and nothing has come, whether the kernel has come to it. */
  function inquire() {
    touchTimer = 0;
    if (touched && !isSent("wait")) send({ type: "wait" });
  }

  signal.addEventListener("abort", () => {
    clearTimeout(lateTimer);
    clearTimeout(touchTimer);
  });

  return {
    /** There is nobody to answer: nothing is waited for. */
    forget() {
      held.clear();
      sent.clear();
      touched = false;
      clearTimeout(touchTimer);
      tell(false);
    },
    /** Sends a choice of the user's, or holds it where one of its kind is on its way. */
    choose(message) {
      if (isSent(message.type)) held.set(message.type, message);
      else send(message);
    },
    /** Sends at once. */
    send,
    /** Whether choices of this kind have not been answered yet. */
    isOpen: (type) => isSent(type) || held.has(type),
    /** A control beside the view was touched: it tells the kernel by itself, and overrules what is held. */
    touch() {
      held.clear();
      touched = true;
      clearTimeout(touchTimer);
      touchTimer = setTimeout(inquire, SOON_MS);
    },
    /** Something has come from the kernel that a choice could have led to. */
    arrive() {
      touched = false;
      clearTimeout(touchTimer);
    },
    /** The kernel has answered; whether it was a request of this view's. */
    answer() {
      const answered = model.get("answered");
      if (!sent.has(answered)) return false;
      const { type, at } = sent.get(answered);
      for (const request of [...sent.keys()]) {
        sent.delete(request);
        if (request === answered) break;
      }
      for (const message of [...held.values()].filter((message) => !isSent(message.type))) {
        held.delete(message.type);
        send(message);
      }
      if (type === "wait" && touched && performance.now() - at > LATE_MS) touchTimer = setTimeout(inquire, SOON_MS);
      if (sent.size === 0) tell(false);
      return true;
    },
  };
}
