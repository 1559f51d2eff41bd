// The diagram of boxes: groups and single nodes, and what runs between them.

const MOST_BOXES = 25;
const MOST_INPUTS = 4;

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

let boxMarks = []; // of the diagram: each box, with the rows in it

function markBoxes() {
  const asked = hovered ?? state.node;
  for (const { mark, rows } of boxMarks) mark.classList.toggle("on", rows.includes(asked));
}

function diagram() {
  boxMarks = [];
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
    const name = clip(isAnswer(i) ? `${graph.answers[rows[0]]} ${likely(rows[0], 0)}` : boxes[i].name, 26);
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
  const picture = draw("svg", { class: "diagram", style: `width: clamp(${0.7 * width}px, 100%, ${width}px)`, width, height: Math.max(bands.length, 1) * 84 - 36, viewBox: `0 0 ${width} ${Math.max(bands.length, 1) * 84 - 36}`, role: "group", "aria-label": `${order.length} boxes` });
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
    const chief = rows.reduce((a, b) => ((nodes.influence[b] ?? 0) > (nodes.influence[a] ?? 0) ? b : a)); // of a group, what matters most
    const enter = (event) => event.key === "Enter" && pin(chief);
    const group = draw("g", { class: `go ${kind}`, role: "button", tabindex: 0, "aria-label": card.name, pointerenter: light(true), pointerleave: light(false), click: () => pin(chief), keydown: enter });
    group.append(
      draw("rect", { x: card.x - card.wide / 2, y: card.y - card.high / 2, width: card.wide, height: card.high, rx: 5 }),
      draw("text", { x: card.x, y: card.y + (card.note ? -1 : 4), "font-size": 11, "font-weight": "bold" }, card.name),
      ...(card.note ? [draw("text", { class: "note", x: card.x, y: card.y + 11 }, card.note)] : []),
    );
    picture.append(group);
    boxMarks.push({ mark: group, rows });
  }
  const carries = drawn.reduce((total, flow) => total + flow.carries, 0);
  const lost = flows.reduce((total, flow) => total + flow.carries - Math.abs(flow.signed), 0);
  const words = !flows.length ? "No edges to draw." : `${order.length} of ${boxes.length} boxes and ${drawn.length} of ${flows.length} edges, ${percent(whole > 0 ? carries / whole : null, 0)} of what they carry; ${percent(whole > 0 ? lost / whole : null, 0)} cancels within edges`;
  return [picture, make("p", { class: "quiet" }, words)];
}
