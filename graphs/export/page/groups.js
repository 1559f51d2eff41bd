// Nodes grouped by hand or as suggested: made, named, taken back.

const UNITS = new Set(["feature", "attention", "neuron", "head", "mlp", "supernode"]);
const sort = (row) => (UNITS.has(nodes.kind[row]) ? "unit" : nodes.kind[row]);
const past = []; // groups as they were, for undo
let waiting = null; // a node that "g" was pressed on
let said = ""; // what could not be done
let diagramFor = "";
let soon = 0;
const groupsNow = () => JSON.stringify([state.groups, said, waiting, past.length]);

function readGroups(words) {
  try {
    const read = JSON.parse(words ?? "[]").map(([name, ...rows]) => ({ name: String(name), rows: [...new Set(rows)] }));
    const all = read.flatMap((each) => each.rows);
    const fits = all.every((row) => Number.isInteger(row) && row >= 0 && row < count) && new Set(all).size === all.length;
    return fits && orderOf(read) ? read.filter((each) => each.rows.length > 1) : [];
  } catch {
    return []; // an address that was typed wrongly
  }
}

// Which group each node is in, those in none in one of their own: place in the list of boxes.
function boxesOf(groups) {
  const boxes = groups.map((each) => ({ name: each.name, rows: each.rows }));
  const box = new Array(count).fill(-1);
  boxes.forEach((each, i) => each.rows.forEach((row) => (box[row] = i)));
  for (let row = 0; row < count; row++) if (box[row] < 0) box[row] = boxes.push({ name: names[row], rows: [row] }) - 1;
  return { boxes, box };
}

// The boxes in an order in which every edge points forward; null if groups feed each other in a circle.
function orderOf(groups) {
  const { boxes, box } = boxesOf(groups);
  const next = boxes.map(() => new Set());
  edges.source.forEach((s, e) => box[s] !== box[edges.target[e]] && next[box[s]].add(box[edges.target[e]]));
  const waits = new Array(boxes.length).fill(0);
  next.forEach((targets) => targets.forEach((t) => waits[t]++));
  const ready = boxes.map((_, i) => i).filter((i) => !waits[i]);
  for (let i = 0; i < ready.length; i++) next[ready[i]].forEach((t) => --waits[t] || ready.push(t));
  return ready.length === boxes.length ? ready : null;
}

function regroup(groups, why = "") {
  const kept = groups.filter((each) => each.rows.length > 1);
  said = why;
  if (!orderOf(kept)) said = "Not grouped: the groups would feed each other in a circle.";
  else {
    past.push(state.groups);
    state.groups = kept;
  }
  refresh();
}

function undo() {
  if (!past.length) return;
  state.groups = past.pop();
  said = "";
  refresh();
}

function join(row, other) {
  const holds = (each) => each.rows.includes(row) || each.rows.includes(other);
  if (sort(row) !== sort(other)) {
    said = `Not grouped: ${sort(row)} and ${sort(other)} do not go together.`;
    return showGroups();
  }
  const [from, to] = [row, other].map((each) => state.groups.find((group) => group.rows.includes(each)));
  if (from && from === to) return;
  const rows = [...(to?.rows ?? [other]), ...(from?.rows ?? [row])].sort((a, b) => a - b);
  const name = to?.name ?? from?.name ?? nodes.label[other].trim();
  regroup([...state.groups.filter((each) => !holds(each)), { name, rows }]);
}

function leave(row) {
  if (!state.groups.some((each) => each.rows.includes(row))) return;
  regroup(state.groups.map((each) => ({ ...each, rows: each.rows.filter((other) => other !== row) })));
}

function showGroups() {
  showHulls();
  const now = `${sifted} ${groupsNow()}`;
  if (now === diagramFor) return;
  diagramFor = now;
  const button = (words, click, off = false) => make("button", { type: "button", click, disabled: off }, words);
  const lines = state.groups.map((each, i) => {
    const rename = (event) => regroup(state.groups.map((group, j) => (j === i ? { ...group, name: event.target.value.trim() || group.name } : group)));
    const light = (rows) => () => {
      spot = rows;
      highlight();
    };
    return make("li", { pointerenter: light(each.rows), pointerleave: light(null) },
      make("input", { type: "text", value: each.name, "aria-label": "name of the group", change: rename }), " ",
      make("span", { class: "quiet" }, `${each.rows.length} nodes: ${clip(each.rows.map((row) => names[row]).join(", "), 90)} `),
      button("dissolve", () => regroup(state.groups.filter((_, j) => j !== i))),
    );
  });
  const suggested = Object.entries(graph.suggested ?? {}).map(([name, rows]) => ({ name, rows }));
  const [picture, words] = diagram();
  const sight = () => document.querySelector("#groups .scroll");
  const was = sight()?.scrollLeft ?? Number.MAX_SAFE_INTEGER; // at first its end, where the answer is
  renew(document.getElementById("groups"),
    make("h2", { id: "groups-name" }, "Groups"),
    make("p", { class: "quiet" }, "Drag a node of the picture onto another to group them, onto nothing to take it out. Suggested groups are fed alike, lead to the same and fire alike; they are proposals, not findings."),
    make("p", {}, button(`suggested (${suggested.length})`, () => regroup(suggested), !suggested.length), " ", button("undo", undo, !past.length), " ", button("none", () => regroup([]), !state.groups.length)),
    make("div", { class: "sides" }, make("div", {}, make("div", { class: "scroll" }, picture), words), lines.length ? make("ul", {}, ...lines) : ""),
  );
  sight().scrollLeft = was;
  markBoxes();
  // Said where it is in sight, whatever is on view below.
  const told = document.getElementById("grouping");
  told.textContent = said || (waiting !== null ? `${brief(names[waiting])}: go to another node and press g to group the two, or Esc.` : "");
  told.classList.toggle("failed", said !== "");
}
