// The panel beside the picture: about one node, else an overview.

const panel = document.getElementById("panel");
const extras = []; // of a page that is served: row -> more about a node, or null -> more of the overview

const KEYS = [
  ["↑ ↓", "to the strongest output, the strongest input"],
  ["← →", "to its neighbours"],
  ["/", "find; Enter goes to the first that is found"],
  ["g g", "at one node, then at another: group the two, as dragging does"],
  ["u", "take the last grouping back"],
  ["Esc", "back to this overview"],
];

function showPanel() {
  renew(panel, ...(state.node !== null ? about(state.node) : state.edge !== null ? aboutEdge(state.edge) : overview()));
}

function overview() {
  const parts = [];
  const found = matches();
  if (found) {
    parts.push(make("h2", {}, `${found.length} ${found.length === 1 ? "node" : "nodes"} with “${state.find.trim()}”`));
    parts.push(make("ul", {}, ...found.slice(0, 40).map((row) => make("li", {}, goTo(row), spaced(nodes.kind[row])))));
    if (found.length > 40) parts.push(make("p", { class: "quiet" }, `and ${found.length - 40} more: type more letters`));
  }
  if (graph.paths.length) {
    const sum = graph.paths.reduce((total, path) => total + path.influence, 0);
    parts.push(make("h3", {}, `The ${graph.paths.length} strongest paths from a token to the answer carry ${percent(sum, 0)}`));
    parts.push(make("table", {}, ...graph.paths.map(pathLine)));
  }
  const strongest = range(count)
    .filter((row) => !ALWAYS.has(nodes.kind[row]) && nodes.influence[row] > 0)
    .sort((a, b) => nodes.influence[b] - nodes.influence[a])
    .slice(0, 10);
  parts.push(make("h3", {}, "What carries most"));
  parts.push(
    make("div", { class: "scroll" }, make("table", {}, ...strongest.map((row) =>
      line(row, [make("td", {}, goTo(row)), figure(percent(nodes.influence[row])), tested(row)]),
    ))),
  );
  parts.push(make("h3", {}, "How to ask"), make("p", { class: "quiet" }, "Hover a node for what comes in and goes out. Click it to pin it, or an edge to see what was measured of it."));
  parts.push(make("dl", { class: "facts quiet" }, ...KEYS.flatMap(([keys, what]) => [make("dt", {}, ...keys.split(" ").map((key) => make("kbd", {}, key))), make("dd", {}, what)])));
  parts.push(...extras.flatMap((more) => more(null)), made());
  return parts;
}

function pathLine(path, index) {
  const words = path.nodes.map((row, i) => [
    i === 0 ? "" : make("span", { class: path.shares[i - 1] < 0 ? "lower" : "raise" }, path.shares[i - 1] < 0 ? " ⊣ " : " ▸ "),
    brief(names[row]),
  ]);
  const show = (event) => {
    event.stopPropagation();
    state.path = state.path === index ? null : index;
    state.edge = null;
    refresh();
  };
  const button = make("button", { type: "button", click: show, "aria-pressed": String(state.path === index) }, ...words);
  return make("tr", { class: state.path === index ? "go chosen" : "go", click: show }, figure(percent(path.influence)), make("td", {}, button));
}

function made() {
  const about = { ...graph.made };
  return make("details", {}, make("summary", { class: "quiet" }, "how this graph was made"), make("pre", {}, JSON.stringify({ ...about, kept: graph.kept, scores: graph.scores }, null, 1)));
}
