// What came into a node and where it goes, with the heads that carried it.

// Which heads carried an edge, where that is known: [layer, head, load], those that carried 5% of it or more.
function carriedBy(e) {
  const heads = graph.heads[`${edges.source[e]}-${edges.target[e]}`] ?? [];
  return heads.filter(([, , load]) => Math.abs(load) >= 0.05 * Math.abs(edges.weight[e]));
}

// The same in words: the part of its weight that passed each.
function through(e) {
  const said = carriedBy(e).map(([layer, which, load]) => `a${layer}.h${which} ${percent(load / edges.weight[e], 0).replace("-", "−")}`);
  return said.length ? [make("div", { class: "quiet heads" }, said.join("  "))] : [];
}

function aboutHeads(rows) {
  if (rows.some((e) => carriedBy(e).length)) return ` a1.h2 30%: of the weight, 30% passed head 2 of layer 1; each layer splits it anew.${splitInPart()}`;
  return rows.every(isBias) ? "" : headless();
}

// Where heads were kept with the graph and cannot be read.
const headless = () => (graph.headless ? ` Through which heads is not known: ${graph.headless}` : "");

function splitInPart() {
  const some = graph.split;
  return some && some.edges < some.of ? ` The strongest ${some.edges.toLocaleString("en")} of ${some.of.toLocaleString("en")} edges were split over heads.` : "";
}

// A weight leads to its edge: by keys too, and where it is too weak to be drawn.
function weightOf(e) {
  const click = (event) => {
    event.stopPropagation(); // the row leads to the node
    pinEdge(e);
  };
  return make("button", { type: "button", title: "this edge, and what was measured of it", click }, exactly(edges.weight[e]));
}

// Everything that came in, whatever became of it: what is listed and what was pruned sum to the value.
function ledger(row) {
  const rows = [...inputs[row]].sort((a, b) => isBias(a) - isBias(b) || Math.abs(edges.weight[b]) - Math.abs(edges.weight[a]));
  const most = Math.max(...rows.map((e) => Math.abs(edges.share[e])), 0);
  const entry = (e) => {
    const s = edges.source[e];
    const words = isBias(e) ? "constant" : signedPercent(edges.share[e]);
    return line(s, [bar(edges.share[e], most), make("td", {}, goTo(s), ...through(e)), figure(weightOf(e), edges.weight[e] < 0 ? "lower" : "raise"), figure(words)]);
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
    make("p", { class: "quiet" }, `Share: of the sizes of everything that came in, in the whole trace, constants left out.${aboutHeads(rows)}`),
  ];
}

function flowsOn(row) {
  const carries = (e) => Math.abs(edges.share[e]) * ((nodes.influence[edges.target[e]] ?? 0) + (goal[edges.target[e]] ?? 0));
  const rows = [...outputs[row]].sort((a, b) => carries(b) - carries(a));
  if (!rows.length) return [make("h3", {}, "Outputs"), make("p", { class: "quiet" }, "None are left in the graph.")];
  const most = Math.max(...rows.map((e) => Math.abs(edges.share[e])));
  const entry = (e) => {
    const t = edges.target[e];
    return line(t, [bar(edges.share[e], most), make("td", {}, goTo(t), ...through(e)), figure(weightOf(e), edges.weight[e] < 0 ? "lower" : "raise"), figure(isBias(e) ? "constant" : signedPercent(edges.share[e]))]);
  };
  return [
    make("h3", {}, `Outputs (${rows.length})`),
    table(head([""], ["to"], ["weight", "figure"], ["of its input", "figure"]), rows.map((e) => () => entry(e)), []),
  ];
}
