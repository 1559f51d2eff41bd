// What there is to know of one edge: what runs along it, and what experiments said of that.

function aboutEdge(e) {
  const [s, t] = [edges.source[e], edges.target[e]];
  const facts = [
    ["from", goTo(s)], ["to", goTo(t)], ["weight", exactly(edges.weight[e])],
    ["share", isBias(e) ? "a constant" : `${signedPercent(edges.share[e])} of the sizes of its target's inputs`],
  ];
  return [
    make("button", { type: "button", class: "close", click: () => pin(null), "aria-label": "close, back to the overview" }, "×"),
    make("h2", {}, `${names[s]} → ${names[t]}`),
    make("dl", { class: "facts" }, ...facts.flatMap(([name, words]) => [make("dt", {}, name), make("dd", {}, words)])),
    ...(edgeShown[e] ? [] : [make("p", { class: "quiet" }, "Hidden by the sliders.")]),
    ...splitOver(e),
    make("h3", {}, "Its source left out, all else held"),
    make("p", { class: tried(e).failed ? "failed" : "quiet" }, tried(e).words),
    ...ablatedAlong(e),
  ];
}

// The heads that carried it, with their loads in the units of its weight.
function splitOver(e) {
  const rows = carriedBy(e).map(([layer, which, load]) =>
    make("tr", {}, make("td", {}, `a${layer}.h${which}`), figure(exactly(load), load < 0 ? "lower" : "raise"), figure(signedPercent(load / edges.weight[e]))));
  if (!rows.length && isBias(e)) return [];
  if (!rows.length) return headless() ? [make("p", { class: "quiet" }, headless())] : [];
  return [
    make("h3", {}, "Through which heads"),
    make("table", { class: "heads" }, head(["head"], ["load", "figure"], ["of the weight", "figure"]), ...rows),
    make("p", { class: "quiet" }, "Each layer splits the whole weight anew: loads of different layers do not add up. The rest passed other heads, or none."),
  ];
}

const UNTRIED = {
  source: "Not tested: its source is written nowhere, so it cannot be left out.",
  target: "Not tested: its target is neither a unit nor a logit, and is not read.",
};

function tried(e) {
  const found = assay?.edges[0];
  if (!found) return { words: "Not tested." };
  if (assay.untried[e]) return { words: UNTRIED[assay.untried[e]] };
  const off = `${number(100 * found.largest)}% of the target's input`;
  const [s, t] = assay.failed ?? [];
  if (edges.source[e] === s && edges.target[e] === t) return { failed: true, words: `✗ not supported: the target moved otherwise than by the weight, by ${off}.` };
  return assay.failed ? { words: `Tested; no edge was further from its weight than ${off}.` } : { words: `Tested: the target moved by the weight, to within ${off}.` };
}

// The source ablated and everything further on left free: what becomes of the target.
function ablatedAlong(e) {
  const [found, s, t] = [assay?.between[0], edges.source[e], edges.target[e]];
  const i = found ? range(found.source.length).find((each) => found.source[each] === s && found.target[each] === t) : undefined;
  if (i === undefined) return [];
  const rows = [["by this edge alone", "direct"], ["by all paths, the graph predicts", "predicted"], ["measured, attention live", "measured"], ["measured, attention held", "measured_frozen"]];
  const wrong = (name) => name.startsWith("measured") && found.predicted[i] * found[name][i] < 0;
  return [
    make("h3", {}, "Its source ablated, the target's value changes by"),
    make("table", {}, ...rows.map(([words, name]) => make("tr", {}, make("td", {}, words), figure(signedPercent(found[name][i]), wrong(name) ? "failed" : "")))),
  ];
}
