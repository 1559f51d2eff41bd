// Served: another graph of the store, compared with this one.

async function besideStored(id) {
  state.beside = id;
  writeAddress();
  const answer = await fetch(`/graphs/${encodeURIComponent(id)}`).catch(() => null);
  const text = await answer?.text().catch(() => "");
  if (state.beside !== id) return; // another was asked for meanwhile
  if (answer?.ok) showBeside(text, id);
  else failBeside(answer ? `${id} could not be compared: ${text.trim()}.` : OFF);
}

function chooseStored() {
  const box = make("input", { type: "search", id: "stored", list: "stored-found", autocomplete: "off", spellcheck: "false", placeholder: "a graph of this store", "aria-label": "a graph of this store, by words of its prompt" });
  const list = make("datalist", { id: "stored-found" });
  let latest = 0;
  const look = async () => {
    const turn = ++latest;
    const answer = await fetch(`${here}/others?find=${encodeURIComponent(box.value)}`).catch(() => null);
    const found = answer?.ok ? await answer.json() : [];
    if (turn === latest) list.replaceChildren(...found.map((each) => make("option", { value: each.id }, `${each.prompt} → ${each.targets.join(", ")}`)));
  };
  box.addEventListener("focus", look);
  box.addEventListener("input", look);
  box.addEventListener("change", () => box.value.trim() && besideStored(box.value.trim()));
  const file = document.getElementById("other");
  // Each box has a name of its own: one label cannot stand for both.
  file.closest("label").replaceWith(make("span", { class: "tool", role: "group", "aria-label": "Compare with" }, "Compare with", box, list, file));
}

if (!served.notebook) {
  chooseStored();
  const again = () => state.beside && besideStored(state.beside);
  window.addEventListener("hashchange", again);
  again();
}
