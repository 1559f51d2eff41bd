// The score of what is left of the graph.

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
