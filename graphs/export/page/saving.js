// What is on view, saved.

// The picture as it is on view, with the figures for what is not: colours spelled out, nothing of this page needed.
function shownSvg() {
  rest();
  const copy = svg.cloneNode(true);
  copy.querySelectorAll(".gone, .hit, .drag, .lit, .extent").forEach((mark) => mark.remove());
  const colours = getComputedStyle(document.documentElement);
  for (const mark of [copy, ...copy.querySelectorAll("*")]) {
    for (const name of ["fill", "stroke"]) if (mark.hasAttribute(name)) mark.setAttribute(name, colourOf(mark.getAttribute(name)));
    for (const name of ["class", "style", "tabindex", "role", "data-row", "data-edge"]) mark.removeAttribute(name);
  }
  const quiet = colours.getPropertyValue("--quiet").trim();
  copy.querySelectorAll("g > path:not([fill]):not([stroke])").forEach((hull) => {
    for (const [name, value] of Object.entries({ fill: quiet, stroke: quiet, "stroke-width": 26, "stroke-linejoin": "round", opacity: 0.13 })) hull.setAttribute(name, value);
    hull.nextElementSibling?.setAttribute("font-size", "9");
    hull.nextElementSibling?.setAttribute("fill", quiet);
  });
  const high = Number(svg.getAttribute("height"));
  const said = [document.title, document.getElementById("counts").textContent];
  said.forEach((words, i) => copy.append(draw("text", { x: 18, y: high + 14 + 16 * i, "font-size": 11, fill: colours.getPropertyValue("--ink").trim() }, words)));
  copy.setAttribute("height", high + 40);
  copy.setAttribute("viewBox", `0 0 ${natural} ${high + 40}`);
  const paper = copy.querySelector("rect");
  paper?.setAttribute("height", high + 40);
  return new XMLSerializer().serializeToString(copy);
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
    const canvas = make("canvas", { width: 2 * image.width, height: 2 * image.height });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    URL.revokeObjectURL(address);
    canvas.toBlob((blob) => save(blob, "png"));
  });
  image.src = address;
}
