// Groups as shades behind the picture.

// Andrew's chain: the corners around some points.
function around(points) {
  const sorted = [...points].sort((a, b) => a.x - b.x || a.y - b.y);
  const turn = (a, b, c) => (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
  const half = (list) => {
    const found = [];
    for (const point of list) {
      while (found.length > 1 && turn(found.at(-2), found.at(-1), point) <= 0) found.pop();
      found.push(point);
    }
    return found.slice(0, -1);
  };
  return [...half(sorted), ...half([...sorted].reverse())];
}

const hulls = draw("g", { class: "hulls" });

function showHulls() {
  if (!hulls.parentNode) (svg.querySelector("rect") ?? svg.firstChild).after(hulls);
  hulls.replaceChildren(
    ...state.groups.map((each) => {
      const points = each.rows.filter((row) => nodeShown[row]).map((row) => place[row]).filter(Boolean);
      if (points.length < 2) return "";
      const corners = around(points);
      const top = points.reduce((a, b) => (b.y < a.y ? b : a));
      const words = draw("text", { x: top.x, y: top.y - 15, "text-anchor": "middle" }, each.name);
      return draw("g", { class: "hull" }, draw("path", { d: `M${corners.map((p) => `${p.x} ${p.y}`).join("L")}Z` }), words);
    }),
  );
}
