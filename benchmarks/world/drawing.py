"""One drawn graph for each task, for the model card."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.world.language import Language
from benchmarks.world.prompts import SHOWCASE, Prompt, all_prompts, held_out
from circuits import attribute, load_model, load_transcoders
from circuits.hub.published import SHIPPED
from graphs import draw, prune

NODES, EDGES = 0.8, 0.98
"""Shares of influence that a drawn graph keeps."""


def examples(language: Language) -> dict[str, str]:
    """One held-out prompt of each task, the README's among them."""
    chosen: dict[str, Prompt] = {
        name: part[0] for name, part in held_out(all_prompts(language), most=50, seed=4).items()
    }
    texts = {name.replace(" ", "-"): prompt.text for name, prompt in chosen.items()}
    return texts | {
        "one-hop": "fort worth is in",
        "two-hop-combo": SHOWCASE[0][0],
        "two-hop-city": "the capital of the state containing fort worth is",
    }


def draw_tasks(shipped: Path, language: Language, *, say: Callable[[str], None]) -> None:
    """Write `graphs/TASK.svg` into the shipped folder, from its model and its per-layer set."""
    ours = shipped.resolve().parent == SHIPPED.resolve()  # then pictures can call it by its name
    model = load_model(shipped.name if ours else str(shipped / "model"))
    transcoders = load_transcoders(shipped.name if ours else str(shipped / "per-layer"), model)
    (shipped / "graphs").mkdir(exist_ok=True)
    for name, text in examples(language).items():
        graph = prune(attribute(model, transcoders, text), nodes=NODES, edges=EDGES)
        draw(graph, shipped / "graphs" / f"{name}.svg")
        say(f"drew {name}: {text}")
