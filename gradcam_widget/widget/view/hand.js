/** The user's hand among kept scenes: what it has come to is told to the kernel once, when it rests. */

/**
 * `tell(wish)`: called when the hand rests, with {layer: name, target: class index} or one of them. `stays()`: whether
 * the hand goes on by itself, as while the layers are played; then nothing is told.
 */
function handPart({ tell, stays, signal }) {
  let wish = null; // what the kernel has not been told
  let timer = 0;

  function rest() {
    clearTimeout(timer);
    if (!wish) return;
    if (stays()) {
      timer = setTimeout(rest, REST_MS);
      return;
    }
    flush();
  }

  function flush() {
    clearTimeout(timer);
    const told = wish;
    wish = null;
    if (told) tell(told);
  }

  signal.addEventListener("abort", () => clearTimeout(timer));
  addEventListener("pagehide", flush, { signal }); // the page may come back, and shows then what the kernel holds

  return {
    /** The hand has come to a kept scene. */
    move(next) {
      wish = { ...wish, ...next };
      clearTimeout(timer);
      timer = setTimeout(rest, REST_MS);
    },
    /** Tells at once what is to be told: something follows that is about it. */
    flush,
    /** The kernel need not be told. */
    forget() {
      clearTimeout(timer);
      wish = null;
    },
    isMoving: () => wish !== null,
  };
}
