// Keys: the arrows walk along the strongest edges.

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

function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input, select");
    if ((event.ctrlKey || event.metaKey) && event.key === "z" && !typing) {
      event.preventDefault();
      undo();
    }
    if (event.key === "Escape") {
      if (waiting !== null || said) {
        waiting = null;
        said = "";
        showGroups();
      } else if (state.node !== null || state.edge !== null || state.path !== null) pin(null);
      else if (state.find) {
        document.getElementById("find").value = state.find = "";
        refresh();
      }
    } else if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
    else if (event.key === "/") {
      event.preventDefault();
      document.getElementById("find").focus();
    } else if (event.key.startsWith("Arrow")) {
      event.preventDefault();
      pin(walk(event.key));
    } else if (event.key === "g" && state.node !== null) {
      if (waiting !== null && waiting !== state.node) join(waiting, state.node);
      waiting = waiting === null ? state.node : null;
      showGroups();
    } else if (event.key === "u") undo();
  });
}
