// Which nodes a word is about.

let sought = { words: "", found: null };

function matches() {
  const words = state.find.trim().toLowerCase();
  if (words !== sought.words) sought = { words, found: words ? search(words) : null };
  return sought.found;
}

function search(words) {
  return range(count).filter((row) => {
    const unit = unitOf(row);
    const token = nodes.kind[row] === "token" ? "" : graph.tokens[nodes.position[row]] ?? "";
    const noted = graph.notes[unit]?.label ?? "";
    return [names[row], nodes.label[row], `L${unit}`, nodes.kind[row], noted, `@${token.trim()}`].some((text) =>
      text.toLowerCase().includes(words),
    );
  });
}
