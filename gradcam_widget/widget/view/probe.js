/** What the channels add at a cell: asked of the kernel when a cell is first looked at, and kept for the scene. */

/** Terms by cell. `tell`: called when some have come. */
function termsPart({ model, signal }, tell) {
  let base = null; // the scene that they belong to
  let cells = new Map(); // cell, counted row by row -> Float32Array (K,)
  let asked = null; // the cell that is on its way
  let wanted = null; // the last one that was looked at meanwhile
  let latest = 0;

  function ask(cell) {
    asked = cell;
    wanted = null;
    model.send({ type: "terms", base, cell });
  }

  return {
    /** The terms (K,) at a cell of a scene; null where they are not here yet, and then the kernel is asked. One
     *  question is on its way at a time, so that a pointer that crosses many cells asks for few. */
    at(scene, cell) {
      if (!scene?.method.terms) return null;
      if (baseOf(scene) !== base) {
        [base, cells, asked, wanted] = [baseOf(scene), new Map(), null, null];
        if (model.get("terms")?.revision === base) {
          asked = -1; // they are here already, as after a reload of the page
          this.refresh();
        }
      }
      const found = cells.get(cell) ?? null;
      if (!found && asked === null) ask(cell);
      else if (!found && asked !== cell) wanted = cell;
      return found;
    },
    async refresh() {
      const message = model.get("terms");
      if (!hasBytes(message?.data)) return;
      const ticket = ++latest;
      const found = await decodeTerms(message).catch((error) => {
        console.error("gradcam_widget:", error);
        return new Map();
      });
      if (ticket !== latest || signal.aborted || message.revision !== base) return;
      for (const [cell, values] of found) cells.set(cell, values);
      const next = wanted;
      if (asked === -1 || found.has(asked)) asked = null;
      if (asked === null && next !== null && !cells.has(next)) ask(next);
      tell();
    },
  };
}

/** The largest terms at a cell, as lines of words, and what the other channels add together. `isOn`: of a channel. */
function strongest(terms, isOn, count = 3) {
  const on = [...terms.keys()].filter(isOn);
  const best = [];
  for (const k of on) {
    const size = Math.abs(terms[k]);
    if (size === 0 || (best.length === count && size <= Math.abs(terms[best[count - 1]]))) continue;
    best.push(k);
    best.sort((a, b) => Math.abs(terms[b]) - Math.abs(terms[a]) || a - b);
    best.length = Math.min(best.length, count);
  }
  const sum = on.reduce((total, k) => total + terms[k], 0);
  const rest = best.reduce((total, k) => total - terms[k], sum);
  const lines = best.map((k) => [`#${k}`, signed(terms[k])]);
  if (on.length > best.length) lines.push([`${on.length - best.length} more`, signed(rest)]);
  return { lines, sum };
}

/** [left, top, right, bottom] in pixels of the picture that a cell sees, cut at its edges: the receptive field round
 *  the middle of the cell. Null where it is not known, or is all of the picture. */
function fieldOf([row, col], scene, { width, height }) {
  const field = scene.layer.receptive_field;
  if (!field || (field[0] >= height && field[1] >= width)) return null;
  const span = (index, count, size, length) => {
    const middle = ((index + 0.5) * size) / count;
    return [Math.max(0, middle - length / 2), Math.min(size, middle + length / 2)];
  };
  const [top, bottom] = span(row, scene.rows, height, field[0]);
  const [left, right] = span(col, scene.cols, width, field[1]);
  return [left, top, right, bottom];
}

/** "91 × 91 px" or "the whole picture"; "" where it is not known. */
function fieldWords(scene, picture) {
  const field = scene?.layer.receptive_field;
  if (!field || !picture) return "";
  if (field[0] >= picture.height && field[1] >= picture.width) return "the whole picture";
  return `${field[0]} × ${field[1]} px`;
}
