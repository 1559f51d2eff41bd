// What is asked about stands out: a node that is hovered or pinned, a path, what was found, a group.

let hovered = null;
let spot = null; // rows that are lit together: a group's, or what two graphs share
const MOST_LIT = 400; // of one node, the strongest
let litFor = "";

function highlight() {
  const asked = hovered ?? state.node;
  const edge = hovered === null ? state.edge : null;
  const path = hovered === null && state.path !== null ? graph.paths[state.path] : null;
  const found = matches();
  // Under a resting pointer the picture must rest too: what is drawn anew counts as entered anew.
  const together = hovered === null ? spot : null;
  const question = JSON.stringify([asked, edge, path, found, together, state.node, state.least, state.share, state.dense]);
  if (question === litFor) return;
  litFor = question;
  svg.querySelectorAll(".on").forEach((mark) => mark.classList.remove("on"));
  svg.classList.toggle("asking", asked !== null || edge !== null || path !== null || together !== null || (hovered === null && found !== null));
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
  } else if (edge !== null) {
    [edges.source[edge], edges.target[edge]].forEach(light);
    wanted = [edge];
  } else if (found) found.forEach(light);
  const size = (e) => Math.abs(edges.share[e]);
  const strongest = wanted.sort((a, b) => size(b) - size(a)).slice(0, MOST_LIT);
  lit.replaceChildren(...strongest.reverse().map(copy).filter(Boolean));
  svg.querySelectorAll(".found").forEach((mark) => mark.classList.remove("found"));
  found?.forEach((row) => nodeMark[row]?.classList.add("found"));
  for (const dot of dots) dot.mark.classList.toggle("on", dot.node === asked);
  markBoxes();
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
  state.path = state.edge = null;
  refresh();
  // For who hears the page: arrow keys move no focus.
  document.getElementById("pinned").textContent = state.node === null ? "" : `${nodes.kind[state.node]} ${names[state.node]}`;
  if (state.node === null) return;
  panel.scrollTop = 0;
  reveal(state.node);
}

function pinEdge(e) {
  state.node = state.path = null;
  state.edge = e;
  refresh();
  panel.scrollTop = 0;
}

function peek(row) {
  hovered = row;
  highlight();
}
