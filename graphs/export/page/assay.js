// The assay: verdicts, plots, costs.

function showAssay() {
  const claims = document.getElementById("claims");
  if (!assay) {
    claims.replaceChildren(make("p", { class: "quiet" }, "Not tested by ablation. What the picture says is what attribution predicts; ", make("code", {}, `circuits check ${graph.served?.id || "GRAPH"}`), " ablates the stored graph in the model."));
    return;
  }
  const registered = assay.registration;
  const about = [registered.metric ? `${registered.metric[0].toUpperCase()}${registered.metric.slice(1)}.` : "", registered.hash ? `Registered as ${registered.hash} before the experiments ran.` : "", "One prompt: nothing here says what happens on others."];
  claims.replaceChildren(make("p", { class: "quiet" }, about.filter(Boolean).join(" ")), verdictTable(), ...notRun());
  document.getElementById("costs").replaceChildren(
    ...costs(),
    make("details", {}, make("summary", { class: "quiet" }, "everything that was registered"), make("pre", {}, JSON.stringify(registered, null, 1))),
  );
}

const stage = (name) => assay.stages[name] ?? name;

function notRun() {
  const skipped = Object.entries(assay.skipped);
  if (!skipped.length) return [];
  return [make("h3", {}, "Registered and not run"), make("ul", {}, ...skipped.map(([name, why]) => make("li", {}, stage(name), spaced(why))))];
}

function costs() {
  const stages = Object.entries(assay.seconds).filter(([, seconds]) => seconds !== null);
  if (!stages.length) return [];
  const all = stages.reduce((total, [, seconds]) => total + seconds, 0);
  const most = Math.max(...stages.map(([, seconds]) => seconds));
  return [
    make("h3", {}, `What it cost: ${number(all)} s`),
    make("table", { class: "costs" }, ...stages.map(([name, seconds]) => make("tr", {}, make("td", {}, stage(name)), figure(`${seconds.toFixed(2)} s`), bar(seconds, most)))),
  ];
}

// The plots come with the page; a dot that tells of a node points it out in the picture, and the other way round.
function listenToPlots() {
  const plots = document.getElementById("plots");
  const nodeOf = (event) => event.target.closest?.("[data-about]")?.dataset.about;
  plots.addEventListener("pointerover", (event) => peek(nodeOf(event) === undefined ? null : Number(nodeOf(event))));
  plots.addEventListener("pointerleave", () => peek(null));
  plots.addEventListener("click", (event) => nodeOf(event) !== undefined && pin(Number(nodeOf(event))));
  for (const { mark } of dots) fill(mark, { role: "button", "aria-label": mark.querySelector("title").textContent }, []);
}

const MARKS = { supported: ["✓", ""], "not supported": ["✗", "failed"], untested: ["–", "quiet"] };

function verdictTable() {
  const rows = assay.verdicts.map((each) => {
    const [mark, kind] = MARKS[each.verdict] ?? ["", ""];
    return make("tr", {}, make("td", { class: kind }, `${mark} ${each.verdict}`), make("td", {}, each.claim), figure(each.figure.replace("-", "−")), make("td", {}, each.threshold), make("td", { class: "quiet" }, each.control));
  });
  return make("div", { class: "scroll" }, make("table", { class: "verdicts" }, head(["verdict"], ["claim"], ["measured", "figure"], ["wanted"], ["against"]), ...rows));
}
