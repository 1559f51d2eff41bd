// Another graph of the same model, compared with this one.

// What a node is in any prompt of the same model: its place counted from the end.
const nameless = (other, row) => {
  const at = other.nodes.position[row] < 0 ? "" : other.tokens.length - other.nodes.position[row];
  const kind = other.nodes.kind[row];
  // A constant's label ends in its token, a group's number is its place in a list.
  const what = kind === "bias" ? other.nodes.label[row].split(" @")[0] : other.nodes[kind === "supernode" ? "label" : "feature"][row];
  return JSON.stringify([kind, other.nodes.layer[row], what, at]);
};

// Of several that are called the same, the second in one is the second in the other.
function namesIn(other) {
  const seen = new Map();
  return other.nodes.kind.map((_, row) => {
    const name = nameless(other, row);
    seen.set(name, (seen.get(name) ?? 0) + 1);
    return `${name} ${seen.get(name)}`;
  });
}

function readOther(text) {
  const page = /^\s*</.test(text) ? new DOMParser().parseFromString(text, "text/html").getElementById("graph")?.textContent : text;
  const other = JSON.parse(page);
  if (!Array.isArray(other?.nodes?.kind)) throw new Error("it has no such columns; a graph of another program becomes one by circuits import, and a page by circuits draw");
  const long = other.nodes.kind.length;
  for (const name of ["layer", "position", "feature", "influence", "label"]) if (other.nodes[name].length !== long) throw new Error(`its nodes have ${long} kinds and ${other.nodes[name].length} of ${name}`);
  if (!Array.isArray(other.tokens) || other.edges.source.length !== other.edges.target.length) throw new Error("tokens or edges are missing");
  // In what was saved, edges speak of rows of the whole graph.
  const rows = other.nodes.row ?? other.nodes.kind.map((_, row) => row);
  other.at = new Map(rows.map((row, i) => [row, i]));
  return other;
}

function compare(other) {
  const [mine, its] = [namesIn(graph), namesIn(other)];
  const [here, there] = [mine, its].map((called) => new Map(called.map((name, row) => [name, row])));
  const both = [...here].filter(([name]) => there.has(name)).map(([name, row]) => ({ row, other: there.get(name) }));
  const edgeNames = (one, called) => new Set(one.edges.source.map((s, e) => `${called(s)} ${called(one.edges.target[e])}`));
  const ours = edgeNames(graph, (row) => mine[row]);
  const theirs = edgeNames(other, (row) => its[other.at.get(row)]);
  // Weighted Jaccard of influence: what both say of a node, over what either says.
  const of = (value) => Math.max(value ?? 0, 0);
  const less = both.reduce((total, { row, other: twin }) => total + Math.min(of(nodes.influence[row]), of(other.nodes.influence[twin])), 0);
  const all = [...nodes.influence, ...other.nodes.influence].reduce((total, value) => total + of(value), 0);
  return {
    both,
    here: [...here].filter(([name]) => !there.has(name)).map(([, row]) => row),
    there: [...there].filter(([name]) => !here.has(name)).map(([, row]) => row).sort((a, b) => of(other.nodes.influence[b]) - of(other.nodes.influence[a])),
    edges: { both: [...ours].filter((name) => theirs.has(name)).length, here: ours.size, there: theirs.size },
    overlap: all > less ? less / (all - less) : null,
  };
}

// What two graphs were made with, by content, else by name: in words where it is not the same.
function differing(other, what) {
  const sides = [graph.made, other.made ?? {}];
  const by = sides.every((made) => made[`${what}_hash`]) ? `${what}_hash` : what;
  const [one, two] = sides.map((made) => made[by]);
  return one && two && one !== two ? `Made with another ${what}, ${String(sides[1][what] ?? two).split("/").pop()}: the same number is another unit there.` : "";
}

function closeBeside() {
  document.getElementById("beside").hidden = true;
  document.querySelectorAll("#other, #stored").forEach((box) => (box.value = ""));
  spot = null;
  state.beside = "";
  writeAddress();
  highlight();
}

function openBeside() {
  const section = document.getElementById("beside");
  section.hidden = false;
  section.dataset.of = state.beside;
  section.replaceChildren(make("button", { type: "button", class: "close", "aria-label": "close", click: closeBeside }, "×"));
  return section;
}

function failBeside(words, ...more) {
  const section = openBeside();
  section.append(make("p", { class: "failed", role: "alert" }, words), ...more);
  section.scrollIntoView({ block: "nearest" });
}

// asked: it was asked for just now, and is brought into sight; else it stands in the address of a page that opens.
function showBeside(text, name, asked = true) {
  let other;
  let found;
  try {
    other = readOther(text);
    found = compare(other);
  } catch (fault) {
    failBeside(`${name} could not be compared: wanted is a graph's page, or JSON saved from one (${fault.message}).`);
    return;
  }
  const light = (rows, words) => make("button", { type: "button", click: () => { spot = rows; highlight(); svg.scrollIntoView({ block: "nearest" }); } }, words);
  const change = (pair) => (other.nodes.influence[pair.other] ?? 0) - (nodes.influence[pair.row] ?? 0);
  const moved = found.both.filter((pair) => change(pair) !== 0).sort((a, b) => Math.abs(change(b)) - Math.abs(change(a))).slice(0, FEW);
  const at = (row) => (other.nodes.position[row] >= 0 ? ` @${String(other.tokens[other.nodes.position[row]]).trim()}` : "");
  const apart = ["model", "transcoders"].map((what) => differing(other, what)).find(Boolean);
  const part = graph.served?.rows || other.served?.rows ? " Of a large graph, the part on its page is compared: circuits diff compares the whole." : "";
  const rowsOrNone = (rows) => (rows.length ? make("table", {}, ...rows) : make("p", { class: "quiet" }, "none"));
  const section = openBeside();
  section.append(
    make("h2", {}, "Beside ", `“${other.prompt}”`),
    make("p", {}, light(found.both.map((pair) => pair.row), `${found.both.length} nodes in both`), " ", light(found.here, `${found.here.length} only here`), ` ${found.there.length} only there; edges: ${found.edges.both} in both, ${found.edges.here - found.edges.both} only here, ${found.edges.there - found.edges.both} only there; overlap of influence ${found.overlap === null ? "undefined" : found.overlap.toFixed(2)}`),
    ...(apart ? [make("p", { class: "failed" }, apart)] : []),
    make("p", { class: "quiet" }, `A node is the same in both when kind, layer, unit and place counted from the end are. Overlap: the lesser of both influences over the greater, summed over all nodes. How much two prompts of one kind differ anyway, this does not say.${part}`),
    make("div", { class: "sides" },
      make("div", {}, make("h3", {}, "Influence moves most, here → there"), rowsOrNone(moved.map((pair) => line(pair.row, [make("td", {}, goTo(pair.row)), figure(`${percent(nodes.influence[pair.row])} → ${percent(other.nodes.influence[pair.other])}`)])))),
      make("div", {}, make("h3", {}, "Only there"), rowsOrNone(found.there.slice(0, FEW).map((row) => make("tr", {}, make("td", {}, `${other.nodes.label[row] || other.nodes.kind[row]} L${other.nodes.layer[row]}${at(row)}`), figure(percent(other.nodes.influence[row])))))),
    ),
  );
  if (asked) section.scrollIntoView({ block: "nearest" }); // it lies far below what was clicked
}
