// What is on view, saved.

const MOST_DOTS = 16000; // across a canvas

// The picture as it is on view, with the figures for what is not: colours spelled out, nothing of this page needed.
function shownSvg() {
  rest();
  const copy = svg.cloneNode(true);
  copy.querySelectorAll(".gone, .hit, .drag, .lit, .extent").forEach((mark) => mark.remove());
  const colours = getComputedStyle(document.documentElement);
  const [quiet, ink] = ["--quiet", "--ink"].map((name) => colours.getPropertyValue(name).trim());
  copy.querySelectorAll(".ring").forEach((mark) => fill(mark, { fill: "none", stroke: ink, "stroke-width": 1.6 }, []));
  copy.querySelectorAll(".found").forEach((mark) => fill(mark, { stroke: ink, "stroke-width": 3 }, []));
  for (const mark of [copy, ...copy.querySelectorAll("*")]) {
    for (const name of ["fill", "stroke"]) if (mark.hasAttribute(name)) mark.setAttribute(name, colourOf(mark.getAttribute(name)));
    for (const name of ["class", "style", "tabindex", "role", "data-row", "data-edge"]) mark.removeAttribute(name);
  }
  copy.querySelectorAll("g > path:not([fill]):not([stroke])").forEach((hull) => {
    for (const [name, value] of Object.entries({ fill: quiet, stroke: quiet, "stroke-width": 26, "stroke-linejoin": "round", opacity: 0.13 })) hull.setAttribute(name, value);
    hull.nextElementSibling?.setAttribute("font-size", "9");
    hull.nextElementSibling?.setAttribute("fill", quiet);
  });
  const lines = inLines([document.title, ...factsInWords(), document.getElementById("counts").textContent], natural - 36);
  const high = tall + 16 * lines.length + 8;
  lines.forEach((words, i) => copy.append(draw("text", { x: 18, y: tall + 14 + 16 * i, "font-size": 11, fill: ink }, words)));
  copy.setAttribute("height", high);
  copy.setAttribute("viewBox", `0 0 ${natural} ${high}`);
  copy.querySelector("rect")?.setAttribute("height", high);
  return new XMLSerializer().serializeToString(copy);
}

// What the page says above the picture: sentences, and rows of parts after a word that leads them.
const factsInWords = () => [...document.querySelectorAll("#facts p")].map((said) => {
  const parts = [...said.childNodes].map((part) => part.textContent).filter((words) => words.trim());
  return said.matches(".row") ? `${parts[0]} ${parts.slice(1).join(" · ")}` : parts.join("");
});

// Broken between words, and within one that is longer than a line.
function inLines(texts, wide) {
  const fits = (words) => widthOf(words, "11px Helvetica, Arial, sans-serif") <= wide;
  return texts.flatMap((text) => text.split(/(?<=\s)/).reduce((lines, word) => {
    if (lines.at(-1) && !fits(lines.at(-1) + word)) lines.push("");
    for (const letter of word) {
      if (lines.at(-1) && !fits(lines.at(-1) + letter)) lines.push("");
      lines[lines.length - 1] += letter;
    }
    return lines;
  }, [""]));
}

// The part of the graph that is on view, in the columns of this page's own data; rows are those of the whole.
function shownGraph() {
  const rows = range(count).filter((row) => nodeShown[row]);
  const left = range(edges.source.length).filter((e) => edgeShown[e]);
  const pick = (columns, which) => Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, which.map((i) => column[i])]));
  return {
    prompt: graph.prompt,
    tokens: graph.tokens,
    nodes: { row: rows, ...pick(nodes, rows) },
    edges: pick(edges, left),
    goal: rows.map((row) => goal[row]),
    groups: state.groups.map((each) => [each.name, ...each.rows]),
    shown: { least: state.least, share: state.share, dense: state.dense, replacement: replacement(edgeShown), whole: unsifted },
    made: graph.made,
  };
}

function save(blob, ending) {
  const address = URL.createObjectURL(blob);
  const name = graph.prompt.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "graph";
  make("a", { href: address, download: `${name}.${ending}` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

function savePng() {
  const image = new Image();
  const address = URL.createObjectURL(new Blob([shownSvg()], { type: "image/svg+xml" }));
  image.addEventListener("load", () => {
    // Two dots to a point, or as many as a canvas may have.
    const fine = Math.min(2, MOST_DOTS / Math.max(image.width, image.height));
    const canvas = make("canvas", { width: Math.round(fine * image.width), height: Math.round(fine * image.height) });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    URL.revokeObjectURL(address);
    canvas.toBlob((blob) => save(blob, "png"));
  });
  image.src = address;
}
