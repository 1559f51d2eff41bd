// The drawn picture: its marks, which of them can be pointed at, how large it is, what of it is in sight.

const svg = document.querySelector("#picture svg");
const nodeMark = range(count).map((row) => svg.querySelector(`#n${row}`));
const nodeLabel = range(count).map((row) => svg.querySelector(`#l${row}`));
const edgeMark = range(edges.source.length).map((e) => svg.querySelector(`#e${edges.source[e]}-${edges.target[e]}`));
const onPicture = nodeMark.filter(Boolean).length;
const drawnEdges = edgeMark.filter(Boolean).length;
const place = nodeMark.map((mark) => {
  if (!mark) return null;
  const box = mark.getBBox();
  return { x: box.x + box.width / 2, y: box.y + box.height / 2, reach: Math.max(box.width, box.height) / 2 };
});

// A colour of the theme, "var(--k3)", spelled out as it is now.
function colourOf(words) {
  const found = /^var\((--\w+)\)$/.exec(words);
  return found ? getComputedStyle(document.documentElement).getPropertyValue(found[1]).trim() : words;
}

const ring = draw("circle", { class: "ring gone" });
const bed = draw("g", { class: "edges" }); // all edges, dimmed as one: thousands that fade one by one take seconds
const lit = draw("g", { class: "lit" }); // the edges that are asked about, drawn once more above the others

function prepare() {
  svg.setAttribute("role", "group");
  svg.setAttribute("aria-label", `${onPicture} nodes and ${drawnEdges} edges; arrow keys walk along them`);
  edgeMark.forEach((mark, e) => mark && fill(mark, { "data-edge": e }, []).classList.add("edge"));
  const marks = [...svg.querySelectorAll(".edge")];
  marks[0]?.before(bed, lit);
  // As large as the picture: the browser keeps it as a layer, which would be blurred if it began between two dots.
  bed.append(draw("rect", { class: "extent", width: natural, height: tall }), ...marks);
  for (const mark of marks) {
    // A group that is itself see-through is painted on a sheet of its own; strokes that are need none.
    for (const name of ["stroke-opacity", "fill-opacity"]) mark.setAttribute(name, mark.getAttribute("opacity") ?? 1);
    mark.removeAttribute("opacity");
  }
  nodeLabel.forEach((label, row) => label && fill(label, { "data-row": row }, []).classList.add("label"));
  const hits = draw("g");
  nodeMark.forEach((mark, row) => {
    if (!mark) return;
    mark.classList.add("node");
    if (opposed.live.has(row)) mark.classList.add("wrong");
    // A finger or a mouse wants more than a small dot; nodes stand far enough apart for this.
    const tip = draw("title", {}, mark.querySelector("title")?.textContent ?? names[row]);
    mark.querySelector("title")?.remove();
    hits.append(
      draw(
        "circle",
        { class: "hit", "data-row": row, cx: place[row].x, cy: place[row].y, r: 9, role: "button", tabindex: -1 },
        tip,
      ),
    );
    hits.lastChild.setAttribute("aria-label", `${nodes.kind[row]} ${names[row]}`);
  });
  svg.append(hits, ring);

  const rowOf = (event) => event.target.closest?.("[data-row]")?.dataset.row;
  svg.addEventListener("pointerover", (event) => {
    const row = rowOf(event);
    hovered = row === undefined ? null : Number(row);
    nameEdge(event.target.closest?.(".edge"));
    highlight();
  });
  svg.addEventListener("pointerleave", () => {
    hovered = null;
    highlight();
  });
  listenBesideEdges();
  listenForDrags(rowOf);
  svg.addEventListener("click", (event) => {
    if (dropped) {
      dropped = false; // a drag ends in a click that is none
      return;
    }
    const row = rowOf(event);
    const edge = event.target.closest?.(".edge")?.dataset.edge ?? (isBare(event.target) ? edgeNear(event) : null);
    if (row === undefined && edge !== null) pinEdge(Number(edge));
    else pin(row === undefined ? null : Number(row));
  });
}

function nameEdge(mark) {
  if (!mark || mark.querySelector("title")) return;
  const e = Number(mark.dataset.edge);
  const [s, t] = [edges.source[e], edges.target[e]];
  mark.append(
    draw("title", {}, `${names[s]} → ${names[t]}: ${number(edges.weight[e])}, ${signedPercent(edges.share[e])} of its input`),
  );
}

const natural = Number(svg.getAttribute("width"));
const tall = Number(svg.getAttribute("height"));
const LEGIBLE = 0.62;
const scale = () => svg.getBoundingClientRect().width / natural;

const WIDE = window.matchMedia("(min-width: 1700px)");
const isBeside = () => state.side ?? WIDE.matches; // the diagram of groups

function resize() {
  document.getElementById("halves").classList.toggle("side", isBeside());
  document.getElementById("side").setAttribute("aria-pressed", isBeside());
  // At first as wide as there is room, within what can be read: a wide picture is scrolled.
  svg.style.width = state.zoom === null ? `clamp(${natural * LEGIBLE}px, 100%, ${natural * 1.35}px)` : `${natural * state.zoom}px`;
}

// A node that was chosen elsewhere than in the picture may lie outside of what is seen of it.
function reveal(row) {
  const mark = nodeMark[row];
  if (!mark) return;
  const [box, around] = [mark.getBoundingClientRect(), svg.parentElement.getBoundingClientRect()];
  const middle = (area) => area.left + area.width / 2;
  if (box.left < around.left + 20 || box.right > around.right - 20) svg.parentElement.scrollLeft += middle(box) - middle(around);
  const top = document.getElementById("tools").getBoundingClientRect().bottom;
  if (box.top < top || box.bottom > innerHeight) scrollBy(0, box.top - (top + innerHeight) / 2);
}
