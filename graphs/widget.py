"""The page of a graph in a notebook, and the real model behind it where one is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from graphs.errors import GraphError, MissingProgram
from graphs.export.page import to_html

if TYPE_CHECKING:
    from graphs.assays import Assay
    from graphs.graph import AttributionGraph

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]
HIGH = "820px"
# The page stands in a frame of its own: its styles and its script are not the notebook's. What it asks goes through.
# It is light or dark as what it stands on is: a notebook's theme need not be the system's.
SCRIPT = r"""
function isDark(element) {
  for (let each = element; each; each = each.parentElement) {
    const [red, green, blue, opacity = 1] = getComputedStyle(each).backgroundColor.match(/[\d.]+/g)?.map(Number) ?? [];
    if (red !== undefined && opacity > 0.5) return red + green + blue < 384;
  }
  return false;
}
function render({ model, el }) {
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "allow-scripts allow-downloads");
  frame.style.cssText = `width: 100%; height: ${model.get("high")}; border: 0`;
  frame.srcdoc = model.get("page");
  const waiting = new Map();
  let number = 0;
  const heard = (event) => {
    if (event.source !== frame.contentWindow || !event.data?.circuits) return;
    waiting.set(++number, event.ports[0]);
    model.send({ number, question: event.data.circuits });
  };
  const answered = (said) => {
    waiting.get(said.number)?.postMessage(said);
    waiting.delete(said.number);
  };
  const follow = () => { frame.style.colorScheme = isDark(el) ? "dark" : "light"; };
  const placed = new ResizeObserver(follow), themed = new MutationObserver(follow);
  placed.observe(el);
  for (const each of [document.documentElement, document.body]) themed.observe(each, { attributes: true });
  window.addEventListener("message", heard);
  model.on("msg:custom", answered);
  el.append(frame);
  return () => {
    placed.disconnect();
    themed.disconnect();
    window.removeEventListener("message", heard);
    model.off("msg:custom", answered);
  };
}
export default { render };
"""


def make_widget(
    graph: AttributionGraph,
    *,
    assay: Assay | None = None,
    answer: Answer | None = None,
    high: str = HIGH,
    **options: Any,
) -> Any:
    """An anywidget with the graph's page in it.

    answer: what a question becomes, `circuits.serving.lab.answering(model, transcoders, graph)`; without it the page is
    the same as in a file. high: the widget's height, in CSS units. Other options as `to_html`.

    Raises:
        MissingProgram: anywidget is not installed. What `to_html` raises.
    """
    try:
        import anywidget
        import traitlets
    except ImportError as reason:
        raise MissingProgram("a widget needs anywidget, which is not installed: pip install anywidget.") from reason

    class GraphWidget(anywidget.AnyWidget):
        _esm = SCRIPT
        page = traitlets.Unicode().tag(sync=True)
        high = traitlets.Unicode().tag(sync=True)

    served = None if answer is None else {"id": "", "rows": None, "whole": [], "notebook": True}
    widget = GraphWidget(page=to_html(graph, assay=assay, served=served, **options), high=high)
    if answer is not None:
        widget.on_msg(lambda _, message, __: widget.send(reply(answer, message)))
    return widget


def reply(answer: Answer, message: Any) -> dict[str, Any]:
    """The answer to one message of the page, or what was wrong with it."""
    number = message.get("number") if isinstance(message, Mapping) else None
    try:
        return {"number": number, "answer": answer(message["question"])}
    except Exception as reason:  # it is told where the question was asked: nobody sees what a callback raises
        known = isinstance(reason, GraphError) or type(reason).__module__.startswith("circuits.")
        return {"number": number, "error": str(reason) if known else f"{type(reason).__name__}: {reason}"}
