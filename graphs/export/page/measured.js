// What the assay measured of single nodes, against what the graph predicts.

const dots = [...document.querySelectorAll("#plots [data-about]")].map((mark) => ({ node: Number(mark.dataset.about), mark }));
// Predicted to move the target by as much as the assay counts, and moved it the other way.
const opposed = { live: new Set(assay?.opposed.live), held: new Set(assay?.opposed.held) };
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
  const cells = (name, change, kl, way) =>
    make("tr", {}, make("td", {}, name), figure(exactly(change), opposed[way]?.has(row) ? "failed" : ""), figure(kl === null ? "" : number(kl)));
  const ways = Object.keys(opposed).filter((way) => opposed[way].has(row));
  return [
    make("h3", {}, "Ablated alone, the target changes by"),
    make("table", {},
      make("tr", {}, make("th", {}), ...(explainsLogit ? ["logits", "KL, nats"] : ["its value", "size"]).map((words) => make("th", { class: "figure" }, words))),
      cells("the graph predicts", found.predicted, null),
      cells("measured, attention live", found.measured, found.kl, "live"),
      cells("measured, attention held", found.measured_frozen, found.kl_frozen, "held"),
    ),
    ways.length ? make("p", { class: "failed" }, `✗ not supported: the target moves the other way, attention ${ways.join(" and ")}.`) : "",
    make("button", { type: "button", class: "more", click: () => dots.find((dot) => dot.node === row)?.mark.scrollIntoView({ block: "center" }) }, "show in the plots"),
  ];
}
