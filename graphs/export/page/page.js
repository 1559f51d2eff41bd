"use strict";
// The picture on the page, made to answer questions. Every text from the graph goes in as a text node, never as markup.

window.addEventListener("error", (event) => {
  const fault = document.getElementById("fault");
  fault.hidden = false;
  fault.textContent = `A fault of this page, not of the graph: ${event.message} (line ${event.lineno} of its script).`;
});

const graph = JSON.parse(document.getElementById("graph").textContent);
const { nodes, edges, goal, names, assay } = graph;
const svg = document.querySelector("#picture svg");
const panel = document.getElementById("panel");
const count = nodes.kind.length;
const FEW = 12; // rows of a table before the rest is asked for
const ALWAYS = new Set(["token", "logit"]); // shown whatever they carry

// A comma alone is no name, unless it is quoted.
const speaks = (words) => /[\p{L}\p{N}]/u.test(words);
names.forEach((name, row) => {
  if (!speaks(name)) names[row] = `"${name}"`;
});

const range = (n) => Array.from({ length: n }, (_, i) => i);
const inputs = range(count).map(() => []); // edges by target, and by source
const outputs = range(count).map(() => []);
edges.target.forEach((t, e) => inputs[t].push(e));
edges.source.forEach((s, e) => outputs[s].push(e));
const isBias = (e) => nodes.kind[edges.source[e]] === "bias";

// What stands in the address after "#": node, least (influence), share (of input), find, live or held, zoom.
const state = { node: null, least: 0, share: 0, find: "", path: null, held: false, zoom: null };
let hovered = null;

// --- words ---

const percent = (x, digits = 1) => (x === null ? "undefined" : `${(100 * x).toFixed(digits)}%`);
const signed = (words) => (words.startsWith("-") ? `−${words.slice(1)}` : `+${words}`);
const signedPercent = (x) => (x === null ? "" : signed(percent(x)));

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

// --- elements ---

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null)); // a string becomes a text node
  return element;
}
const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const nodeMark = range(count).map((row) => svg.querySelector(`#n${row}`));
const nodeLabel = range(count).map((row) => svg.querySelector(`#l${row}`));
const edgeMark = range(edges.source.length).map((e) => svg.querySelector(`#e${edges.source[e]}-${edges.target[e]}`));
const onPicture = nodeMark.filter(Boolean).length;
const drawnEdges = edgeMark.filter(Boolean).length;
const place = nodeMark.map((mark) => {
  if (!mark) return null;
  const box = mark.getBBox();
  return { x: box.x + box.width / 2, y: box.y + box.height / 2, reach: Math.max(box.width, box.height) / 2 };
});
const ring = draw("circle", { class: "ring gone" });
const bed = draw("g", { class: "edges" }); // all edges, dimmed as one: thousands that fade one by one take seconds
const lit = draw("g", { class: "lit" }); // the edges that are asked about, drawn once more above the others
const MOST_LIT = 400; // of one node, the strongest

function prepare() {
  svg.setAttribute("role", "group");
  svg.setAttribute("aria-label", `${onPicture} nodes and ${drawnEdges} edges; arrow keys walk along them`);
  edgeMark.forEach((mark, e) => mark && fill(mark, { "data-edge": e }, []).classList.add("edge"));
  const marks = [...svg.querySelectorAll(".edge")];
  marks[0]?.before(bed, lit);
  bed.append(...marks);
  for (const mark of marks) {
    // A group that is itself see-through is painted on a sheet of its own; strokes that are need none.
    for (const name of ["stroke-opacity", "fill-opacity"]) mark.setAttribute(name, mark.getAttribute("opacity") ?? 1);
    mark.removeAttribute("opacity");
  }
  nodeLabel.forEach((label, row) => label && fill(label, { "data-row": row }, []).classList.add("label"));
  const hits = draw("g");
  nodeMark.forEach((mark, row) => {
    if (!mark) return;
    mark.classList.add("node");
    if (measurement.has(row) && isWrong(measurement.get(row), measurement.get(row).measured)) mark.classList.add("wrong");
    // A finger or a mouse wants more than a small dot; nodes stand far enough apart for this.
    const tip = draw("title", {}, mark.querySelector("title")?.textContent ?? names[row]);
    mark.querySelector("title")?.remove();
    hits.append(
      draw(
        "circle",
        { class: "hit", "data-row": row, cx: place[row].x, cy: place[row].y, r: 9, role: "button", tabindex: -1 },
        tip,
      ),
    );
    hits.lastChild.setAttribute("aria-label", `${nodes.kind[row]} ${names[row]}`);
  });
  svg.append(hits, ring);

  const rowOf = (event) => event.target.closest?.("[data-row]")?.dataset.row;
  svg.addEventListener("pointerover", (event) => {
    const row = rowOf(event);
    hovered = row === undefined ? null : Number(row);
    nameEdge(event.target.closest?.(".edge"));
    highlight();
  });
  svg.addEventListener("pointerleave", () => {
    hovered = null;
    highlight();
  });
  svg.addEventListener("click", (event) => {
    const row = rowOf(event);
    pin(row === undefined ? null : Number(row));
  });
}

function nameEdge(mark) {
  if (!mark || mark.querySelector("title")) return;
  const e = Number(mark.dataset.edge);
  const [s, t] = [edges.source[e], edges.target[e]];
  mark.append(
    draw("title", {}, `${names[s]} → ${names[t]}: ${number(edges.weight[e])}, ${signedPercent(edges.share[e])} of its input`),
  );
}

// --- what is on view ---

const largest = Math.max(1e-9, ...range(count).filter((row) => !ALWAYS.has(nodes.kind[row])).map((row) => nodes.influence[row] ?? 0));
const SCALES = { least: [largest / 1000, largest], share: [0.001, 0.5] };
// Three digits, as in the address: a page that is opened again shows the same.
const rounded = (value) => Number(value.toPrecision(3));
const toValue = (name, at) => (at <= 0 ? 0 : rounded(SCALES[name][0] * (SCALES[name][1] / SCALES[name][0]) ** (at / 100)));
const toPlace = (name, value) => {
  const [low, high] = SCALES[name];
  return value <= 0 ? 0 : Math.max(1, Math.min(100, (100 * Math.log(value / low)) / Math.log(high / low)));
};
let nodeShown = [];
let edgeShown = [];
let sifted = ""; // by which thresholds

function sift() {
  const now = `${state.least} ${state.share}`;
  if (now === sifted) return;
  sifted = now;
  nodeShown = nodes.kind.map((kind, row) => ALWAYS.has(kind) || kind === "bias" || (nodes.influence[row] ?? 0) >= state.least);
  edgeShown = edges.source.map(
    (s, e) => nodeShown[s] && nodeShown[edges.target[e]] && (isBias(e) || Math.abs(edges.share[e]) >= state.share),
  );
  nodeMark.forEach((mark, row) => mark && mark.classList.toggle("gone", !nodeShown[row]));
  nodeLabel.forEach((label, row) => label && label.classList.toggle("gone", !nodeShown[row]));
  svg.querySelectorAll(".hit").forEach((hit) => hit.classList.toggle("gone", !nodeShown[hit.dataset.row]));
  edgeMark.forEach((mark, e) => mark && mark.classList.toggle("gone", !edgeShown[e]));

  for (const name of ["least", "share"]) {
    document.getElementById(`${name}-said`).textContent = percent(state[name], 2);
    const slider = document.getElementById(name);
    if (document.activeElement !== slider) slider.value = toPlace(name, state[name]);
    slider.setAttribute("aria-valuetext", percent(state[name], 2));
  }
  sayCounts();
}

function sayCounts() {
  const inPicture = (row) => nodeMark[row] !== null;
  const seen = nodeShown.filter((shown, row) => shown && inPicture(row)).length;
  const flows = edges.source.filter((_, e) => !isBias(e)).length;
  const left = edges.source.filter((_, e) => !isBias(e) && edgeShown[e]).length;
  const sum = (rows) => rows.reduce((total, row) => total + (nodes.influence[row] ?? 0), 0);
  const all = range(count);
  const carries = sum(all.filter((row) => nodeShown[row])) / Math.max(sum(all), 1e-12);
  const parts = [`${seen} of ${onPicture} nodes, ${percent(carries, 0)} of what they carry`, `${left} of ${flows} edges`];
  if (drawnEdges < flows) parts.push(`the ${drawnEdges} strongest drawn, others when you ask for a node`);
  const after = replacement(edgeShown);
  parts.push(
    left < flows || seen < onPicture
      ? `replacement ${unsifted.toFixed(2)} → ${after.toFixed(2)}, what is hidden counted as pruned`
      : `replacement ${unsifted.toFixed(2)}`,
  );
  document.getElementById("counts").textContent = parts.join(" · ");
}

// Of the influence that ends anywhere, the share that ends in tokens; what came through hidden edges ends nowhere.
function replacement(shown, carried = new Float64Array(count)) {
  let token = 0;
  let lost = 0;
  for (let t = count - 1; t >= 0; t--) {
    const through = carried[t] + (goal[t] ?? 0);
    const kind = nodes.kind[t];
    if (kind === "token") token += through;
    else if (kind === "error" || kind === "unselected") lost += through;
    else if (nodes.gross[t] > 0) {
      let rest = 1;
      for (const e of inputs[t]) {
        if (!shown[e] || isBias(e)) continue;
        const part = Math.abs(edges.share[e]);
        carried[edges.source[e]] += through * part;
        rest -= part;
      }
      lost += through * Math.max(rest, 0);
    }
  }
  return token + lost > 0 ? token / (token + lost) : NaN;
}
const unsifted = replacement(edges.source.map(() => true));

// --- what is asked about ---

let litFor = "";

function highlight() {
  const asked = hovered ?? state.node;
  const path = hovered === null && state.path !== null ? graph.paths[state.path] : null;
  const found = matches();
  // Under a resting pointer the picture must rest too: what is drawn anew counts as entered anew.
  const question = JSON.stringify([asked, path, found, state.node, state.least, state.share]);
  if (question === litFor) return;
  litFor = question;
  svg.querySelectorAll(".on").forEach((mark) => mark.classList.remove("on"));
  svg.classList.toggle("asking", asked !== null || path !== null || (hovered === null && found !== null));
  const light = (row) => {
    nodeMark[row]?.classList.add("on");
    nodeLabel[row]?.classList.add("on");
  };
  let wanted = [];
  if (path) {
    path.nodes.forEach(light);
    wanted = path.nodes.slice(1).map((t, i) => inputs[t].find((e) => edges.source[e] === path.nodes[i]));
  } else if (asked !== null) {
    light(asked);
    wanted = [...inputs[asked], ...outputs[asked]].filter((e) => edgeShown[e]);
    for (const e of wanted) {
      light(edges.source[e]);
      light(edges.target[e]);
    }
  } else if (found) found.forEach(light);
  const size = (e) => Math.abs(edges.share[e]);
  const strongest = wanted.sort((a, b) => size(b) - size(a)).slice(0, MOST_LIT);
  lit.replaceChildren(...strongest.reverse().map(copy).filter(Boolean));
  svg.querySelectorAll(".found").forEach((mark) => mark.classList.remove("found"));
  found?.forEach((row) => nodeMark[row]?.classList.add("found"));
  for (const dot of dots) dot.mark.classList.toggle("on", dot.node === asked);
  const pinned = state.node === null ? null : place[state.node];
  ring.classList.toggle("gone", !pinned || !nodeShown[state.node]);
  if (pinned) fill(ring, { cx: pinned.x, cy: pinned.y, r: pinned.reach + 3.5 }, []);
}

// The edge as it is drawn, but bright; a plainer curve for one too weak to be among the drawn.
function copy(e) {
  if (edgeMark[e]) {
    const twin = edgeMark[e].cloneNode(true);
    twin.removeAttribute("id");
    return fill(twin, { "stroke-opacity": 0.95, "fill-opacity": 0.95 }, []);
  }
  const [from, to] = [place[edges.source[e]], place[edges.target[e]]];
  if (!from || !to) return null;
  const [start, tip] = [from.y - from.reach, to.y + to.reach];
  const rise = Math.max(start - tip, 16) * 0.42;
  const head = edges.share[e] < 0 ? `M${to.x - 3} ${tip}h6` : `M${to.x - 2} ${tip + 4}L${to.x} ${tip}l2 4`;
  const d = `M${from.x} ${start}C${from.x} ${start - rise} ${to.x} ${tip + rise} ${to.x} ${tip}${head}`;
  const kind = edges.share[e] < 0 ? "lower" : "raise";
  return draw("g", { class: "edge", "data-edge": e }, draw("path", { class: `weak ${kind}`, d }));
}

function pin(row) {
  state.node = row !== null && row >= 0 && row < count ? row : null;
  state.path = null;
  refresh();
  if (state.node === null) return;
  panel.scrollTop = 0;
  reveal(state.node);
}

// A node that was chosen elsewhere than in the picture may lie outside of what is seen of it.
function reveal(row) {
  const mark = nodeMark[row];
  if (!mark) return;
  const [box, around] = [mark.getBoundingClientRect(), svg.parentElement.getBoundingClientRect()];
  const middle = (area) => area.left + area.width / 2;
  if (box.left < around.left + 20 || box.right > around.right - 20) svg.parentElement.scrollLeft += middle(box) - middle(around);
  const top = document.getElementById("tools").getBoundingClientRect().bottom;
  if (box.top < top || box.bottom > innerHeight) scrollBy(0, box.top - (top + innerHeight) / 2);
}

let sought = { words: "", found: null };

function matches() {
  const words = state.find.trim().toLowerCase();
  if (words !== sought.words) sought = { words, found: words ? search(words) : null };
  return sought.found;
}

function search(words) {
  return range(count).filter((row) => {
    const unit = `${nodes.layer[row]}/${nodes.feature[row]}`;
    const token = nodes.kind[row] === "token" ? "" : graph.tokens[nodes.position[row]] ?? "";
    const noted = graph.notes[unit]?.label ?? "";
    return [names[row], nodes.label[row], `L${unit}`, nodes.kind[row], noted, `@${token.trim()}`].some((text) =>
      text.toLowerCase().includes(words),
    );
  });
}

// --- the panel ---

function showPanel() {
  panel.replaceChildren(...(state.node === null ? overview() : about(state.node)));
}

const goTo = (row, words = names[row]) => make("button", { type: "button", click: () => pin(row) }, words);

function overview() {
  const parts = [];
  const found = matches();
  if (found) {
    parts.push(make("h2", {}, `${found.length} ${found.length === 1 ? "node" : "nodes"} with “${state.find.trim()}”`));
    parts.push(make("ul", {}, ...found.slice(0, 40).map((row) => make("li", {}, goTo(row), spaced(nodes.kind[row])))));
    if (found.length > 40) parts.push(make("p", { class: "quiet" }, `and ${found.length - 40} more: say more of the word`));
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
  parts.push(make("h3", {}, "How to ask"));
  parts.push(
    make("p", { class: "quiet" }, "Hover a node for what comes in and goes out; click to pin it. ",
      ...["↑", "↓"].map((key) => make("kbd", {}, key)), " strongest output, input  ",
      ...["←", "→"].map((key) => make("kbd", {}, key)), " neighbours  ", make("kbd", {}, "/"), " find  ", make("kbd", {}, "Esc"), " back"),
  );
  parts.push(made());
  return parts;
}

const spaced = (words) => make("span", { class: "quiet" }, ` ${words}`);
const figure = (words, kind = "") => make("td", { class: `figure ${kind}` }, words);

// Spoken of in a table: a click anywhere in the row goes to the node, hovering shows it.
function line(row, cells, attributes = {}) {
  return make(
    "tr",
    {
      class: "go",
      click: () => pin(row),
      pointerenter: () => peek(row),
      pointerleave: () => peek(null),
      ...attributes,
    },
    ...cells,
  );
}

function peek(row) {
  hovered = row;
  highlight();
}

function pathLine(path, index) {
  const words = path.nodes.map((row, i) => [
    i === 0 ? "" : make("span", { class: path.shares[i - 1] < 0 ? "lower" : "raise" }, path.shares[i - 1] < 0 ? " ⊣ " : " ▸ "),
    names[row],
  ]);
  const show = (event) => {
    event.stopPropagation();
    state.path = state.path === index ? null : index;
    refresh();
  };
  const button = make("button", { type: "button", click: show, "aria-pressed": String(state.path === index) }, ...words);
  return make("tr", { class: state.path === index ? "go chosen" : "go", click: show }, figure(percent(path.influence)), make("td", {}, button));
}

function made() {
  const about = { ...graph.made };
  return make("details", {}, make("summary", { class: "quiet" }, "how this graph was made"), make("pre", {}, JSON.stringify({ ...about, kept: graph.kept, scores: graph.scores }, null, 1)));
}

const TITLES = {
  token: "token", logit: "logit", error: "error: what the features at this place miss", bias: "bias: a constant of the model",
  unselected: "unselected: features that were not traced",
};

function about(row) {
  const kind = nodes.kind[row];
  const note = kind === "feature" || kind === "neuron" ? graph.notes[`${nodes.layer[row]}/${nodes.feature[row]}`] : null;
  const at = nodes.position[row];
  const facts = [["kind", TITLES[kind] ?? `${kind} ${nodes.feature[row]}`]];
  if (nodes.layer[row] >= 0 && kind !== "logit") facts.push(["layer", String(nodes.layer[row])]);
  if (at >= 0 && kind !== "token" && kind !== "logit") facts.push(["token", `${graph.tokens[at]}  (position ${at})`]);
  if (kind === "token") facts.push(["position", String(at)], ["token id", String(nodes.feature[row])]);
  if (kind === "logit") facts.push(["probability", percent(nodes.activation[row], 2)], ["token id", String(nodes.feature[row])]);
  if (note || kind === "feature" || kind === "neuron") facts.push(["activation", number(nodes.activation[row])]);
  if (nodes.value[row] !== null && nodes.gross[row] > 0)
    facts.push([kind === "logit" ? "logit, less the mean" : "value before activation", number(nodes.value[row])]);
  if (kind !== "logit" && kind !== "bias") facts.push(["influence", `${percent(nodes.influence[row])} of the goal passes through`]);
  if (kind === "logit") facts.push(["part of the goal", percent(goal[row])]);

  const parts = [
    make("button", { type: "button", class: "close", click: () => pin(null), "aria-label": "close, back to the overview" }, "×"),
    make("h2", {}, names[row]),
    make("dl", { class: "facts" }, ...facts.flatMap(([name, words]) => [make("dt", {}, name), make("dd", {}, words)])),
  ];
  if (nodeMark[row] === null) parts.push(make("p", { class: "quiet" }, "Not drawn: the picture leaves out constants."));
  else if (!nodeShown[row]) parts.push(make("p", { class: "quiet" }, "Hidden by the slider for nodes."));
  if (note) parts.push(...noted(note));
  parts.push(...measured(row));
  if (nodes.gross[row] > 0 || inputs[row].length) parts.push(...ledger(row));
  else parts.push(make("h3", {}, "Inputs"), make("p", { class: "quiet" }, "None: it is where paths begin."));
  if (kind !== "logit") parts.push(...flowsOn(row));
  return parts;
}

function noted(note) {
  const words = (list) => (list ?? []).join(", ");
  const facts = [
    ["fires on", words(note.fires_on)],
    ["seen among", words(note.context)],
    ["promotes", words(note.promotes)],
    ["active on", note.density === undefined ? "" : `${percent(note.density, 2)} of tokens`],
  ].filter(([, text]) => text);
  return [
    make("h3", {}, "What it does elsewhere"),
    make("dl", { class: "facts" }, ...facts.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)])),
  ];
}

let dots = []; // of the scatter: {node, mark}
// Predicted to move the target by as much as the assay counts, and moved it the other way.
const counts = (assay?.registration.thresholds?.sizeable ?? 0.05) * Math.abs(assay?.statistics.clean ?? NaN);
const isWrong = (each, measured) => Math.abs(each.predicted) >= counts && each.predicted * measured < 0;
const measurement = new Map((assay?.ablations ?? []).map((each) => [each.node, each]));

function tested(row) {
  const found = measurement.get(row);
  return make("td", { class: "figure quiet" }, found ? `${signed(found.measured.toFixed(2))} when ablated` : assay ? "not ablated" : "");
}

function measured(row) {
  if (ALWAYS.has(nodes.kind[row]) || nodes.kind[row] === "bias") return [];
  const found = measurement.get(row);
  if (!found) return [make("h3", {}, "Ablated alone"), make("p", { class: "quiet" }, "Not tested.")];
  const cells = (name, change, kl) =>
    make("tr", {}, make("td", {}, name), figure(exactly(change), change !== null && isWrong(found, change) ? "failed" : ""), figure(kl === null ? "" : number(kl)));
  const wrong = [["live", found.measured], ["held", found.measured_frozen]].filter(([, change]) => isWrong(found, change)).map(([mode]) => mode);
  return [
    make("h3", {}, "Ablated alone, the target changes by"),
    make("table", {},
      make("tr", {}, make("th", {}), make("th", { class: "figure" }, "logits"), make("th", { class: "figure" }, "KL, nats")),
      cells("the graph predicts", found.predicted, null),
      cells("measured, attention live", found.measured, found.kl),
      cells("measured, attention held", found.measured_frozen, found.kl_frozen),
    ),
    wrong.length ? make("p", { class: "failed" }, `✗ not supported: the target moves the other way, attention ${wrong.join(" and ")}.`) : "",
  ];
}

function bar(share, most) {
  const width = Math.min(100, (100 * Math.abs(share)) / Math.max(most, 1e-9));
  return make("td", { class: "bar", "aria-hidden": "true" }, make("span", { class: share < 0 ? "down" : "up", style: `width:${width.toFixed(1)}%` }));
}

const head = (...cells) => make("tr", {}, ...cells.map(([words, kind]) => make("th", { class: kind ?? "" }, words)));

// Everything that came in, whatever became of it: what is listed and what was pruned sum to the value.
function ledger(row) {
  const rows = [...inputs[row]].sort((a, b) => isBias(a) - isBias(b) || Math.abs(edges.weight[b]) - Math.abs(edges.weight[a]));
  const most = Math.max(...rows.map((e) => Math.abs(edges.share[e])), 0);
  const entry = (e) => {
    const s = edges.source[e];
    const words = isBias(e) ? "constant" : signedPercent(edges.share[e]);
    return line(s, [bar(edges.share[e], most), make("td", {}, goTo(s)), figure(exactly(edges.weight[e]), edges.weight[e] < 0 ? "lower" : "raise"), figure(words)]);
  };
  const listed = rows.reduce((total, e) => total + edges.weight[e], 0);
  const share = rows.reduce((total, e) => total + (isBias(e) ? 0 : Math.abs(edges.share[e])), 0);
  const closing = [];
  const value = nodes.value[row];
  if (value !== null && nodes.gross[row] > 0) {
    const rest = value - listed;
    const gone = Math.max(0, 1 - share);
    if (gone > 1e-5 || Math.abs(rest) > 1e-5 * nodes.gross[row])
      closing.push(make("tr", { class: "rest" }, make("td"), make("td", { class: "quiet" }, `pruned away, ${percent(gone)} of the sizes`), figure(exactly(rest)), figure("")));
    closing.push(make("tr", { class: "sum" }, make("td"), make("td", {}, "value"), figure(exactly(value)), figure("")));
  }
  // Of a long list the weakest are summed up, so that the figures on view add up too.
  const tail = rows.slice(FEW);
  const summed = make("tr", {}, make("td"), make("td", { class: "quiet" }, `${tail.length} more`), figure(exactly(tail.reduce((total, e) => total + edges.weight[e], 0))), figure(""));
  return [
    make("h3", {}, `Inputs (${rows.length})`),
    table(head([""], ["from"], ["weight", "figure"], ["share", "figure"]), rows.map((e) => () => entry(e)), closing, summed),
    make("p", { class: "quiet" }, "Share: of the sizes of everything that came in, in the whole trace, constants left out."),
  ];
}

function flowsOn(row) {
  const through = (e) => Math.abs(edges.share[e]) * ((nodes.influence[edges.target[e]] ?? 0) + (goal[edges.target[e]] ?? 0));
  const rows = [...outputs[row]].sort((a, b) => through(b) - through(a));
  if (!rows.length) return [make("h3", {}, "Outputs"), make("p", { class: "quiet" }, "None are left in the graph.")];
  const most = Math.max(...rows.map((e) => Math.abs(edges.share[e])));
  const entry = (e) => {
    const t = edges.target[e];
    return line(t, [bar(edges.share[e], most), make("td", {}, goTo(t)), figure(exactly(edges.weight[e]), edges.weight[e] < 0 ? "lower" : "raise"), figure(isBias(e) ? "constant" : signedPercent(edges.share[e]))]);
  };
  return [
    make("h3", {}, `Outputs (${rows.length})`),
    table(head([""], ["to"], ["weight", "figure"], ["of its input", "figure"]), rows.map((e) => () => entry(e)), []),
  ];
}

function table(top, rows, closing, summed = null) {
  const few = rows.length <= FEW;
  const body = make("table", {}, top, ...rows.slice(0, FEW).map((row) => row()), few ? null : summed, ...closing);
  if (few) return make("div", { class: "scroll" }, body);
  const all = () => {
    body.replaceChildren(top, ...rows.map((row) => row()), ...closing);
    more.remove();
  };
  const more = make("button", { type: "button", click: all }, `show all ${rows.length}`);
  return make("div", { class: "scroll" }, body, more);
}

// --- above the picture ---

function showFacts() {
  const { scores, kept } = graph;
  const said = (x) => (x === null ? "undefined" : x.toFixed(2));
  const change = (name) => {
    const before = kept[`${name}_before`];
    return before === undefined ? `${name} ${said(scores[name])}` : `${name} ${said(before)} → ${said(scores[name])} after pruning`;
  };
  const whole = (words) => words.toLocaleString("en");
  const logits = range(count).filter((row) => nodes.kind[row] === "logit").sort((a, b) => nodes.activation[b] - nodes.activation[a]);
  const answers = logits.slice(0, 5).map((row) => make("span", {}, goTo(row, answer(row)), ` ${percent(nodes.activation[row])}`));
  if (logits.length > 5) answers.push(make("span", { class: "quiet" }, `and ${logits.length - 5} more`));
  const ends = [["tokens", scores.replacement], ["errors", scores.error], ["untraced", scores.unselected], ["pruned", scores.pruned]];
  const called = { tokens: "tokens", errors: "errors of the features", untraced: "features not traced", pruned: "what was pruned away" };
  const size = kept.nodes_before === undefined
    ? `whole graph: ${whole(count)} nodes, ${whole(edges.source.length)} edges`
    : `kept ${whole(count)} of ${whole(kept.nodes_before)} nodes and ${whole(edges.source.length)} of ${whole(kept.edges_before)} edges, carrying ${percent(kept.influence, 0)} of the influence`;
  const aside = [];
  const away = (kind) => range(count).filter((row) => nodes.kind[row] === kind && !nodeMark[row]).length;
  if (away("bias")) aside.push(`${away("bias")} bias nodes are listed, not drawn; if counted, ${percent(scores.bias, 0)} of the influence ends in them`);
  if (away("error")) aside.push(`${away("error")} error nodes are listed, not drawn`);
  const fan = { grey: "grey", hide: "not drawn" }[graph.bos];
  if (fan && graph.opening !== null) {
    const carried = new Float64Array(count);
    replacement(edges.source.map(() => true), carried);
    const all = range(count).reduce((total, row) => total + (nodes.kind[row] === "token" ? carried[row] : 0), 0);
    if (all > 0) aside.push(`${fan}: from ${names[graph.opening]}, ${percent(carried[graph.opening] / all, 0)} of what ends in tokens`);
  }
  const made = ["model", "transcoders"].filter((name) => graph.made[name]).map((name) => `${name} ${String(graph.made[name]).split("/").pop()}`);
  const bar = make("span", { class: "ends", "aria-hidden": "true" }, ...ends.map(([name, share]) => make("span", { class: name, style: `width:${(100 * (share ?? 0)).toFixed(2)}%` })));
  const keys = ends.filter(([, share]) => share).map(([name, share]) => make("span", {}, make("span", { class: `key ${name}` }), `${called[name]} ${percent(share, 0)}`));
  document.getElementById("facts").replaceChildren(
    make("p", { class: "row" }, make("span", { class: "quiet" }, "→"), ...answers, make("span", { class: "quiet" }, made.join(" · "))),
    make("p", {}, `${size}; ${change("replacement")}; ${change("completeness")}`, verdictsInShort()),
    make("p", { class: "row quiet" }, make("span", {}, "Influence ends in"), bar, ...keys, make("span", {}, aside.join("; "))),
  );
}

const answer = (row) => (speaks(nodes.label[row]) ? nodes.label[row].trim() : `"${nodes.label[row]}"`);

function verdictsInShort() {
  const below = (words, kind) => make("button", { type: "button", class: kind, click: () => document.getElementById("assay").scrollIntoView() }, words);
  if (!assay) return ["; ", below("not tested by ablation", "quiet")];
  const many = (verdict) => assay.verdicts.filter((each) => each.verdict === verdict).length;
  const failed = many("not supported");
  return [`; assay on this prompt: ${many("supported")} supported, `, below(`${failed} not supported`, failed ? "failed" : ""), `, ${many("untested")} untested`];
}

// --- the assay ---

function showAssay() {
  const section = document.getElementById("assay");
  const name = make("h2", { id: "assay-name" }, "Assay: the graph put to the test in the real model");
  if (!assay) {
    section.replaceChildren(name, make("p", { class: "quiet" }, "Not tested by ablation. What the picture says is what attribution predicts; `circuits check ID` ablates the stored graph in the model."));
    return;
  }
  const registered = assay.registration;
  const about = [registered.metric ? `Target: ${registered.metric}.` : "", registered.hash ? `Registered as ${registered.hash} before the experiments ran.` : "", "One prompt: nothing here says what happens on others."];
  section.replaceChildren(
    name,
    make("p", { class: "quiet" }, about.filter(Boolean).join(" ")),
    verdictTable(),
    make("div", { class: "charts" }, assay.ablations.length ? scatter() : null, ...strips()),
    make("details", {}, make("summary", { class: "quiet" }, "everything that was registered"), make("pre", {}, JSON.stringify(registered, null, 1))),
  );
}

const MARKS = { supported: ["✓", ""], "not supported": ["✗", "failed"], untested: ["–", "quiet"] };

function verdictTable() {
  const rows = assay.verdicts.map((each) => {
    const [mark, kind] = MARKS[each.verdict] ?? ["", ""];
    return make("tr", {}, make("td", { class: kind }, `${mark} ${each.verdict}`), make("td", {}, each.claim), figure(each.number === null ? "" : number(each.number)), make("td", {}, each.threshold), make("td", { class: "quiet" }, each.control));
  });
  return make("div", { class: "scroll" }, make("table", { class: "verdicts" }, head(["verdict"], ["claim"], ["measured", "figure"], ["wanted"], ["against"]), ...rows));
}

function scatter() {
  const chart = make("div", { class: "chart" });
  const measuredNow = (each) => (state.held ? each.measured_frozen : each.measured);
  const pairs = assay.ablations.filter((each) => each.predicted !== null && measuredNow(each) !== null);
  const all = pairs.flatMap((each) => [each.predicted, each.measured, each.measured_frozen]).filter((x) => x !== null);
  const [low, high] = [Math.min(0, ...all), Math.max(0, ...all)];
  const slack = 0.06 * (high - low || 1);
  const [from, to] = [low - slack, high + slack];
  const [size, left, under] = [300, 52, 34];
  const x = (value) => left + (size * (value - from)) / (to - from);
  const y = (value) => size - (size * (value - from)) / (to - from);
  const picture = draw("svg", { width: size + left + 8, height: size + under, role: "group", "aria-label": "predicted against measured change, one dot per node ablated alone" });
  picture.append(
    draw("rect", { x: left, y: 0, width: size, height: size, fill: "none", class: "axis" }),
    draw("path", { class: "axis", d: `M${x(0)} 0V${size}M${left} ${y(0)}H${left + size}` }),
    draw("path", { class: "same", d: `M${x(from)} ${y(from)}L${x(to)} ${y(to)}` }),
  );
  for (const value of ticks(from, to)) {
    picture.append(draw("text", { x: x(value), y: size + 14, "text-anchor": "middle" }, number(value)));
    picture.append(draw("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, number(value)));
  }
  picture.append(
    draw("text", { x: left + size / 2, y: size + 30, "text-anchor": "middle" }, "predicted change, logits"),
    draw("text", { x: 12, y: size / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${size / 2})` }, "measured change"),
  );
  litFor = ""; // new dots want lighting
  dots = pairs.map((each) => {
    const words = `${names[each.node]}: predicted ${number(each.predicted)}, measured ${number(measuredNow(each))}`;
    const attributes = { class: isWrong(each, measuredNow(each)) ? "dot wrong" : "dot", cx: x(each.predicted), cy: y(measuredNow(each)), r: 4.5, role: "button", "aria-label": words };
    const heard = { click: () => pin(each.node), pointerenter: () => peek(each.node), pointerleave: () => peek(null) };
    return { node: each.node, mark: draw("circle", { ...attributes, ...heard }, draw("title", {}, words)) };
  });
  picture.append(...dots.map((dot) => dot.mark));
  const choose = (held, words) =>
    make("label", {}, make("input", { type: "radio", name: "held", checked: state.held === held, change: () => { state.held = held; showAssay(); refresh(); } }), ` ${words}  `);
  const end = state.held ? "_frozen" : "";
  const found = assay.statistics;
  const said = [["slope", "slope"], ["sign_agreement", "signs right"], ["spearman_kl", "Spearman with KL"]]
    .filter(([key]) => found[key + end] !== undefined && found[key + end] !== null)
    .map(([key, words]) => `${words} ${key === "sign_agreement" ? percent(found[key + end], 0) : number(found[key + end])}`);
  chart.append(make("h3", {}, "Nodes ablated one by one"), make("p", {}, choose(false, "attention live"), choose(true, "attention held")), picture, make("p", { class: "quiet" }, said.join(" · ")), make("p", { class: "quiet" }, "On the dashed line: as predicted. Red, here and in the picture: moved the other way."));
  return chart;
}

function ticks(from, to) {
  const rough = (to - from) / 5;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * unit).find((each) => each >= rough);
  const found = [];
  for (let i = Math.ceil(from / step); i * step <= to; i++) found.push(i * step);
  return found;
}

function strips() {
  const faithful = assay.registration.thresholds?.faithful ?? null;
  const rows = assay.subsets.flatMap((each) => [
    { title: `only the graph's features are left (${each.ablation} ablation of the others): high is good`, graph: each.faithfulness, controls: each.random_faithfulness, p: each.p_faithfulness, wanted: faithful },
    { title: `only the graph's features are taken (${each.ablation} ablation): low is good`, graph: each.complement, controls: each.random_complement, p: each.p_complement, wanted: faithful === null ? null : 1 - faithful },
  ]);
  if (!rows.length) return [];
  const known = rows.flatMap((row) => [row.graph, ...row.controls]).filter((x) => x !== null);
  const [from, to] = [Math.min(0, ...known) - 0.03, Math.max(1, ...known) + 0.03];
  const [wide, left] = [380, 8];
  const x = (value) => left + (wide * (value - from)) / (to - from);
  const chart = make("div", { class: "chart" }, make("h3", {}, "How much of the target's logit difference survives when"));
  for (const row of rows) {
    const words = `${row.title}: the graph ${percent(row.graph, 0)}; ${row.controls.length} random sets; p = ${row.p === null ? "undefined" : row.p.toFixed(3)}`;
    const picture = draw("svg", { width: wide + 2 * left, height: 46, role: "img", "aria-label": words });
    picture.append(draw("path", { class: "axis", d: `M${x(from)} 26H${x(to)}` }));
    for (const value of [0, 0.5, 1]) {
      picture.append(draw("path", { class: "axis", d: `M${x(value)} 22V30` }), draw("text", { x: x(value), y: 43, "text-anchor": "middle" }, percent(value, 0)));
    }
    if (row.wanted !== null) picture.append(draw("path", { class: "same", d: `M${x(row.wanted)} 13V39` }));
    row.controls.forEach((value, i) => value !== null && picture.append(draw("circle", { class: "control", cx: x(value), cy: 26 + ((i * 7) % 11) - 5, r: 3 })));
    if (row.graph !== null) {
      const at = x(row.graph);
      picture.append(draw("path", { class: "graph", d: `M${at} 12l7 14l-7 14l-7 -14z` }));
      picture.append(draw("text", { x: at, y: 9, "text-anchor": "middle" }, percent(row.graph, 0)));
    }
    chart.append(make("p", {}, row.title, spaced(`p = ${row.p === null ? "undefined" : row.p.toFixed(3)}`)), picture);
  }
  chart.append(make("p", { class: "quiet" }, "Diamond: the graph. Dots: random sets of features, as many at each layer and position. Dashed: what was wanted."));
  return [chart];
}

// --- keys, sliders, the address ---

function strongest(list, of, shown) {
  const rows = list.filter((e) => edgeShown[e] && !isBias(e) && nodeMark[of(e)]);
  return rows.length ? of(rows.reduce((a, b) => (shown(b) > shown(a) ? b : a))) : null;
}

function neighbour(row, step) {
  const order = range(count).filter((other) => nodeMark[other] && nodeShown[other]);
  order.sort((a, b) => nodes.layer[a] - nodes.layer[b] || place[a].x - place[b].x || place[b].y - place[a].y);
  return order[order.indexOf(row) + step] ?? row;
}

function walk(key) {
  const row = state.node;
  if (row === null || !nodeMark[row]) {
    const logits = range(count).filter((each) => nodes.kind[each] === "logit");
    return logits.length ? logits.reduce((a, b) => (goal[b] > goal[a] ? b : a)) : 0;
  }
  const size = (e) => Math.abs(edges.share[e]);
  const through = (e) => size(e) * ((nodes.influence[edges.target[e]] ?? 0) + (goal[edges.target[e]] ?? 0));
  if (key === "ArrowDown") return strongest(inputs[row], (e) => edges.source[e], size) ?? row;
  if (key === "ArrowUp") return strongest(outputs[row], (e) => edges.target[e], through) ?? row;
  return neighbour(row, key === "ArrowLeft" ? -1 : 1);
}

function listen() {
  const find = document.getElementById("find");
  find.addEventListener("input", () => {
    state.find = find.value;
    state.node = null;
    refresh();
  });
  find.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !matches()?.length) return;
    find.blur(); // so that the arrow keys walk on from here
    pin(matches().find((row) => nodeMark[row]) ?? matches()[0]);
  });
  for (const name of ["least", "share"]) {
    document.getElementById(name).addEventListener("input", (event) => {
      state[name] = toValue(name, Number(event.target.value));
      refresh();
    });
  }
  const zoom = (factor) => () => {
    state.zoom = Math.min(6, Math.max(0.2, scale() * factor));
    refresh();
  };
  document.getElementById("smaller").addEventListener("click", zoom(1 / 1.25));
  document.getElementById("larger").addEventListener("click", zoom(1.25));
  document.getElementById("fit").addEventListener("click", () => {
    state.zoom = rounded(svg.parentElement.clientWidth / natural);
    refresh();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input");
    if (event.key === "Escape") {
      if (state.node !== null || state.path !== null) pin(null);
      else if (state.find) {
        find.value = state.find = "";
        refresh();
      }
    } else if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
    else if (event.key === "/") {
      event.preventDefault();
      find.focus();
    } else if (event.key.startsWith("Arrow")) {
      event.preventDefault();
      pin(walk(event.key));
    }
  });
  window.addEventListener("hashchange", () => {
    readAddress();
    showAssay();
    refresh();
  });
  new ResizeObserver(() => {
    const high = document.getElementById("tools").offsetHeight;
    document.documentElement.style.setProperty("--under", `${high}px`);
  }).observe(document.getElementById("tools"));
}

const natural = Number(svg.getAttribute("width"));
const LEGIBLE = 0.62;
const scale = () => svg.getBoundingClientRect().width / natural;

function resize() {
  // At first as wide as there is room, within what can be read: a wide picture is scrolled.
  svg.style.width = state.zoom === null ? `clamp(${natural * LEGIBLE}px, 100%, ${natural * 1.35}px)` : `${natural * state.zoom}px`;
}

function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  const value = (name) => (Number.isFinite(Number(said.get(name))) ? Number(said.get(name)) : 0);
  const node = said.has("node") ? value("node") : null;
  state.node = Number.isInteger(node) && node >= 0 && node < count ? node : null;
  state.least = Math.max(0, value("least"));
  state.share = Math.max(0, value("share"));
  state.find = said.get("find") ?? "";
  state.path = said.has("path") && graph.paths[value("path") - 1] ? value("path") - 1 : null;
  state.held = said.get("attention") === "held";
  state.zoom = said.has("zoom") && value("zoom") > 0 ? value("zoom") : null;
  document.getElementById("find").value = state.find;
}

function writeAddress() {
  const said = new URLSearchParams();
  if (state.node !== null) said.set("node", state.node);
  if (state.path !== null) said.set("path", state.path + 1);
  for (const name of ["least", "share", "zoom"]) if (state[name]) said.set(name, rounded(state[name]));
  if (state.find) said.set("find", state.find);
  if (state.held) said.set("attention", "held");
  const words = said.toString();
  if (words !== location.hash.slice(1)) history.replaceState(null, "", words ? `#${words}` : location.pathname + location.search);
}

function refresh() {
  resize();
  sift();
  highlight();
  showPanel();
  writeAddress();
}

prepare();
readAddress();
listen();
showFacts();
showAssay();
refresh();
if (state.node !== null) reveal(state.node);
