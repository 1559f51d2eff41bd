// Which edge a pointer beside it means: edges are drawn thinner than a hand is steady.

const NEAR = 5; // pixels of the screen
const PIECES = 16; // straight ones, as which a curve is measured
let curves = null; // of the drawn edges, once one was asked for

// The nearest edge on view, or null. It is asked only where the pointer rests, and at a click; a wider mark for each
// edge would cost frames while a slider moves.
function edgeNear({ clientX, clientY }) {
  curves ??= range(edgeMark.length).filter((e) => edgeMark[e]).map(curveOf).filter(Boolean);
  const screen = svg.getScreenCTM();
  const { x, y } = new DOMPoint(clientX, clientY).matrixTransform(screen.inverse());
  const reach = NEAR / screen.a;
  let [nearest, least] = [null, reach * reach];
  for (const { e, xs, ys, box } of curves) {
    if (!edgeShown[e] || x < box[0] - reach || x > box[1] + reach || y < box[2] - reach || y > box[3] + reach) continue;
    for (let i = 0; i < PIECES; i++) {
      const far = farFrom(x, y, xs[i], ys[i], xs[i + 1], ys[i + 1]);
      if (far < least) [nearest, least] = [e, far];
    }
  }
  return nearest;
}

// The square of how far a point lies from a straight piece.
function farFrom(x, y, fromX, fromY, toX, toY) {
  const [dx, dy] = [toX - fromX, toY - fromY];
  const along = Math.min(1, Math.max(0, ((x - fromX) * dx + (y - fromY) * dy) / (dx * dx + dy * dy || 1)));
  return (x - fromX - along * dx) ** 2 + (y - fromY - along * dy) ** 2;
}

// An edge's line is one cubic curve, its first path: "Mx yCx y x y x y".
function curveOf(e) {
  const found = edgeMark[e].querySelector("path")?.getAttribute("d").match(/-?\d+(\.\d+)?/g)?.map(Number);
  if (found?.length !== 8) return null;
  const [across, down] = [0, 1].map((axis) => found.filter((_, i) => i % 2 === axis));
  const along = ([a, b, c, d]) => Float32Array.from(range(PIECES + 1), (i) => {
    const [t, rest] = [i / PIECES, 1 - i / PIECES];
    return a * rest ** 3 + 3 * b * rest * rest * t + 3 * c * rest * t * t + d * t ** 3;
  });
  // A curve stays within what its four points span.
  return { e, xs: along(across), ys: along(down), box: [Math.min(...across), Math.max(...across), Math.min(...down), Math.max(...down)] };
}

const isBare = (target) => !target.closest?.("[data-row], .edge");
let untilRest = 0;

function listenBesideEdges() {
  svg.addEventListener("pointermove", (event) => {
    clearTimeout(untilRest);
    svg.style.cursor = "";
    if (isBare(event.target)) untilRest = setTimeout(() => (svg.style.cursor = edgeNear(event) === null ? "" : "pointer"), 60);
  });
}
