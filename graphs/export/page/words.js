// Numbers and names as they are said.

const LONG = 80; // letters of a name in a list
const percent = (x, digits = 1) => (x === null ? "undefined" : `${(100 * x).toFixed(digits)}%`);
const signed = (words) => (words.startsWith("-") ? `−${words.slice(1)}` : `+${words}`);
const likely = (row, digits) => (isContrast(row) ? `${signed(nodes.value[row].toFixed(1))} logits` : percent(nodes.activation[row], digits));
const signedPercent = (x) => (x === null ? "" : signed(percent(x)));

const whole = (x) => x.toLocaleString("en");
const score = (x) => (Number.isFinite(x) ? x.toFixed(2) : "undefined");

function number(x) {
  if (x === null || x === undefined) return "undefined";
  const size = Math.abs(x);
  const words = x === 0 ? "0" : size >= 1e5 || size < 1e-3 ? x.toExponential(1) : String(Number(x.toPrecision(3)));
  return words.replace("-", "−");
}

function exactly(x) {
  // A column that adds up: as many decimals in each row.
  return x === null ? "undefined" : signed(x.toFixed(3));
}

// Three digits, as in the address: a page that is opened again shows the same.
const rounded = (value) => Number(value.toPrecision(3));
// A long name loses its middle: it ends in where the node is.
const brief = (name) => (name.length <= LONG ? name : `${Array.from(name).slice(0, LONG - 25).join("")}…${Array.from(name).slice(-22).join("")}`);
const clip = (words, most) => (words.length <= most ? words : `${words.slice(0, most - 1)}…`);
