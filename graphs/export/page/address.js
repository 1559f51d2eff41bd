// What is asked of the page, and stands in its address after "#": node, edge (source-target), least (influence), share (of
// input), dense, find, path, zoom, side (1 or 0: the groups beside the picture or below), groups, beside (served: the id of
// the graph it is compared with).

const state = { node: null, edge: null, least: 0, share: 0, dense: 0, find: "", path: null, zoom: null, side: null, groups: [], beside: "" };

function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  const value = (name) => (Number.isFinite(Number(said.get(name))) ? Number(said.get(name)) : 0);
  const node = said.has("node") ? value("node") : null;
  state.node = Number.isInteger(node) && node >= 0 && node < count ? node : null;
  const [source, target] = (said.get("edge") ?? "").split("-").map(Number);
  state.edge = state.node === null ? (inputs[target]?.find((e) => edges.source[e] === source) ?? null) : null;
  state.least = Math.max(0, value("least"));
  state.share = Math.max(0, value("share"));
  state.dense = Math.max(0, value("dense"));
  state.groups = readGroups(said.get("groups"));
  state.find = said.get("find") ?? "";
  state.beside = said.get("beside") ?? "";
  state.path = said.has("path") && graph.paths[value("path") - 1] ? value("path") - 1 : null;
  state.zoom = said.has("zoom") && value("zoom") > 0 ? value("zoom") : null;
  state.side = said.has("side") ? value("side") > 0 : null;
  document.getElementById("find").value = state.find;
}

function writeAddress() {
  const said = new URLSearchParams();
  if (state.node !== null) said.set("node", state.node);
  if (state.edge !== null) said.set("edge", `${edges.source[state.edge]}-${edges.target[state.edge]}`);
  if (state.path !== null) said.set("path", state.path + 1);
  for (const name of [...SLIDERS, "zoom"]) if (state[name]) said.set(name, rounded(state[name]));
  if (state.side !== null) said.set("side", Number(state.side));
  if (state.find) said.set("find", state.find);
  if (state.beside) said.set("beside", state.beside);
  if (state.groups.length) said.set("groups", JSON.stringify(state.groups.map((each) => [each.name, ...each.rows])));
  const words = said.toString();
  if (location.protocol === "about:") return; // in a frame that has no address of its own
  if (words !== location.hash.slice(1)) history.replaceState(null, "", words ? `#${words}` : location.pathname + location.search);
}
