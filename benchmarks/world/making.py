"""From nothing to a folder that can be shipped: one stage after another, each skipped when its files are there."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from benchmarks.world import measuring
from benchmarks.world.batches import sampler
from benchmarks.world.imitating import imitator
from benchmarks.world.interchange import interchange, pairs_of
from benchmarks.world.judging import judge
from benchmarks.world.labels import corpus, label_set
from benchmarks.world.language import Language, make_language
from benchmarks.world.prompts import Prompt, all_prompts, held_out
from benchmarks.world.reading import load_transcoders
from benchmarks.world.running import mlps
from benchmarks.world.saving import load_model, save_model
from benchmarks.world.swaps import LAYERS, swap_loss, swapper
from benchmarks.world.training import Schedule, Shape, make_model, train, watch
from circuits.transcoders import train as transcoding
from circuits.transcoders.saving import NOTES, save_cross_layer, save_per_layer
from circuits.transcoders.teachers import Modules

STAGES = ("model", "transcoders", "proof", "card")
SETS = ("per-layer", "cross-layer")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how the model comes out, apart from the seed.

    swaps: weight of the training on exchanged states; 0 leaves it out.
    swap_pairs: pairs of questions exchanged at every step.
    scale: rows of a batch, as a multiple of 186.
    transcoder_scale: the same for the training of transcoders.
    watch_every: steps between two looks at the held-out prompts.
    gate: share of exchanged MLP outputs whose answer must follow the donor, or no transcoders are trained.
    compiled: whether the loss is compiled, which pays off after a few hundred steps.
    prompts: most prompts of a kind, evenly taken from all of it; None takes every one.
    """

    shape: Shape = field(default_factory=Shape)
    schedule: Schedule = field(default_factory=Schedule)
    swaps: float = 0.5
    swap_pairs: int = 32
    scale: float = 1.0
    per_layer: transcoding.Plan = field(default_factory=transcoding.Plan)
    cross_layer: transcoding.Plan = field(default_factory=transcoding.Plan)
    transcoder_scale: float = 0.67
    watch_every: int = 250
    gate: float = 0.9
    compiled: bool = True
    prompts: int | None = None


TINY = Recipe(
    shape=Shape(layers=2, width=32, heads=2, hidden=64),
    schedule=Schedule(steps=30, warm_up=5),
    swap_pairs=8,
    scale=0.3,
    per_layer=transcoding.Plan(features=16, steps=20, warm_up=5),
    cross_layer=transcoding.Plan(features=16, steps=20, warm_up=5),
    transcoder_scale=0.2,
    watch_every=15,
    gate=0.0,
    compiled=False,
    prompts=2000,
)
"""A toy that answers nothing, made to see that every part runs."""

Say = Callable[[str], None]


def make_seed(recipe: Recipe, seed: int, folder: Path, *, stages: tuple[str, ...], say: Say) -> None:
    """The model, both transcoder sets with labels, and all measurements of one seed.

    A model in which exchanging the MLP outputs does not carry the state over gets no transcoders:
    there is no node for them to show.
    """
    language = make_language()
    prompts = _some(all_prompts(language), recipe.prompts)
    if "model" in stages and not (folder / "curve.json").exists():
        make_world(recipe, seed, language, prompts, folder, say=say)
    followed = json.loads((folder / "curve.json").read_text(encoding="utf-8"))[-1]["interchange donor"]
    passed = followed >= recipe.gate
    if "transcoders" in stages and not passed:
        say(f"seed {seed}: no node, {followed:.2f} of the answers follow the donor; its transcoders are left out")
    for name in SETS:
        if "transcoders" in stages and passed and not (folder / name / NOTES).exists():
            make_transcoders(recipe, seed, name, language, prompts, folder, say=say)
    if "proof" in stages and not (folder / "numbers.json").exists():
        say(f"seed {seed}: measuring")
        sets = {name: load_transcoders(folder / name) for name in SETS if (folder / name).exists()}
        numbers = measuring.measure(load_model(folder / "model"), sets, language, prompts)
        _write(folder / "numbers.json", {"seed": seed, **numbers})


def _some(prompts: dict[str, list[Prompt]], most: int | None) -> dict[str, list[Prompt]]:
    return {name: pool[:: -(-len(pool) // (most or len(pool)))] for name, pool in prompts.items()}


def make_world(
    recipe: Recipe, seed: int, language: Language, prompts: dict[str, list[Prompt]], folder: Path, *, say: Say
) -> None:
    """Train and save the model; the curve of its training stands beside it."""
    model = make_model(len(language.words), recipe.shape, seed=seed)
    draw = sampler(language, prompts, seed=seed + 1000, scale=recipe.scale)
    swaps = swapper(language, prompts, seed=seed + 2000, count=recipe.swap_pairs)
    judged = held_out(prompts, most=100, seed=1)
    asked = [p for p in judged["two-hop city"] if p.attribute in measuring.ONE_TO_ONE]
    pairs = pairs_of(asked, count=100, seed=1)
    progress = watch(recipe.schedule.steps, lambda line: say(f"seed {seed}: model, {line}"))
    started = time.process_time()
    curve: list[dict[str, float]] = []

    def report(step: int, loss: float) -> None:
        progress(step, loss)
        point = {"step": step, "loss": loss, "seconds": time.process_time() - started}
        if step % recipe.watch_every == 0:
            point |= judge(model, language, judged)
            passed = interchange(model, language, pairs, LAYERS)
            point |= {"interchange donor": passed.donor, "interchange kept": passed.kept}
            city = point["two-hop city"]
            say(f"seed {seed}: two-hop city {city:.3f}, interchange {passed.donor:.3f}/{passed.kept:.3f}")
        curve.append(point)

    extra = (lambda: recipe.swaps * swap_loss(model, swaps())) if recipe.swaps else None
    every = min(50, recipe.watch_every)
    train(
        model, draw, recipe.schedule,
        first_year=language.first_year, extra=extra, report=report, every=every, compiled=recipe.compiled,
    )  # fmt: skip
    save_model(model, language, folder / "model")
    _write(folder / "curve.json", curve)


def make_transcoders(
    recipe: Recipe,
    seed: int,
    name: str,
    language: Language,
    prompts: dict[str, list[Prompt]],
    folder: Path,
    *,
    say: Say,
) -> None:
    """Train, save and label one set."""
    model = load_model(folder / "model").requires_grad_(False)
    plan = recipe.cross_layer if name == "cross-layer" else recipe.per_layer
    started = time.monotonic()

    def report(step: int, numbers: dict[str, float]) -> None:
        left = (time.monotonic() - started) / step * (plan.steps - step)
        error = max(value for key, value in numbers.items() if key.startswith("error"))
        say(
            f"seed {seed}: {name}, step {step}/{plan.steps}  worst layer unexplained {error:.4f}"
            f"  divergence {numbers['divergence']:.4f}  {left:.0f} s left"
        )

    draw = imitator(language, prompts, seed=seed + 3000, scale=recipe.transcoder_scale)
    trained = transcoding.train(
        Modules(model, mlps(model)), draw, plan,
        kind="clt" if name == "cross-layer" else "plt", seed=seed, report=report, every=min(50, plan.steps),
    )  # fmt: skip
    save = save_cross_layer if name == "cross-layer" else save_per_layer
    save(trained.map(lambda tensor: tensor.detach().half()), folder / name, model_name="world")
    label_set(folder / "model", folder / name, language, corpus(prompts, seed=0))


def _write(path: Path, content: object) -> None:
    def plain(thing: object) -> object:
        return asdict(thing) if hasattr(thing, "__dataclass_fields__") else str(thing)

    path.write_text(json.dumps(content, indent=1, default=plain) + "\n", encoding="utf-8")


def use_threads(count: int) -> None:
    """One thread is fastest for matrices this small, and leaves the rest of the machine alone."""
    torch.set_num_threads(count)
