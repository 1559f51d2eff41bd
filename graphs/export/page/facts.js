// What stands above the picture: the answer, the scores, where influence ends.

function showFacts() {
  const { scores, kept } = graph;
  const change = (name) => {
    const before = kept[`${name}_before`];
    return before === undefined ? `${name} ${score(scores[name])}` : `${name} ${score(before)} → ${score(scores[name])} after pruning`;
  };
  const logits = range(count).filter((row) => nodes.kind[row] === "logit" || graph.goal[row]).sort((a, b) => nodes.activation[b] - nodes.activation[a]);
  const answers = logits.slice(0, 5).map((row) => make("span", {}, goTo(row, graph.answers[row]), nodes.kind[row] === "logit" ? ` ${likely(row)}` : ""));
  if (logits.length > 5) answers.push(make("span", { class: "quiet" }, `and ${logits.length - 5} more`));
  const ends = [["tokens", scores.replacement], ["errors", scores.error], ["untraced", scores.unselected], ["pruned", scores.pruned]];
  const called = { tokens: "tokens", errors: "errors of the features", untraced: "features not traced", pruned: "what was pruned away" };
  const [allNodes, allEdges] = graph.served?.whole ?? [];
  const size = Number.isInteger(graph.served?.around)
    ? `next to one node: ${whole(count)} of ${whole(allNodes)} nodes, ${whole(edges.source.length)} of ${whole(allEdges)} edges`
    : graph.size;
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

function verdictsInShort() {
  const below = (words, kind) => make("button", { type: "button", class: kind, click: () => document.getElementById("assay").scrollIntoView() }, words);
  if (!assay) return ["; ", below("not tested by ablation", "quiet")];
  const many = (verdict) => assay.verdicts.filter((each) => each.verdict === verdict).length;
  const failed = many("not supported");
  return [`; assay on this prompt: ${many("supported")} supported, `, failed ? below(`${failed} not supported`, "failed") : "0 not supported", `, ${many("untested")} untested`];
}
