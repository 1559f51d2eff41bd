// Served: the real model answers.

const served = graph.served;
const here = `/graphs/${encodeURIComponent(served.id)}`;
const wholeRow = (row) => (served.rows ? served.rows[row] : row);
const rowHere = new Map(range(count).map((row) => [wholeRow(row), row]));
const CHANGEABLE = new Set(["token", "feature", "attention", "neuron", "error"]);
const trials = [];
const OFF = "the server did not answer: is circuits serve still running?";
let asking = ""; // what is being answered: "trial", "heads"
let refused = { row: null, words: "" };
const chosen = { row: null, amount: "", attention: "live" }; // what is asked next: a panel is made anew after each answer

// Who answers: the server that sent the page, or the notebook that it stands in.
async function answerOf(question) {
  if (served.notebook) return inNotebook(question);
  const answer = await fetch(`${here}/trials`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(question),
  }).catch(() => { throw new Error(OFF); });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

function inNotebook(question) {
  return new Promise((answered, failed) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = ({ data }) => (data.error ? failed(new Error(data.error)) : answered(data.answer));
    window.parent.postMessage({ circuits: question }, "*", [channel.port2]);
  });
}

async function ask(row, change) {
  if (asking) return;
  const button = document.activeElement?.id;
  asking = "trial";
  refused = { row, words: "" };
  showPanel();
  const members = (change.rows ?? [row]).map((each) => ({ node: wholeRow(each), ...change.set }));
  try {
    await known; // else this answer may be among those too, and stand twice
    trials.push(await answerOf({ changes: members, attention: change.attention }));
  } catch (reason) {
    refused = { row, words: reason.message };
  }
  asking = "";
  showPanel();
  if (state.node !== row) return;
  if (button && [document.body, panel].includes(document.activeElement)) document.getElementById(button)?.focus({ preventScroll: true });
  panel.querySelector(refused.words ? ".refused" : ".trial")?.scrollIntoView({ block: "nearest" });
}

// What was done to the node, as `steer` would say it.
function inWords(trial) {
  const done = trial.changes.map((each, i) => {
    const row = rowHere.get(trial.nodes[i]);
    const name = row === undefined ? `node ${trial.nodes[i]}` : names[row];
    if (each.value !== null && each.value !== undefined) return `${name} = ${number(each.value)}`;
    return each.factor === 0 ? `${name} ablated` : `${name} × ${number(each.factor)}`;
  });
  const words = done.length > 3 ? `${done.length} nodes, among them ${done.slice(0, 2).join(", ")}` : done.join(", ");
  return trial.attention === "frozen" ? `${words}, attention held` : words;
}

const signedNumber = (x) => (x < 0 ? number(x) : `+${number(x)}`);

function told(trial) {
  const rows = range(Math.max(trial.before.length, trial.after.length)).map((i) =>
    make("tr", {}, ...["before", "after"].flatMap((name) => {
      const each = trial[name][i];
      return each ? [figure(percent(each.probability)), make("td", {}, each.token)] : [make("td"), make("td")];
    })),
  );
  const parts = [
    make("p", {}, make("b", {}, inWords(trial)), spaced(`${trial.seconds.toFixed(2)} s`)),
    make("table", { class: "trial" }, head(["before", "figure"], [""], ["after", "figure"], [""]), ...rows),
  ];
  if (trial.clean !== null) {
    const moved = trial.changed - trial.clean;
    const foreseen = trial.predicted === null ? "" : `; the graph predicts ${signedNumber(trial.predicted)}`;
    parts.push(make("p", {}, `the explained value: ${number(trial.clean)} → ${number(trial.changed)}, ${signedNumber(moved)}${foreseen}`));
  }
  return parts;
}

function laboratory(row) {
  const mine = trials.filter((trial) => row === null || trial.nodes.includes(wholeRow(row)));
  const parts = [];
  if (row !== null && served.silent) parts.push(make("h3", {}, "In the real model"), make("p", { class: "quiet" }, `Not to be asked: ${served.silent}`));
  else if (row !== null && CHANGEABLE.has(nodes.kind[row])) {
    const busy = asking !== "";
    const settable = nodes.kind[row] !== "token" && nodes.kind[row] !== "error";
    if (chosen.row !== row) Object.assign(chosen, { row, amount: String(Number((nodes.activation[row] ?? 1).toPrecision(4))) });
    const keep = (name) => (event) => (chosen[name] = event.target.value);
    const attention = make("select", { "aria-label": "attention", change: keep("attention") }, ...["live", "frozen"].map((way) => make("option", { value: way, selected: way === chosen.attention }, way === "live" ? "attention live" : "attention held")));
    const amount = make("input", { type: "number", step: "any", required: true, value: chosen.amount, "aria-label": "its activation", class: "amount", input: keep("amount") });
    const put = (set, rows) => ask(row, { set, rows, attention: chosen.attention });
    const group = state.groups.find((each) => each.rows.includes(row));
    parts.push(
      make("h3", {}, "In the real model"),
      make("p", { class: "ask" },
        make("button", { type: "button", id: "ablate", disabled: busy, click: () => put({ factor: 0 }) }, asking === "trial" ? "asking…" : "ablate"),
        group ? make("button", { type: "button", disabled: busy, click: () => put({ factor: 0 }, group.rows) }, `ablate “${group.name}”`) : null,
        make("button", { type: "button", disabled: busy, click: () => put({ factor: 2 }) }, "× 2"),
        settable ? amount : null,
        settable ? make("button", { type: "button", id: "set", disabled: busy, click: () => amount.reportValidity() && put({ value: Number(amount.value) }) }, "set") : null,
        attention),
    );
  } else if (mine.length) parts.push(make("h3", {}, "Asked of the real model"));
  const latest = mine.slice(-5).reverse();
  parts.push(...latest.flatMap(told));
  if (mine.length > latest.length) parts.push(make("p", { class: "quiet" }, `and ${mine.length - latest.length} earlier, kept in the folder trials beside the graph`));
  if (row !== null && row === refused.row && refused.words) parts.push(make("p", { class: "failed refused", role: "alert" }, refused.words));
  if (row !== null && served.rows) parts.push(make("p", {}, make("a", { href: `${here}?around=${wholeRow(row)}` }, "all that is next to this node")));
  if (row !== null && inputs[row].length && !served.notebook && !served.silent) {
    parts.push(make("p", {}, make("button", { type: "button", id: "heads", disabled: asking !== "", click: () => askHeads(row) }, asking === "heads" ? "asking…" : "through which heads")));
  }
  return parts;
}

async function askHeads(row) {
  if (asking) return;
  asking = "heads";
  refused = { row, words: "" };
  showPanel();
  const answer = await fetch(`${here}/heads?node=${wholeRow(row)}`).catch(() => null);
  refused = { row, words: answer?.ok ? "" : answer ? (await answer.text()).trim() : OFF };
  for (const each of answer?.ok ? await answer.json().catch(() => []) : []) {
    const source = rowHere.get(each.source);
    if (source !== undefined) graph.heads[`${source}-${row}`] = each.heads;
  }
  if (answer?.ok && !inputs[row].some((e) => through(e).length)) refused.words = "none of its inputs owes 5% or more to a head";
  asking = "";
  showPanel();
}

function whereIs(found) {
  if (found.kind === "token" || found.kind === "logit") return "";
  return `L${found.layer}${found.position >= 0 ? ` @${graph.tokens[found.position]}` : ""}, `;
}

// What is typed is looked up once the typing rests: in a large graph, or store, that is work.
function atRest(look) {
  let waiting;
  return () => {
    clearTimeout(waiting);
    waiting = setTimeout(look, 200);
  };
}

// Of a large graph the server sends the strongest part: what else there is can be found and looked at by itself.
function partOfWhole() {
  const [allNodes, allEdges] = served.whole;
  const said = served.around === null || served.around === undefined ? "the strongest" : "what is next to one node";
  const box = make("input", { type: "search", placeholder: "a label, in the whole graph", autocomplete: "off", "aria-label": "find in the whole graph" });
  const list = make("ul", { id: "found-in-whole" });
  let latest = 0;
  box.addEventListener("input", atRest(async () => {
    const turn = ++latest;
    const answer = await fetch(`${here}/nodes?find=${encodeURIComponent(box.value)}`).catch(() => null);
    const found = answer?.ok ? await answer.json() : [];
    if (turn !== latest) return;
    list.replaceChildren(...found.map((each) => make("li", {}, make("a", { href: `${here}?around=${each.node}` }, each.label), spaced(`${whereIs(each)}${each.kind}, ${percent(each.influence)}`))));
  }));
  return make("div", { id: "part", class: "quiet" },
    make("p", {}, `On this page: ${said}, ${count.toLocaleString("en")} of ${allNodes.toLocaleString("en")} nodes and ${edges.source.length.toLocaleString("en")} of ${allEdges.toLocaleString("en")} edges. `, make("a", { href: here }, "the strongest"), " ", make("a", { href: "/" }, "all graphs")),
    make("p", {}, box), list);
}

// What was asked before, once it is there. Without any, a panel that somebody clicks in is left as it is.
const known = served.notebook ? null : fetch(`${here}/trials`).then(async (answer) => {
  if (answer.ok) trials.push(...(await answer.json()));
  if (trials.length) showPanel();
}).catch(() => {});

extras.push(laboratory);
if (!served.notebook) {
  document.querySelector("header").append(served.rows ? partOfWhole() : make("p", {}, make("a", { href: "/" }, "all graphs")));
}
// What is around a node is shown for its sake.
if (state.node === null && rowHere.has(served.around)) pin(rowHere.get(served.around));
showPanel();
