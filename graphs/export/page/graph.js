// The graph that came with the page: its columns, what comes in and goes out of each node, what a node is called.

const graph = JSON.parse(document.getElementById("graph").textContent);
const { nodes, edges, goal, names, assay } = graph;
const count = nodes.kind.length;
const ALWAYS = new Set(["token", "logit"]); // shown whatever they carry

const range = (n) => Array.from({ length: n }, (_, i) => i);
const inputs = range(count).map(() => []); // edges by target, and by source
const outputs = range(count).map(() => []);
edges.target.forEach((t, e) => inputs[t].push(e));
edges.source.forEach((s, e) => outputs[s].push(e));
const isContrast = (row) => row in graph.against; // a logit that is held against another
const isBias = (e) => nodes.kind[edges.source[e]] === "bias";

// Which unit of the model a row is, as its notes are kept: "2/544", in place of attention "2/attn/544".
const unitOf = (row) => `${nodes.layer[row]}/${nodes.kind[row] === "attention" ? "attn/" : ""}${nodes.feature[row]}`;
const isUnit = (row) => ["feature", "attention", "neuron"].includes(nodes.kind[row]);
