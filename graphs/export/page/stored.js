// Served: another graph of the store, compared with this one.

async function besideStored(id, asked = true) {
  state.beside = document.getElementById("stored").value = id;
  writeAddress();
  const answer = await fetch(`/graphs/${encodeURIComponent(id)}`).catch(() => null);
  const text = await answer?.text().catch(() => "");
  if (state.beside !== id) return; // another was asked for meanwhile
  if (answer?.ok) showBeside(text, id, asked);
  else failBeside(answer ? `${id} could not be compared: ${text.trim()}.` : OFF);
}

async function othersWith(words) {
  const answer = await fetch(`${here}/others?find=${encodeURIComponent(words)}`).catch(() => null);
  return answer?.ok ? answer.json() : [];
}

const titled = (each) => [each.prompt, each.targets.join(", ")].filter(Boolean).join(" → ");

// By its id, or by words that only it has; of several, one is chosen from a list.
async function besideOneWith(words) {
  if (!words) return closeBeside();
  const found = await othersWith(words);
  if (document.getElementById("stored").value.trim() !== words) return; // another was asked for meanwhile
  const one = found.find((each) => each.id === words) ?? (found.length === 1 ? found[0] : null);
  if (one || !found.length) return besideStored(one?.id ?? words);
  const choice = (each) => make("li", {}, make("button", { type: "button", click: () => besideStored(each.id) }, titled(each)), spaced(each.id));
  failBeside(`Several graphs have “${words}”. Which?`, make("ul", {}, ...found.map(choice)));
}

function chooseStored() {
  const box = make("input", { type: "search", id: "stored", list: "stored-found", autocomplete: "off", spellcheck: "false", placeholder: "words of its prompt", "aria-label": "a graph of this store, by words of its prompt" });
  const list = make("datalist", { id: "stored-found" });
  let latest = 0;
  const look = async () => {
    const turn = ++latest;
    const found = await othersWith(box.value);
    if (turn === latest) list.replaceChildren(...found.map((each) => make("option", { value: each.id }, titled(each))));
  };
  box.addEventListener("focus", look);
  box.addEventListener("input", atRest(look));
  box.addEventListener("change", () => besideOneWith(box.value.trim()));
  const file = document.getElementById("other");
  // Each box has a name of its own: one label cannot stand for both.
  file.closest("label").replaceWith(make("span", { class: "tool", role: "group", "aria-label": "Compare with" }, "Compare with", box, list, file));
}

if (!served.notebook) {
  chooseStored();
  const section = document.getElementById("beside");
  const again = () => {
    if (state.beside === (section.hidden ? "" : section.dataset.of)) return;
    if (state.beside) besideStored(state.beside, false);
    else closeBeside();
  };
  window.addEventListener("hashchange", again);
  again();
}
