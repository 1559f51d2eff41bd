"use strict";
// The picture on the page, made to answer questions. Every text from the graph goes in as a text node, never as markup.

window.addEventListener("error", (event) => {
  const fault = document.getElementById("fault");
  fault.hidden = false;
  fault.textContent = `A fault of this page, not of the graph: ${event.message} (line ${event.lineno} of its script).`;
});

const graph = JSON.parse(document.getElementById("graph").textContent);
const extras = []; // of a page that is served: row -> more about a node, or null -> more of the overview
const { nodes, edges, goal, names, assay } = graph;
const svg = document.querySelector("#picture svg");
const panel = document.getElementById("panel");
const count = nodes.kind.length;
const FEW = 12; // rows of a table before the rest is asked for
const ALWAYS = new Set(["token", "logit"]); // shown whatever they carry

// A comma alone is no name, unless it is quoted.
const speaks = (words) => /[\p{L}\p{N}]/u.test(words);
names.forEach((name, row) => {
  if (!speaks(name) && !/^(['"]).+\1$/su.test(name)) names[row] = `"${name}"`;
});

const range = (n) => Array.from({ length: n }, (_, i) => i);
const inputs = range(count).map(() => []); // edges by target, and by source
const outputs = range(count).map(() => []);
edges.target.forEach((t, e) => inputs[t].push(e));
edges.source.forEach((s, e) => outputs[s].push(e));
// Of a contrast, the token that it is held against; of any other logit, -1.
const against = new Map(range(count).filter((row) => nodes.kind[row] === "logit").map((row, i) => [row, (graph.made.against ?? [])[i] ?? -1]));
const isBias = (e) => nodes.kind[edges.source[e]] === "bias";

// What stands in the address after "#": node, least (influence), share (of input), dense, find, zoom, groups.
const state = { node: null, least: 0, share: 0, dense: 0, find: "", path: null, zoom: null, groups: [] };
let hovered = null;
let spot = null; // rows that are lit together: a group's, or what two graphs share

// --- words ---

const percent = (x, digits = 1) => (x === null ? "undefined" : `${(100 * x).toFixed(digits)}%`);
const signed = (words) => (words.startsWith("-") ? `−${words.slice(1)}` : `+${words}`);
const likely = (row, digits) => (against.get(row) >= 0 ? `${signed(nodes.value[row].toFixed(1))} logits` : percent(nodes.activation[row], digits));
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
  listenForDrags(rowOf);
  svg.addEventListener("click", (event) => {
    if (dropped) {
      dropped = false; // a drag ends in a click that is none
      return;
    }
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
// Which unit of the model a row is, as its notes are kept: "2/544", in place of attention "2/attn/544".
const unitOf = (row) => `${nodes.layer[row]}/${nodes.kind[row] === "attention" ? "attn/" : ""}${nodes.feature[row]}`;
const isUnit = (row) => ["feature", "attention", "neuron"].includes(nodes.kind[row]);
const density = range(count).map((row) => graph.notes[unitOf(row)]?.density ?? null);
const densities = density.filter((each, row) => each > 0 && isUnit(row));
// From all to few: for densities the other way round.
const SCALES = { least: [largest / 1000, largest], share: [0.001, 0.5], dense: densities.length ? [Math.max(...densities), Math.min(...densities)] : [1, 1] };
const SLIDERS = Object.keys(SCALES);
const tooDense = (row) => state.dense > 0 && density[row] > state.dense && isUnit(row);
// Three digits, as in the address: a page that is opened again shows the same.
const rounded = (value) => Number(value.toPrecision(3));
const toValue = (name, at) => (at <= 0 ? 0 : rounded(SCALES[name][0] * (SCALES[name][1] / SCALES[name][0]) ** (at / 100)));
const toPlace = (name, value) => {
  const [low, high] = SCALES[name];
  if (low === high && value > 0) return 100;
  return value <= 0 ? 0 : Math.max(1, Math.min(100, (100 * Math.log(value / low)) / Math.log(high / low)));
};
let nodeShown = [];
let edgeShown = [];
let sifted = ""; // by which thresholds

function sift() {
  const now = `${state.least} ${state.share} ${state.dense}`;
  if (now === sifted) return;
  sifted = now;
  nodeShown = nodes.kind.map(
    (kind, row) => ALWAYS.has(kind) || kind === "bias" || ((nodes.influence[row] ?? 0) >= state.least && !tooDense(row)),
  );
  edgeShown = edges.source.map(
    (s, e) => nodeShown[s] && nodeShown[edges.target[e]] && (isBias(e) || Math.abs(edges.share[e]) >= state.share),
  );
  nodeMark.forEach((mark, row) => mark && mark.classList.toggle("gone", !nodeShown[row]));
  nodeLabel.forEach((label, row) => label && label.classList.toggle("gone", !nodeShown[row]));
  svg.querySelectorAll(".hit").forEach((hit) => hit.classList.toggle("gone", !nodeShown[hit.dataset.row]));
  edgeMark.forEach((mark, e) => mark && mark.classList.toggle("gone", !edgeShown[e]));

  for (const name of SLIDERS) {
    const words = name === "dense" && !state.dense ? "all" : percent(state[name], 2);
    document.getElementById(`${name}-said`).textContent = words;
    const slider = document.getElementById(name);
    if (document.activeElement !== slider) slider.value = toPlace(name, state[name]);
    slider.setAttribute("aria-valuetext", words);
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
  const together = hovered === null ? spot : null;
  const question = JSON.stringify([asked, path, found, together, state.node, state.least, state.share, state.dense]);
  if (question === litFor) return;
  litFor = question;
  svg.querySelectorAll(".on").forEach((mark) => mark.classList.remove("on"));
  svg.classList.toggle("asking", asked !== null || path !== null || together !== null || (hovered === null && found !== null));
  const light = (row) => {
    nodeMark[row]?.classList.add("on");
    nodeLabel[row]?.classList.add("on");
  };
  let wanted = [];
  if (together) {
    together.forEach(light);
    const inside = new Set(together);
    wanted = together.flatMap((row) => [...inputs[row], ...outputs[row].filter((e) => !inside.has(edges.target[e]))]).filter((e) => edgeShown[e]);
  } else if (path) {
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
    const unit = unitOf(row);
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
      ...["←", "→"].map((key) => make("kbd", {}, key)), " neighbours  ", make("kbd", {}, "/"), " find  ", make("kbd", {}, "Esc"), " back  ", make("kbd", {}, "g"), " … ", make("kbd", {}, "g"), " group two nodes, or drag one onto the other  ", make("kbd", {}, "u"), " undo"),
  );
  parts.push(...extras.flatMap((more) => more(null)), made());
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
  const note = isUnit(row) ? graph.notes[unitOf(row)] : null;
  const at = nodes.position[row];
  const facts = [["kind", TITLES[kind] ?? `${kind === "attention" ? "attention feature" : kind} ${nodes.feature[row]}`]];
  if (nodes.layer[row] >= 0 && kind !== "logit") facts.push(["layer", String(nodes.layer[row])]);
  if (at >= 0 && kind !== "token" && kind !== "logit") facts.push(["token", `${graph.tokens[at]}  (position ${at})`]);
  if (kind === "token") facts.push(["position", String(at)], ["token id", String(nodes.feature[row])]);
  if (kind === "logit") facts.push(against.get(row) >= 0 ? ["leads by", likely(row)] : ["probability", likely(row, 2)], ["token id", String(nodes.feature[row])]);
  if (isUnit(row)) facts.push(["activation", number(nodes.activation[row])]);
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
  parts.push(...measured(row), ...extras.flatMap((more) => more(row)));
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

const dots = [...document.querySelectorAll("#plots [data-about]")].map((mark) => ({ node: Number(mark.dataset.about), mark }));
// Predicted to move the target by as much as the assay counts, and moved it the other way.
const counts = (assay?.registration.thresholds?.sizeable ?? 0.05) * Math.abs(assay?.statistics.clean ?? NaN);
const isWrong = (each, measured) => Math.abs(each.predicted) >= counts && each.predicted * measured < 0;
const explainsLogit = nodes.kind[goal.indexOf(Math.max(...goal))] === "logit";
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
      make("tr", {}, make("th", {}), ...(explainsLogit ? ["logits", "KL, nats"] : ["its value", "size"]).map((words) => make("th", { class: "figure" }, words))),
      cells("the graph predicts", found.predicted, null),
      cells("measured, attention live", found.measured, found.kl),
      cells("measured, attention held", found.measured_frozen, found.kl_frozen),
    ),
    wrong.length ? make("p", { class: "failed" }, `✗ not supported: the target moves the other way, attention ${wrong.join(" and ")}.`) : "",
    make("button", { type: "button", class: "more", click: () => dots.find((dot) => dot.node === row)?.mark.scrollIntoView({ block: "center" }) }, "show in the plots"),
  ];
}

function bar(share, most) {
  const width = Math.min(100, (100 * Math.abs(share)) / Math.max(most, 1e-9));
  return make("td", { class: "bar", "aria-hidden": "true" }, make("span", { class: share < 0 ? "down" : "up", style: `width:${width.toFixed(1)}%` }));
}

const head = (...cells) => make("tr", {}, ...cells.map(([words, kind]) => make("th", { class: kind ?? "" }, words)));

// Which heads carried an edge, where that is known: the part of its weight that passed each.
function through(e) {
  const heads = graph.heads[`${edges.source[e]}-${edges.target[e]}`] ?? [];
  const said = heads.filter(([, , load]) => Math.abs(load) >= 0.05 * Math.abs(edges.weight[e]));
  return said.length ? [make("div", { class: "quiet heads" }, said.map(([layer, which, load]) => `a${layer}.h${which} ${percent(load / edges.weight[e], 0)}`).join("  "))] : [];
}

// Everything that came in, whatever became of it: what is listed and what was pruned sum to the value.
function ledger(row) {
  const rows = [...inputs[row]].sort((a, b) => isBias(a) - isBias(b) || Math.abs(edges.weight[b]) - Math.abs(edges.weight[a]));
  const most = Math.max(...rows.map((e) => Math.abs(edges.share[e])), 0);
  const entry = (e) => {
    const s = edges.source[e];
    const words = isBias(e) ? "constant" : signedPercent(edges.share[e]);
    return line(s, [bar(edges.share[e], most), make("td", {}, goTo(s), ...through(e)), figure(exactly(edges.weight[e]), edges.weight[e] < 0 ? "lower" : "raise"), figure(words)]);
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
  const logits = range(count).filter((row) => nodes.kind[row] === "logit" || graph.goal[row]).sort((a, b) => nodes.activation[b] - nodes.activation[a]);
  const answers = logits.slice(0, 5).map((row) => make("span", {}, goTo(row, answer(row)), nodes.kind[row] === "logit" ? ` ${likely(row)}` : ""));
  if (logits.length > 5) answers.push(make("span", { class: "quiet" }, `and ${logits.length - 5} more`));
  const ends = [["tokens", scores.replacement], ["errors", scores.error], ["untraced", scores.unselected], ["pruned", scores.pruned]];
  const called = { tokens: "tokens", errors: "errors of the features", untraced: "features not traced", pruned: "what was pruned away" };
  const [allNodes, allEdges] = graph.served?.whole ?? [];
  const size = Number.isInteger(graph.served?.around)
    ? `next to one node: ${whole(count)} of ${whole(allNodes)} nodes, ${whole(edges.source.length)} of ${whole(allEdges)} edges`
    : kept.nodes_before === undefined
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
  return [`; assay on this prompt: ${many("supported")} supported, `, failed ? below(`${failed} not supported`, "failed") : "0 not supported", `, ${many("untested")} untested`];
}

// --- groups ---

const UNITS = new Set(["feature", "attention", "neuron", "head", "mlp", "supernode"]);
const sort = (row) => (UNITS.has(nodes.kind[row]) ? "unit" : nodes.kind[row]);
const MOST_BOXES = 25;
const MOST_INPUTS = 4;
const past = []; // groups as they were, for undo
let waiting = null; // a node that "g" was pressed on
let dropped = false;
let said = ""; // what could not be done
let diagramFor = "";
let soon = 0;
const groupsNow = () => JSON.stringify([state.groups, said, waiting, past.length]);

function readGroups(words) {
  try {
    const read = JSON.parse(words ?? "[]").map(([name, ...rows]) => ({ name: String(name), rows: [...new Set(rows)] }));
    const all = read.flatMap((each) => each.rows);
    const fits = all.every((row) => Number.isInteger(row) && row >= 0 && row < count) && new Set(all).size === all.length;
    return fits && orderOf(read) ? read.filter((each) => each.rows.length > 1) : [];
  } catch {
    return []; // an address that was typed wrongly
  }
}

// Which group each node is in, those in none in one of their own: place in the list of boxes.
function boxesOf(groups) {
  const boxes = groups.map((each) => ({ name: each.name, rows: each.rows }));
  const box = new Array(count).fill(-1);
  boxes.forEach((each, i) => each.rows.forEach((row) => (box[row] = i)));
  for (let row = 0; row < count; row++) if (box[row] < 0) box[row] = boxes.push({ name: names[row], rows: [row] }) - 1;
  return { boxes, box };
}

// The boxes in an order in which every edge points forward; null if groups feed each other in a circle.
function orderOf(groups) {
  const { boxes, box } = boxesOf(groups);
  const next = boxes.map(() => new Set());
  edges.source.forEach((s, e) => box[s] !== box[edges.target[e]] && next[box[s]].add(box[edges.target[e]]));
  const waits = new Array(boxes.length).fill(0);
  next.forEach((targets) => targets.forEach((t) => waits[t]++));
  const ready = boxes.map((_, i) => i).filter((i) => !waits[i]);
  for (let i = 0; i < ready.length; i++) next[ready[i]].forEach((t) => --waits[t] || ready.push(t));
  return ready.length === boxes.length ? ready : null;
}

function regroup(groups, why = "") {
  const kept = groups.filter((each) => each.rows.length > 1);
  said = why;
  if (!orderOf(kept)) said = "Not grouped: the groups would feed each other in a circle.";
  else {
    past.push(state.groups);
    state.groups = kept;
  }
  refresh();
}

function undo() {
  if (!past.length) return;
  state.groups = past.pop();
  said = "";
  refresh();
}

function join(row, other) {
  const holds = (each) => each.rows.includes(row) || each.rows.includes(other);
  if (sort(row) !== sort(other)) {
    said = `Not grouped: ${sort(row)} and ${sort(other)} do not go together.`;
    return showGroups();
  }
  const [from, to] = [row, other].map((each) => state.groups.find((group) => group.rows.includes(each)));
  if (from && from === to) return;
  const rows = [...(to?.rows ?? [other]), ...(from?.rows ?? [row])].sort((a, b) => a - b);
  const name = to?.name ?? from?.name ?? nodes.label[other].trim();
  regroup([...state.groups.filter((each) => !holds(each)), { name, rows }]);
}

function leave(row) {
  if (!state.groups.some((each) => each.rows.includes(row))) return;
  regroup(state.groups.map((each) => ({ ...each, rows: each.rows.filter((other) => other !== row) })));
}

function listenForDrags(rowOf) {
  let start = null;
  const line = draw("path", { class: "drag gone" });
  svg.append(line);
  const at = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  svg.addEventListener("pointerdown", (event) => {
    const row = rowOf(event);
    dropped = false;
    start = row === undefined ? null : { row: Number(row), x: event.clientX, y: event.clientY };
  });
  svg.addEventListener("pointermove", (event) => {
    if (!start || Math.hypot(event.clientX - start.x, event.clientY - start.y) < 6) return;
    const to = at(event);
    fill(line, { d: `M${place[start.row].x} ${place[start.row].y}L${to.x} ${to.y}` }, []).classList.remove("gone");
  });
  window.addEventListener("pointerup", (event) => {
    if (!start) return;
    const [row, far] = [start.row, Math.hypot(event.clientX - start.x, event.clientY - start.y) >= 6];
    start = null;
    line.classList.add("gone");
    if (!far) return;
    dropped = true;
    const other = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-row]")?.dataset.row;
    if (other === undefined) leave(row);
    else if (Number(other) !== row) join(row, Number(other));
  });
}

// Andrew's chain: the corners around some points.
function around(points) {
  const sorted = [...points].sort((a, b) => a.x - b.x || a.y - b.y);
  const turn = (a, b, c) => (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
  const half = (list) => {
    const found = [];
    for (const point of list) {
      while (found.length > 1 && turn(found.at(-2), found.at(-1), point) <= 0) found.pop();
      found.push(point);
    }
    return found.slice(0, -1);
  };
  return [...half(sorted), ...half([...sorted].reverse())];
}

const hulls = draw("g", { class: "hulls" });

function showHulls() {
  if (!hulls.parentNode) (svg.querySelector("rect") ?? svg.firstChild).after(hulls);
  hulls.replaceChildren(
    ...state.groups.map((each) => {
      const points = each.rows.filter((row) => nodeShown[row]).map((row) => place[row]).filter(Boolean);
      if (points.length < 2) return "";
      const corners = around(points);
      const top = points.reduce((a, b) => (b.y < a.y ? b : a));
      const words = draw("text", { x: top.x, y: top.y - 15, "text-anchor": "middle" }, each.name);
      return draw("g", { class: "hull" }, draw("path", { d: `M${corners.map((p) => `${p.x} ${p.y}`).join("L")}Z` }), words);
    }),
  );
}

// What runs between boxes, of what the sliders leave: share(T, S) = Σ through_t · share of its edges from S / what leaves T.
function quotient() {
  const { boxes, box } = boxesOf(state.groups);
  const carried = new Float64Array(count);
  replacement(edgeShown, carried);
  const through = range(count).map((row) => carried[row] + (goal[row] ?? 0));
  const leaving = boxes.map((each) => each.rows.reduce((total, row) => total + through[row], 0));
  const found = new Map();
  edges.source.forEach((s, e) => {
    if (!edgeShown[e] || isBias(e)) return;
    const t = edges.target[e];
    const carries = through[t] * Math.abs(edges.share[e]);
    if (box[s] === box[t]) {
      leaving[box[t]] -= carries;
      return;
    }
    const key = `${box[s]} ${box[t]}`;
    const flow = found.get(key) ?? { source: box[s], target: box[t], carries: 0, signed: 0 };
    flow.carries += carries;
    flow.signed += through[t] * edges.share[e];
    found.set(key, flow);
  });
  const flows = [...found.values()];
  flows.forEach((flow) => (flow.share = leaving[flow.target] > 0 ? flow.signed / leaving[flow.target] : 0));
  return { boxes, flows };
}

const ruler = document.createElement("canvas").getContext("2d");
function widthOf(words, font) {
  ruler.font = font;
  return ruler.measureText(words).width;
}
const clip = (words, most) => (words.length <= most ? words : `${words.slice(0, most - 1)}…`);

function diagram() {
  const { boxes, flows } = quotient();
  const whole = flows.reduce((total, flow) => total + flow.carries, 0);
  const runs = boxes.map((each) => each.rows.reduce((total, row) => total + (goal[row] ?? 0), 0));
  flows.forEach((flow) => (runs[flow.source] += flow.carries));
  const strongest = boxes.map((_, i) => i).filter((i) => runs[i] > 0).sort((a, b) => runs[b] - runs[a]);
  const inside = new Set(strongest.slice(0, MOST_BOXES));
  const drawn = [...inside].flatMap((t) =>
    flows.filter((flow) => flow.target === t && inside.has(flow.source)).sort((a, b) => b.carries - a.carries).slice(0, MOST_INPUTS),
  );
  const used = [...new Set(drawn.flatMap((flow) => [flow.source, flow.target]))];
  const order = orderOf(state.groups).filter((i) => used.includes(i));
  const layer = (i) => Math.round(boxes[i].rows.reduce((total, row) => total + nodes.layer[row], 0) / boxes[i].rows.length);
  const levels = [...new Set(order.map(layer))].sort((a, b) => a - b);
  const band = new Map();
  for (const i of order) band.set(i, Math.max(levels.indexOf(layer(i)), ...drawn.filter((flow) => flow.target === i).map((flow) => band.get(flow.source) + 1)));
  const top = Math.max(...band.values(), 0);
  const isAnswer = (i) => nodes.kind[boxes[i].rows[0]] === "logit";
  order.forEach((i) => isAnswer(i) && band.set(i, top));
  // Boxes stand from left to right as their nodes do in the picture above.
  const middle = (i) => boxes[i].rows.reduce((total, row) => total + (place[row]?.x ?? 0), 0) / boxes[i].rows.length;
  const cards = new Map(order.map((i) => {
    const rows = boxes[i].rows;
    const name = clip(isAnswer(i) ? `${answer(rows[0])} ${likely(rows[0], 0)}` : boxes[i].name, 26);
    const low = Math.min(...rows.map((row) => nodes.layer[row]));
    const high = Math.max(...rows.map((row) => nodes.layer[row]));
    const note = sort(rows[0]) === "unit" ? `${rows.length > 1 ? `${rows.length} nodes · ` : ""}L${low}${high > low ? `–L${high}` : ""}` : rows.length > 1 ? `${rows.length} ${nodes.kind[rows[0]]}s` : "";
    const wide = Math.max(widthOf(name, "bold 11px Helvetica, Arial, sans-serif"), widthOf(note, "8.5px Helvetica, Arial, sans-serif")) + 16;
    return [i, { name, note, wide, high: note ? 34 : 24 }];
  }));
  const bands = [...new Set(band.values())].sort((a, b) => b - a).map((level) => order.filter((i) => band.get(i) === level).sort((a, b) => middle(a) - middle(b)));
  const widths = bands.map((list) => list.reduce((total, i) => total + cards.get(i).wide + 18, -18));
  const width = Math.max(...widths, 560) + 24;
  bands.forEach((list, level) => {
    let edge = width - 12; // pushed apart from the left, then back from the right
    let x = 12;
    for (const i of list) {
      const card = cards.get(i);
      card.y = 24 + level * 84;
      card.x = Math.max(x + card.wide / 2, (middle(i) / natural) * width);
      x = card.x + card.wide / 2 + 18;
    }
    for (const i of [...list].reverse()) {
      const card = cards.get(i);
      card.x = Math.min(card.x, edge - card.wide / 2);
      edge = card.x - card.wide / 2 - 18;
    }
  });
  const picture = draw("svg", { class: "diagram", width, height: Math.max(bands.length, 1) * 84 - 36, viewBox: `0 0 ${width} ${Math.max(bands.length, 1) * 84 - 36}`, role: "group", "aria-label": `${order.length} boxes` });
  const most = Math.max(...drawn.map((flow) => flow.carries), 1e-12);
  for (const flow of [...drawn].sort((a, b) => a.carries - b.carries)) {
    const [from, to] = [cards.get(flow.source), cards.get(flow.target)];
    const thick = 0.5 + 5.5 * Math.min(Math.abs(flow.share), 1) ** 0.7;
    const [y0, y1, long] = [from.y - from.high / 2, to.y + to.high / 2, 4 + 1.5 * thick];
    const rise = Math.max(20, (y0 - y1) * 0.45);
    const wing = 2 + 0.8 * thick;
    const tip = flow.signed < 0
      ? draw("path", { class: "flow", "stroke-width": 2, d: `M${to.x - wing - 2} ${y1 + 2}h${2 * wing + 4}` })
      : draw("path", { class: "tip", d: `M${to.x - wing} ${y1 + long}L${to.x} ${y1}L${to.x + wing} ${y1 + long}Z` });
    const words = `${boxes[flow.source].name} → ${boxes[flow.target].name}: ${signedPercent(flow.share)} of its input`;
    const way = draw("path", { class: "flow", "stroke-width": thick.toFixed(2), d: `M${from.x} ${y0}C${from.x} ${y0 - rise} ${to.x} ${y1 + rise} ${to.x} ${y1 + (flow.signed < 0 ? 2 : long)}` });
    picture.append(draw("g", { class: flow.signed < 0 ? "lower" : "raise", opacity: (0.3 + 0.6 * (flow.carries / most) ** 0.45).toFixed(2) }, draw("title", {}, words), way, tip));
  }
  for (const i of order) {
    const card = cards.get(i);
    const rows = boxes[i].rows;
    const light = (on) => () => {
      spot = on ? rows : null;
      highlight();
    };
    const kind = ["error", "unselected"].includes(nodes.kind[rows[0]]) ? "unexplained" : rows.length > 1 ? "many" : "one";
    const group = draw("g", { class: `go ${kind}`, role: "button", "aria-label": card.name, pointerenter: light(true), pointerleave: light(false), click: () => rows.length === 1 && pin(rows[0]) });
    group.append(
      draw("rect", { x: card.x - card.wide / 2, y: card.y - card.high / 2, width: card.wide, height: card.high, rx: 5 }),
      draw("text", { x: card.x, y: card.y + (card.note ? -1 : 4), "font-size": 11, "font-weight": "bold" }, card.name),
      ...(card.note ? [draw("text", { class: "note", x: card.x, y: card.y + 11 }, card.note)] : []),
    );
    picture.append(group);
  }
  const carries = drawn.reduce((total, flow) => total + flow.carries, 0);
  const lost = flows.reduce((total, flow) => total + flow.carries - Math.abs(flow.signed), 0);
  const words = `${order.length} of ${boxes.length} boxes and ${drawn.length} of ${flows.length} edges, ${percent(whole > 0 ? carries / whole : null, 0)} of what they carry; ${percent(whole > 0 ? lost / whole : null, 0)} cancels within edges`;
  return [picture, make("p", { class: "quiet" }, words)];
}

function showGroups() {
  showHulls();
  const now = `${sifted} ${groupsNow()}`;
  if (now === diagramFor) return;
  diagramFor = now;
  const button = (words, click, off = false) => make("button", { type: "button", click, disabled: off }, words);
  const lines = state.groups.map((each, i) => {
    const rename = (event) => regroup(state.groups.map((group, j) => (j === i ? { ...group, name: event.target.value.trim() || group.name } : group)));
    const light = (rows) => () => {
      spot = rows;
      highlight();
    };
    return make("li", { pointerenter: light(each.rows), pointerleave: light(null) },
      make("input", { type: "text", value: each.name, "aria-label": "name of the group", change: rename }), " ",
      make("span", { class: "quiet" }, `${each.rows.length} nodes: ${clip(each.rows.map((row) => names[row]).join(", "), 90)} `),
      button("dissolve", () => regroup(state.groups.filter((_, j) => j !== i))),
    );
  });
  const suggested = Object.entries(graph.suggested ?? {}).map(([name, rows]) => ({ name, rows }));
  document.getElementById("groups").replaceChildren(
    make("h2", { id: "groups-name" }, "Groups"),
    make("p", { class: "quiet" }, "Drag a node of the picture onto another to group them, onto nothing to take it out. Suggested groups are fed alike, lead to the same and fire alike; they are proposals, not findings."),
    make("p", {}, button(`suggested (${suggested.length})`, () => regroup(suggested), !suggested.length), " ", button("undo", undo, !past.length), " ", button("none", () => regroup([]), !state.groups.length)),
    said ? make("p", { class: "failed", role: "alert" }, said) : "",
    waiting !== null ? make("p", {}, `${names[waiting]}: go to another node and press g to group the two.`) : "",
    make("div", { class: "sides" }, make("div", {}, ...diagram()), lines.length ? make("ul", {}, ...lines) : ""),
  );
}

// --- what is shown, saved ---

// The picture as it is on view, with the figures for what is not: colours spelled out, nothing of this page needed.
function shownSvg() {
  const copy = svg.cloneNode(true);
  copy.querySelectorAll(".gone, .hit, .drag, .lit").forEach((mark) => mark.remove());
  const colours = getComputedStyle(document.documentElement);
  for (const mark of [copy, ...copy.querySelectorAll("*")]) {
    for (const name of ["fill", "stroke"]) {
      const found = /^var\((--\w+)\)$/.exec(mark.getAttribute(name) ?? "");
      if (found) mark.setAttribute(name, colours.getPropertyValue(found[1]).trim());
    }
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

// --- beside another graph ---

// What a node is in any prompt of the same model: its place counted from the end.
const nameless = (other, row) => {
  const at = other.nodes.position[row] < 0 ? "" : other.tokens.length - other.nodes.position[row];
  const kind = other.nodes.kind[row];
  const what = ["error", "bias", "unselected"].includes(kind) ? other.nodes.label[row] : other.nodes.feature[row];
  return JSON.stringify([kind, other.nodes.layer[row], what, at]);
};

function readOther(text) {
  const page = /^\s*</.test(text) ? new DOMParser().parseFromString(text, "text/html").getElementById("graph")?.textContent : text;
  const other = JSON.parse(page);
  const long = other.nodes.kind.length;
  for (const name of ["layer", "position", "feature", "influence", "label"]) if (other.nodes[name].length !== long) throw new Error(`its nodes have ${long} kinds and ${other.nodes[name].length} of ${name}`);
  if (!Array.isArray(other.tokens) || other.edges.source.length !== other.edges.target.length) throw new Error("tokens or edges are missing");
  // In what was saved, edges speak of rows of the whole graph.
  const rows = other.nodes.row ?? other.nodes.kind.map((_, row) => row);
  other.at = new Map(rows.map((row, i) => [row, i]));
  return other;
}

function compare(other) {
  const there = new Map(other.nodes.kind.map((_, row) => [nameless(other, row), row]));
  const here = new Map(range(count).map((row) => [nameless(graph, row), row]));
  const both = [...here].filter(([name]) => there.has(name)).map(([name, row]) => ({ row, other: there.get(name) }));
  const edgeNames = (one, at) => new Set(one.edges.source.map((s, e) => [s, one.edges.target[e]].map((row) => at.get(row)).map((row) => nameless(one, row)).join()));
  const [ours, theirs] = [edgeNames(graph, new Map(range(count).map((row) => [row, row]))), edgeNames(other, other.at)];
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

function showBeside(text, name) {
  const section = document.getElementById("beside");
  section.hidden = false;
  const close = make("button", { type: "button", class: "close", click: () => { section.hidden = true; spot = null; document.getElementById("other").value = ""; highlight(); } }, "×");
  let other;
  let found;
  try {
    other = readOther(text);
    found = compare(other);
  } catch (fault) {
    section.replaceChildren(close, make("p", { class: "failed", role: "alert" }, `${name} could not be compared: wanted is a graph's page, or JSON saved from one (${fault.message}).`));
    return;
  }
  const light = (rows, words) => make("button", { type: "button", click: () => { spot = rows; highlight(); svg.scrollIntoView({ block: "nearest" }); } }, words);
  const change = (pair) => (other.nodes.influence[pair.other] ?? 0) - (nodes.influence[pair.row] ?? 0);
  const moved = [...found.both].sort((a, b) => Math.abs(change(b)) - Math.abs(change(a))).slice(0, FEW);
  const at = (row) => (other.nodes.position[row] >= 0 ? ` @${String(other.tokens[other.nodes.position[row]]).trim()}` : "");
  section.replaceChildren(
    close,
    make("h2", {}, "Beside ", `“${other.prompt}”`),
    make("p", {}, light(found.both.map((pair) => pair.row), `${found.both.length} nodes in both`), " ", light(found.here, `${found.here.length} only here`), ` ${found.there.length} only there; edges: ${found.edges.both} in both, ${found.edges.here - found.edges.both} only here, ${found.edges.there - found.edges.both} only there; overlap of influence ${found.overlap === null ? "undefined" : found.overlap.toFixed(2)}`),
    make("p", { class: "quiet" }, "A node is the same in both when kind, layer, unit and place counted from the end are. Overlap: the lesser of both influences over the greater, summed over all nodes. How much two prompts of one kind differ anyway, this does not say."),
    make("div", { class: "sides" },
      make("div", {}, make("h3", {}, "Influence moves most, here → there"), make("table", {}, ...moved.map((pair) => line(pair.row, [make("td", {}, goTo(pair.row)), figure(`${percent(nodes.influence[pair.row])} → ${percent(other.nodes.influence[pair.other])}`)])))),
      make("div", {}, make("h3", {}, "Only there"), make("table", {}, ...found.there.slice(0, FEW).map((row) => make("tr", {}, make("td", {}, `${other.nodes.label[row] || other.nodes.kind[row]} L${other.nodes.layer[row]}${at(row)}`), figure(percent(other.nodes.influence[row])))))),
    ),
  );
}

// --- the assay ---

function showAssay() {
  const claims = document.getElementById("claims");
  if (!assay) {
    claims.replaceChildren(make("p", { class: "quiet" }, "Not tested by ablation. What the picture says is what attribution predicts; `circuits check ID` ablates the stored graph in the model."));
    return;
  }
  const registered = assay.registration;
  const about = [registered.metric ? `${registered.metric[0].toUpperCase()}${registered.metric.slice(1)}.` : "", registered.hash ? `Registered as ${registered.hash} before the experiments ran.` : "", "One prompt: nothing here says what happens on others."];
  claims.replaceChildren(make("p", { class: "quiet" }, about.filter(Boolean).join(" ")), verdictTable(), ...notRun());
  document.getElementById("costs").replaceChildren(
    ...costs(),
    make("details", {}, make("summary", { class: "quiet" }, "everything that was registered"), make("pre", {}, JSON.stringify(registered, null, 1))),
  );
}

const STAGES = {
  trace: "the prompt run once", ablations: "nodes ablated one by one", subsets: "the whole graph against random sets",
  edges: "each edge by experiment", doses: "nodes halved and turned round", between: "nodes ablated, all others read",
  disturbances: "a small change in both models", contributions: "what each feature adds to the graph",
  curves: "keeping more and more of the graph", controls: "graphs that should do worse",
  prunings: "pruning it otherwise", rewordings: "asking in other words",
  examples: "the graph's features in other wordings", reseeded: "the whole graph, all that is random drawn anew",
};
const stage = (name) => STAGES[name] ?? name;

function notRun() {
  const skipped = Object.entries(assay.skipped);
  if (!skipped.length) return [];
  return [make("h3", {}, "Registered and not run"), make("ul", {}, ...skipped.map(([name, why]) => make("li", {}, stage(name), spaced(why))))];
}

function costs() {
  const stages = Object.entries(assay.seconds).filter(([, seconds]) => seconds !== null);
  if (!stages.length) return [];
  const all = stages.reduce((total, [, seconds]) => total + seconds, 0);
  const most = Math.max(...stages.map(([, seconds]) => seconds));
  return [
    make("h3", {}, `What it cost: ${number(all)} s`),
    make("table", { class: "costs" }, ...stages.map(([name, seconds]) => make("tr", {}, make("td", {}, stage(name)), figure(`${seconds.toFixed(2)} s`), bar(seconds, most)))),
  ];
}

// The plots come with the page; a dot that tells of a node points it out in the picture, and the other way round.
function listenToPlots() {
  const plots = document.getElementById("plots");
  const nodeOf = (event) => event.target.closest?.("[data-about]")?.dataset.about;
  plots.addEventListener("pointerover", (event) => peek(nodeOf(event) === undefined ? null : Number(nodeOf(event))));
  plots.addEventListener("pointerleave", () => peek(null));
  plots.addEventListener("click", (event) => nodeOf(event) !== undefined && pin(Number(nodeOf(event))));
  for (const { mark } of dots) fill(mark, { role: "button", "aria-label": mark.querySelector("title").textContent }, []);
}

const MARKS = { supported: ["✓", ""], "not supported": ["✗", "failed"], untested: ["–", "quiet"] };

// In percent where the bar is, "≥ 80% of …", or speaks of what survives; else plain.
const asItsBar = (verdict) => (/^([≤≥] \S*%|more survives)/.test(verdict.threshold) ? percent(verdict.number) : number(verdict.number));

function verdictTable() {
  const rows = assay.verdicts.map((each) => {
    const [mark, kind] = MARKS[each.verdict] ?? ["", ""];
    return make("tr", {}, make("td", { class: kind }, `${mark} ${each.verdict}`), make("td", {}, each.claim), figure(each.number === null ? "" : asItsBar(each)), make("td", {}, each.threshold), make("td", { class: "quiet" }, each.control));
  });
  return make("div", { class: "scroll" }, make("table", { class: "verdicts" }, head(["verdict"], ["claim"], ["measured", "figure"], ["wanted"], ["against"]), ...rows));
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
    panel.scrollTop = 0;
  });
  find.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !matches()?.length) return;
    find.blur(); // so that the arrow keys walk on from here
    pin(matches().find((row) => nodeMark[row]) ?? matches()[0]);
  });
  for (const name of SLIDERS) {
    document.getElementById(name).addEventListener("input", (event) => slide(name, Number(event.target.value)));
    document.getElementById(name).addEventListener("change", writeAddress);
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
    if ((event.ctrlKey || event.metaKey) && event.key === "z" && !typing) {
      event.preventDefault();
      undo();
    }
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
    } else if (event.key === "g" && state.node !== null) {
      if (waiting !== null && waiting !== state.node) join(waiting, state.node);
      waiting = waiting === null ? state.node : null;
      showGroups();
    } else if (event.key === "u") undo();
  });
  window.addEventListener("hashchange", () => {
    readAddress();
    refresh();
  });
  document.getElementById("dense-tool").hidden = !densities.length;
  document.getElementById("save-svg").addEventListener("click", () => save(new Blob([shownSvg()], { type: "image/svg+xml" }), "svg"));
  document.getElementById("save-png").addEventListener("click", savePng);
  document.getElementById("save-json").addEventListener("click", () => save(new Blob([JSON.stringify(shownGraph())], { type: "application/json" }), "json"));
  document.getElementById("other").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (file) showBeside(await file.text(), file.name);
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
  state.dense = Math.max(0, value("dense"));
  state.groups = readGroups(said.get("groups"));
  state.find = said.get("find") ?? "";
  state.path = said.has("path") && graph.paths[value("path") - 1] ? value("path") - 1 : null;
  state.zoom = said.has("zoom") && value("zoom") > 0 ? value("zoom") : null;
  document.getElementById("find").value = state.find;
}

function writeAddress() {
  const said = new URLSearchParams();
  if (state.node !== null) said.set("node", state.node);
  if (state.path !== null) said.set("path", state.path + 1);
  for (const name of [...SLIDERS, "zoom"]) if (state[name]) said.set(name, rounded(state[name]));
  if (state.find) said.set("find", state.find);
  if (state.groups.length) said.set("groups", JSON.stringify(state.groups.map((each) => [each.name, ...each.rows])));
  const words = said.toString();
  if (location.protocol === "about:") return; // in a frame that has no address of its own
  if (words !== location.hash.slice(1)) history.replaceState(null, "", words ? `#${words}` : location.pathname + location.search);
}

function refresh() {
  resize();
  showSifted();
  showPanel();
  writeAddress();
}

// While a slider moves, only what it changes is made anew, and the address waits until it rests: browsers count its changes.
function slide(name, at) {
  const before = nodeShown[state.node];
  state[name] = toValue(name, at);
  showSifted();
  if (nodeShown[state.node] !== before) showPanel();
}

function showSifted() {
  sift();
  highlight();
  showHulls();
  // The diagram waits too: it is made anew from all edges.
  clearTimeout(soon);
  if (diagramFor.endsWith(groupsNow())) soon = setTimeout(showGroups, 150);
  else showGroups();
}

prepare();
readAddress();
listen();
listenToPlots();
showFacts();
showAssay();
refresh();
if (state.node !== null) reveal(state.node);
