// What there is to know of one node.

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
  if (kind === "logit") facts.push(isContrast(row) ? ["leads by", likely(row)] : ["probability", likely(row, 2)], ["token id", String(nodes.feature[row])]);
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
  if (note) parts.push(...card(note, row));
  parts.push(...measured(row), ...extras.flatMap((more) => more(row)));
  if (nodes.gross[row] > 0 || inputs[row].length) parts.push(...ledger(row));
  else parts.push(make("h3", {}, "Inputs"), make("p", { class: "quiet" }, "None: it is where paths begin."));
  if (kind !== "logit") parts.push(...flowsOn(row));
  return parts;
}
