/** Numbers and names as people read them. */

const MINUS = "\u2212";

/** Between two facts of a line: where it wraps, the dot stays with the fact before it. */
const JOINT = "\u00a0· ";

/** A number in three significant digits, with a real minus sign: 0.412, 12.3, −0.000530, 2.91e−6.
 *  `short`: in six characters, where there is little room. */
function number(value, short = false) {
  if (!Number.isFinite(value)) return "not a number";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const plain = size >= 1e3 ? String(Math.round(value)) : value.toPrecision(3);
  const text = size >= 1e5 || size < (short ? 1e-2 : 1e-4) ? value.toExponential(short ? 1 : 2) : plain;
  return text.replaceAll("-", MINUS).replace("e+", "e");
}

/** As `number`, with the sign always written. */
const signed = (value) => (value > 0 ? "+" : "") + number(value);

/** A function that writes signed values with one count of decimals, enough for two digits of `most`. */
function alignedFormat(most) {
  const decimals = most > 0 ? Math.ceil(-Math.log10(most)) + 1 : 1;
  const write = (v) => (decimals > 5 ? v.toExponential(1) : v.toFixed(clamp(decimals, 1, 5)));
  return (value) => (value >= 0 ? "+" : "") + write(value).replaceAll("-", MINUS);
}

/** Long names shortened in the middle: both ends of a module's path say something. */
function shorten(text, most = 40) {
  if (text.length <= most) return text;
  const head = Math.ceil((most - 1) / 2);
  return `${text.slice(0, head)}…${text.slice(text.length - (most - 1 - head))}`;
}

/** A layer's name in two short pieces: its last part, and the way there with a letter for each word:
 *  "_blocks.9._project_conv" is "_pro…conv" in "b.9". A number alone is no name: "layer4.1" stays whole. */
function shortName(name) {
  const parts = name.split(".");
  const counted = parts.length > 1 && /^\d+$/.test(parts.at(-1));
  const last = parts.splice(counted ? -2 : -1).join(".");
  const way = parts.map((part) => part.replace(/\p{L}[\p{L}_]*/gu, (word) => word[0]).replaceAll("_", ""));
  return { last: shorten(last, 9), way: shorten(way.join("."), 7) };
}

const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** "12 of 1280 channels give half of the positive evidence" */
function coverageSentence(coverage, evidence, someOff = false) {
  if (!coverage) return "";
  const { channels, of, share } = coverage;
  const part = share === 0.5 ? "half" : `${Math.round(share * 100)} %`;
  const verb = channels === 1 ? "gives" : "give";
  const which = evidence === "counterfactual" ? "evidence against the class" : "positive evidence";
  return `${channels} of ${plural(of, "channel")}${someOff ? " that are on" : ""} ${verb} ${part} of the ${which}`;
}

/** "for Egyptian cat", or "against" it where that is what the map shows. */
const aim = (scene) => `${scene.evidence === "counterfactual" ? "against" : "for"} ${scene.target.label}`;

/** What the map is, in words: "Grad-CAM for Egyptian cat at conv_head". */
function mapName(scene) {
  const method = scene.method.name === "GradCAM" ? "Grad-CAM" : scene.method.name;
  return `${scene.evidence === "signed" ? "signed " : ""}${method} ${aim(scene)} at ${scene.layer.name}`;
}

/** What the colours mean where they do not mean evidence for the class; "" where they do. */
const EVIDENCE = {
  signed: "signed: for the class and against it",
  counterfactual: "counterfactual: against the class",
};

/** A probability; one that rounds to zero is not called zero. */
function chance(value) {
  return value > 0 && value < 0.0005 ? "<0.001" : value.toFixed(3);
}

function milliseconds(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}
