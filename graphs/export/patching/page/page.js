// The pictures of a sweep, made to answer questions.

const { maps, paths } = JSON.parse(document.getElementById("patching").textContent);
const figures = [...document.querySelectorAll("#picture figure")];
const panel = document.getElementById("panel");
const FEW = 15; // rows of the table before the rest is asked for
const MANY = 2000; // of the rest

// What stands in the address after "#": direction, view, at (the place that was clicked).
const state = { direction: maps[0].direction, view: figures[0].dataset.view, at: null };
let hovered = null;
let all = false;

const percent = (x) => (x === null ? "" : `${x < 0 ? "−" : ""}${(100 * Math.abs(x)).toFixed(1)}%`);
const signed = (x) => (x === null ? "" : `${x < 0 ? "−" : "+"}${String(Number(Math.abs(x).toPrecision(4)))}`);

const current = () => maps.find((map) => map.direction === state.direction);
const order = new Map(
  maps.map((map) => {
    const measured = map.effect.map((_, at) => at).filter((at) => map.effect[at] !== null);
    return [map.direction, measured.sort((a, b) => Math.abs(map.effect[b]) - Math.abs(map.effect[a]) || a - b)];
  }),
);

// --- the pictures ---

const byCurve = new Map(Object.entries(paths).map(([at, name]) => [name, Number(at)]));
for (const figure of figures) {
  for (const mark of figure.querySelectorAll("g[data-name]")) {
    const at = byCurve.get(mark.dataset.name);
    if (at === undefined) continue;
    mark.classList.add("path");
    mark.dataset.path = at;
  }
  const place = (event) => {
    const mark = event.target.closest("[data-about], [data-path]");
    return mark === null ? null : Number(mark.dataset.about ?? mark.dataset.path);
  };
  figure.addEventListener("pointerover", (event) => point(place(event)));
  figure.addEventListener("pointerleave", () => point(null));
  figure.addEventListener("click", (event) => choose(place(event)));
}

function point(at) {
  if (at === hovered) return; // a square that is put above the others comes under the pointer anew
  hovered = at;
  show();
}

function mark(at) {
  for (const figure of figures) {
    for (const each of figure.querySelectorAll(".on")) each.classList.remove("on");
    const found = at === null ? [] : figure.querySelectorAll(`[data-about="${at}"], [data-path="${at}"]`);
    for (const each of found) {
      each.classList.add("on");
      if (each.dataset.about !== undefined) figure.querySelector("text").before(each); // its rim above its neighbours
    }
    const drawn = [...found].some((each) => each.dataset.path !== undefined);
    figure.querySelector("svg").classList.toggle("asking", drawn);
  }
}

// --- the panel ---

function about(at) {
  const facts = make("dl", { class: "facts" });
  for (const map of maps) {
    if (map.effect[at] === null) facts.append(make("dt", {}, map.direction), make("dd", {}, "not measured"));
    else {
      const share = map.share[at] === null ? "" : `${percent(map.share[at])}, `;
      facts.append(make("dt", {}, map.direction), make("dd", {}, `${share}${signed(map.effect[at])} ${map.unit}`));
    }
  }
  return make("div", { id: "about" }, make("h2", {}, current().places[at]), facts);
}

function table() {
  const map = current();
  const rows = order.get(map.direction);
  const shares = map.share.some((x) => x !== null);
  const largest = Math.abs(map.effect[rows[0]] ?? 0) || 1;
  const body = make("tbody");
  for (const at of rows.slice(0, all ? MANY : FEW)) {
    const up = shares ? map.share[at] > 0 : map.effect[at] > 0;
    const size = Math.abs(map.effect[at]);
    body.append(
      make(
        "tr",
        { class: `go${at === state.at ? " chosen" : ""}`, "data-row": at, click: () => choose(at) },
        make("td", {}, make("button", { type: "button" }, map.places[at])),
        bar(up ? size : -size, largest),
        figure(shares ? percent(map.share[at]) : ""),
        figure(signed(map.effect[at])),
      ),
    );
  }
  const top = head(["place"], [""], [shares ? "share" : "", "figure"], [map.unit, "figure"]);
  return make("table", {}, make("thead", {}, top), body);
}

function show() {
  const at = hovered ?? state.at;
  mark(at);
  const old = document.getElementById("about");
  old.replaceWith(at === null ? make("p", { id: "about", class: "quiet" }, "Point at a square or a path, or click one.") : about(at));
}

function choose(at) {
  state.at = at === state.at ? null : at;
  hovered = null;
  for (const row of panel.querySelectorAll("tr.go")) row.classList.toggle("chosen", Number(row.dataset.row) === state.at);
  show();
  remember();
}

// --- what is on view ---

function redraw() {
  for (const figure of figures)
    figure.hidden = figure.dataset.direction !== state.direction || figure.dataset.view !== state.view;
  for (const button of document.querySelectorAll("#tools button"))
    button.setAttribute("aria-pressed", String(button.value === state.direction || button.value === state.view));
  const map = current();
  const rows = order.get(map.direction);
  const parts = [make("p", { id: "about" }), make("h3", {}, `The strongest of ${rows.length.toLocaleString("en")} ${figures.some((each) => each.dataset.view === "paths") ? "paths" : "places"}`), table()];
  if (!all && rows.length > FEW)
    parts.push(make("p", { class: "more" }, make("button", { type: "button", id: "all", click: () => { all = true; redraw(); } }, rows.length > MANY ? `${MANY.toLocaleString("en")} of them` : "all of them")));
  panel.replaceChildren(...parts);
  show();
}

function remember() {
  const said = Object.entries(state).filter(([, value]) => value !== null);
  history.replaceState(null, "", `#${new URLSearchParams(said)}`);
}

function recall() {
  const said = new URLSearchParams(location.hash.slice(1));
  if (maps.some((map) => map.direction === said.get("direction"))) state.direction = said.get("direction");
  if (figures.some((figure) => figure.dataset.view === said.get("view"))) state.view = said.get("view");
  const at = Number(said.get("at") ?? NaN);
  state.at = Number.isInteger(at) && at >= 0 && at < maps[0].places.length ? at : null;
}

function offer(id, name, values, words) {
  const there = [...new Set(values)];
  if (there.length < 2) return;
  document.getElementById("tools").hidden = false;
  for (const value of there)
    document.getElementById(id).append(
      make("button", { type: "button", value, click: () => { state[name] = value; redraw(); remember(); } }, words[value] ?? value),
    );
}

offer("directions", "direction", maps.map((map) => map.direction), {});
offer("views", "view", figures.map((figure) => figure.dataset.view), { map: "heat map", paths: "paths" });
recall();
redraw();
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && state.at !== null) choose(state.at);
});
window.addEventListener("hashchange", () => { recall(); redraw(); });
