// What a feature does on other texts.

function card(note) {
  const words = (list) => (list ?? []).join(", ");
  const facts = [
    ["fires on", words(note.fires_on)],
    ["seen among", words(note.context)],
    ["promotes", words(note.promotes)],
    ["active on", note.density === undefined ? "" : `${percent(note.density, 2)} of tokens`],
  ].filter(([, text]) => text);
  return [
    make("h3", {}, "What it does elsewhere"),
    make("dl", { class: "facts" }, ...facts.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)])),
  ];
}
