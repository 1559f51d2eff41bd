// What tables are made of.

const spaced = (words) => make("span", { class: "quiet" }, ` ${words}`);
const figure = (words, kind = "") => make("td", { class: `figure ${kind}` }, words);

function bar(share, most) {
  const width = Math.min(100, (100 * Math.abs(share)) / Math.max(most, 1e-9));
  return make("td", { class: "bar", "aria-hidden": "true" }, make("span", { class: share < 0 ? "down" : "up", style: `width:${width.toFixed(1)}%` }));
}

const head = (...cells) => make("tr", {}, ...cells.map(([words, kind]) => make("th", { class: kind ?? "" }, words)));
