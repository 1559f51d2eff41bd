// The sliders: what they leave on view, and how much that is.

const largest = Math.max(1e-9, ...range(count).filter((row) => !ALWAYS.has(nodes.kind[row])).map((row) => nodes.influence[row] ?? 0));
const density = range(count).map((row) => graph.notes[unitOf(row)]?.density ?? null);
const densities = density.filter((each, row) => each > 0 && isUnit(row));
// From all to few: for densities the other way round.
const SCALES = { least: [largest / 1000, largest], share: [0.001, 0.5], dense: densities.length ? [Math.max(...densities), Math.min(...densities)] : [1, 1] };
const SLIDERS = Object.keys(SCALES);
const tooDense = (row, at) => at.dense > 0 && density[row] > at.dense && isUnit(row);
const nodeStays = (row, at) =>
  ALWAYS.has(nodes.kind[row]) || nodes.kind[row] === "bias" || ((nodes.influence[row] ?? 0) >= at.least && !tooDense(row, at));
const sharesEnough = (e, at) => isBias(e) || Math.abs(edges.share[e]) >= at.share;
const edgeStays = (e, at) => nodeStays(edges.source[e], at) && nodeStays(edges.target[e], at) && sharesEnough(e, at);
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
  nodeShown = nodes.kind.map((_, row) => nodeStays(row, state));
  edgeShown = edges.source.map((s, e) => nodeShown[s] && nodeShown[edges.target[e]] && sharesEnough(e, state));
  nodeMark.forEach((mark, row) => mark && mark.classList.toggle("gone", !nodeShown[row]));
  nodeLabel.forEach((label, row) => label && label.classList.toggle("gone", !nodeShown[row]));
  svg.querySelectorAll(".hit").forEach((hit) => hit.classList.toggle("gone", !nodeShown[hit.dataset.row]));
  if (!moving) toggleEdges();

  for (const name of SLIDERS) {
    const words = name === "dense" && !state.dense ? "100%" : percent(state[name], 2);
    document.getElementById(`${name}-said`).textContent = words;
    const slider = document.getElementById(name);
    if (document.activeElement !== slider) slider.value = toPlace(name, state[name]);
    slider.setAttribute("aria-valuetext", words);
  }
  sayCounts();
}

const toggleEdges = () => edgeMark.forEach((mark, e) => mark && mark.classList.toggle("gone", !edgeShown[e]));

function sayCounts() {
  const inPicture = (row) => nodeMark[row] !== null;
  const seen = nodeShown.filter((shown, row) => shown && inPicture(row)).length;
  const flows = edges.source.filter((_, e) => !isBias(e)).length;
  const left = edges.source.filter((_, e) => !isBias(e) && edgeShown[e]).length;
  const sum = (rows) => rows.reduce((total, row) => total + (nodes.influence[row] ?? 0), 0);
  const all = range(count);
  const carries = sum(all.filter((row) => nodeShown[row])) / Math.max(sum(all), 1e-12);
  const parts = [`${whole(seen)} of ${whole(onPicture)} nodes, ${percent(carries, 0)} of what they carry`, `${whole(left)} of ${whole(flows)} edges`];
  const drawn = edgeMark.filter((mark, e) => mark && edgeShown[e] && !isBias(e)).length;
  if (drawn < left) parts.push(`${whole(drawn)} of them drawn, the strongest; others when you ask for a node`);
  const after = replacement(edgeShown);
  parts.push(
    left < flows || seen < onPicture
      ? `replacement ${score(unsifted)} → ${score(after)}, what is hidden counted as pruned`
      : `replacement ${score(unsifted)}`,
  );
  document.getElementById("counts").textContent = parts.join(" · ");
}
