// While a slider moves, the drawn edges are painted on a canvas in their place: curves that come and go by themselves take
// longer than a frame. What goes last is painted once, and kept; so a move paints only what lies next to the threshold,
// and the strongest. The order of edges that cross is theirs but for the faint ones, among which what goes last lies above.

const RESTS = 150; // milliseconds after the last move
const SHEETS = 8; // on which what stays is kept
const TOP = 60; // edges above all others, the strongest
const paper = make("canvas");
const frame = draw("foreignObject", { class: "edges" }, paper); // so it lies between the marks that edges lie between
let strokes = null; // of the drawn edges, lowest first, once a slider was moved
let moving = null; // which slider, the edges below the TOP in sheets, what was painted of them all
let resting = 0;

function move(name) {
  clearTimeout(resting);
  resting = setTimeout(rest, RESTS);
  if (moving?.name === name || !drawnEdges) return;
  strokes ??= [...bed.querySelectorAll(".edge")].map((mark) => ({ e: Number(mark.dataset.edge), parts: [...mark.querySelectorAll("path")].map(strokeOf) }));
  const hues = {}; // as the theme is now
  for (const part of strokes.flatMap((stroke) => stroke.parts)) part.hue = hues[part.named] ??= colourOf(part.named);
  if (!moving) {
    layOut();
    bed.replaceWith(frame);
  }
  const low = strokes.slice(0, -TOP);
  const goes = new Map(low.map((stroke) => [stroke, goesAt(name, stroke.e)]));
  const staying = low.filter((stroke) => goes.get(stroke) > 0).sort((a, b) => goes.get(b) - goes.get(a));
  const each = Math.ceil(staying.length / SHEETS);
  const sheets = range(SHEETS).map((i) => new Set(staying.slice(i * each, (i + 1) * each)));
  moving = { name, sheets: sheets.map((some) => low.filter((stroke) => some.has(stroke))), sums: [], painted: -1 };
}

function rest() {
  clearTimeout(resting);
  if (!moving) return;
  moving = null;
  toggleEdges();
  frame.replaceWith(bed);
}

// The first place of the slider at which the edge is not on view, the others being as they are.
function goesAt(name, e) {
  let [low, high] = [0, 101];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (edgeStays(e, { ...state, [name]: toValue(name, middle) })) low = middle + 1;
    else high = middle;
  }
  return low;
}

function strokeOf(path) {
  const given = (name) => path.getAttribute(name) ?? path.parentNode.getAttribute(name);
  const filled = given("stroke") === null;
  const dash = given("stroke-dasharray")?.split(" ").map(Number) ?? [];
  const alpha = Number(given(filled ? "fill-opacity" : "stroke-opacity"));
  return { way: new Path2D(given("d")), filled, named: given(filled ? "fill" : "stroke"), wide: Number(given("stroke-width")), dash, alpha };
}

// The canvas covers what is in sight of the picture, one of its dots to each of the screen's.
function layOut() {
  const dots = window.devicePixelRatio;
  const [all, seen] = [svg, svg.parentElement].map((each) => each.getBoundingClientRect());
  const { a: scale, e: left, f: top } = svg.getScreenCTM();
  const [x0, y0] = [Math.max(all.left, seen.left, 0), Math.max(all.top, seen.top, 0)].map((at) => Math.floor(at * dots));
  const [x1, y1] = [Math.min(all.right, seen.right, innerWidth), Math.min(all.bottom, seen.bottom, innerHeight)].map((at) => Math.ceil(at * dots));
  const size = { width: Math.max(x1 - x0, 1), height: Math.max(y1 - y0, 1) };
  fill(paper, size, []);
  const back = 1 / (scale * dots);
  fill(frame, { ...size, transform: `translate(${(x0 / dots - left) / scale} ${(y0 / dots - top) / scale}) scale(${back})` }, []);
  paper.getContext("2d").setTransform(1 / back, 0, 0, 1 / back, left * dots - x0, top * dots - y0);
}

function paintEdges() {
  if (!moving) return;
  const { sheets, painted } = moving;
  moving.painted = strokes.filter(({ e }) => edgeShown[e]).length;
  if (moving.painted === painted) return; // one slider moves: as many are the same
  const partly = sheets.findIndex((sheet) => sheet.some(({ e }) => !edgeShown[e]));
  const pen = paper.getContext("2d");
  wipe(pen);
  if (partly >= 0) paint(pen, sheets[partly].filter(({ e }) => edgeShown[e]));
  const whole = partly >= 0 ? partly : sheets.length;
  if (whole) lay(pen, sum(whole - 1));
  paint(pen, strokes.slice(-TOP).filter(({ e }) => edgeShown[e]));
}

// The first sheets, one above the other.
function sum(last) {
  if (moving.sums[last]) return moving.sums[last];
  const sheet = make("canvas", { width: paper.width, height: paper.height });
  const pen = sheet.getContext("2d");
  pen.setTransform(paper.getContext("2d").getTransform());
  paint(pen, moving.sheets[last]);
  if (last) lay(pen, sum(last - 1));
  return (moving.sums[last] = sheet);
}

function wipe(pen) {
  pen.save();
  pen.resetTransform();
  pen.clearRect(0, 0, paper.width, paper.height);
  pen.restore();
}

function lay(pen, sheet) {
  pen.save();
  pen.resetTransform();
  pen.globalAlpha = 1;
  pen.drawImage(sheet, 0, 0);
  pen.restore();
}

function paint(pen, some) {
  pen.miterLimit = 4; // as SVG has it
  for (const part of some.flatMap((stroke) => stroke.parts)) {
    pen.globalAlpha = part.alpha;
    if (part.filled) {
      pen.fillStyle = part.hue;
      pen.fill(part.way);
    } else {
      pen.strokeStyle = part.hue;
      pen.lineWidth = part.wide;
      pen.setLineDash(part.dash);
      pen.stroke(part.way);
    }
  }
}

// What lies elsewhere on the screen now is no longer where it was painted.
function listenToScrolls() {
  window.addEventListener("scroll", rest, { capture: true, passive: true });
  window.addEventListener("resize", rest);
}
