// A node dragged onto another joins it; onto nothing, leaves its group.

let dropped = false;

function listenForDrags(rowOf) {
  let start = null;
  const line = draw("path", { class: "drag gone" });
  svg.append(line);
  const at = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  svg.addEventListener("pointerdown", (event) => {
    const row = rowOf(event);
    dropped = false;
    start = row === undefined ? null : { row: Number(row), x: event.clientX, y: event.clientY };
  });
  svg.addEventListener("pointermove", (event) => {
    if (!start || Math.hypot(event.clientX - start.x, event.clientY - start.y) < 6) return;
    const to = at(event);
    fill(line, { d: `M${place[start.row].x} ${place[start.row].y}L${to.x} ${to.y}` }, []).classList.remove("gone");
  });
  // A finger that began to scroll drags nothing, now or when it is lifted.
  window.addEventListener("pointercancel", () => {
    start = null;
    line.classList.add("gone");
  });
  window.addEventListener("pointerup", (event) => {
    if (!start) return;
    const [row, far] = [start.row, Math.hypot(event.clientX - start.x, event.clientY - start.y) >= 6];
    start = null;
    line.classList.add("gone");
    if (!far) return;
    dropped = true;
    const other = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-row]")?.dataset.row;
    if (other === undefined) leave(row);
    else if (Number(other) !== row) join(row, Number(other));
  });
}
