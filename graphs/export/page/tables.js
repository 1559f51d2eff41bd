// Tables of nodes: a row goes to its node, and of a long list the rest is asked for.

const FEW = 12; // rows of a table before the rest is asked for
const goTo = (row, words = brief(names[row])) => make("button", { type: "button", title: words === names[row] ? null : names[row], click: () => pin(row) }, words);

// Spoken of in a table: a click anywhere in the row goes to the node, hovering shows it.
function line(row, cells, attributes = {}) {
  return make(
    "tr",
    {
      class: "go",
      click: () => pin(row),
      pointerenter: () => peek(row),
      pointerleave: () => peek(null),
      ...attributes,
    },
    ...cells,
  );
}

function table(top, rows, closing, summed = null) {
  const few = rows.length <= FEW;
  const body = make("table", {}, top, ...rows.slice(0, FEW).map((row) => row()), few ? null : summed, ...closing);
  if (few) return make("div", { class: "scroll" }, body);
  const all = () => {
    body.replaceChildren(top, ...rows.map((row) => row()), ...closing);
    more.remove();
  };
  const more = make("button", { type: "button", click: all }, `show all ${rows.length}`);
  return make("div", { class: "scroll" }, body, more);
}
