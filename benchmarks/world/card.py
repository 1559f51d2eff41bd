"""The model card: every seed's figures beside the bars they were to meet, missed ones named."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.world.curves import picture
from circuits.formats.files import read_notes

Numbers = Mapping[str, Any]
SETS = ("per-layer", "cross-layer")


Name = int | str
"""A seed's number, or what an earlier model is called."""


def write(folder: Path, *, shipped: str | None = None) -> Name:
    """Write MODEL_CARD.md and curves.svg from what `seed_*` folders hold; the name of the one that is shipped.

    shipped: the name to ship; left out, the seed that meets most bars.
    """
    numbers = _numbers(folder)
    curves = {
        seed: json.loads((folder / f"seed_{seed}" / "curve.json").read_text(encoding="utf-8")) for seed in numbers
    }
    best = best_of(numbers) if shipped is None else shipped
    plain = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("plain_*/numbers.json"))]
    (folder / "curves.svg").write_text(picture(curves), encoding="utf-8")
    labels = read_notes(folder / f"seed_{best}" / "per-layer")
    text = "\n".join(_card(numbers, best, plain, labels))
    (folder / "MODEL_CARD.md").write_text(text + "\n", encoding="utf-8")
    return best


def ship(folder: Path, target: Path) -> None:
    """Copy the best seed, the card and the curves."""
    seed = folder / f"seed_{best_of(_numbers(folder))}"
    for name in ("model", *SETS):
        shutil.rmtree(target / name, ignore_errors=True)
        shutil.copytree(seed / name, target / name)
    for name in ("MODEL_CARD.md", "curves.svg"):
        shutil.copy(folder / name, target / name)
    for path in target.rglob("*.safetensors"):
        path.chmod(0o644)


NODE = 0.9
"""Share of the answers that must follow the donor when the MLP outputs of layers 0 to 2 are exchanged."""


def has_node(numbers: Numbers) -> bool:
    """Whether this model writes the state down at the last word."""
    exchanged = numbers["interchange"]
    return exchanged.get("0+1+2", exchanged[max(exchanged, key=len)])["two-word"]["donor"] >= NODE


def best_of(numbers: Mapping[Name, Numbers]) -> Name:
    """The seed with the node that meets most bars; between equals, the one whose answers follow the donor most."""

    def worth(seed: Name) -> tuple[bool, int, float]:
        found = numbers[seed]["sets"].get("per-layer")
        met = sum(bar.met for bar in bars(numbers[seed]))
        return has_node(numbers[seed]), met, _weakest_swap(found) if found else 0.0

    return max(numbers, key=worth)


@dataclass(frozen=True)
class Bar:
    """What was asked of what, what was found, and whether that is enough; nothing is, if it was not measured."""

    name: str
    asked: str
    found: str
    met: bool


def bars(numbers: Numbers) -> Iterator[Bar]:
    """All of them, in the same order for every seed."""
    for name, value in numbers["accuracy"].items():
        yield Bar(f"{name}: right", "≥ .95", f"{value:.3f}", value >= 0.95)
    for text, ok in numbers["showcase"].items():
        yield Bar(f"“{text}”", "right", "right" if ok else "wrong", ok)
    for name in SETS:
        for asked, bar, show, value, enough in _SET_BARS:
            found = numbers["sets"].get(name)
            text, met = (format(value(found), show), enough(value(found))) if found else ("not measured", False)
            yield Bar(f"{name}: {asked}", bar, text, met)
    control = numbers["centroid"]["two-word"]["donor"]
    yield Bar("embedding-centroid control, held-out cities", "≤ .10", f"{control:.3f}", control <= 0.1)
    famous = numbers["centroid"]["famous"]["donor"]
    yield Bar("the same, famous one-word cities (trained on, so no bar)", "told", f"{famous:.3f}", True)


def _weakest_swap(found: Numbers) -> float:
    return min(attribute["real"]["donor"] for attribute in found["swap"].values())


# What is asked, the bar in words, how to show the figure, the figure, whether it is enough.
_SET_BARS: tuple[tuple[str, str, str, Callable[[Numbers], float], Callable[[float], bool]], ...] = (
    (
        "active features a token and layer, mean",
        "≤ 8",
        ".1f",
        lambda n: sum(n["active"]) / len(n["active"]),
        lambda x: x <= 8,
    ),
    ("variance unexplained, worst layer", "≤ .02", ".4f", lambda n: max(n["unexplained"]), lambda x: x <= 0.02),
    ("features alive", "≥ .95", ".3f", lambda n: n["alive"], lambda x: x >= 0.95),
    ("agreement, all MLPs replaced", "≥ .98", ".4f", lambda n: n["agreement_one_answer"], lambda x: x >= 0.98),
    ("mean KL, all MLPs replaced", "≤ .02 nat", ".4f", lambda n: n["mean_divergence"], lambda x: x <= 0.02),
    (
        "state swap in the real model, weakest attribute",
        "≥ .95",
        ".3f",
        lambda n: _weakest_swap(n),
        lambda x: x >= 0.95,
    ),
    (
        "strongest feature control",
        "≤ .10",
        ".3f",
        lambda n: max(control["donor"] for control in n["controls"].values()),
        lambda x: x <= 0.1,
    ),
    ("states with a feature of F1 ≥ .85", "≥ 45 of 50", "d", lambda n: n["f1"]["states"], lambda x: x >= 45),
)


def _numbers(folder: Path) -> dict[Name, Numbers]:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("seed_*/numbers.json"))]
    if not found:
        raise FileNotFoundError(
            f"a card needs measured seeds, {folder} has no seed_*/numbers.json: run the proof stage there first."
        )
    return {numbers["seed"]: numbers for numbers in found}


def _card(numbers: Mapping[Name, Numbers], best: Name, plain: list[Numbers], labels: Numbers) -> Iterator[str]:
    yield from _story(numbers, best)
    yield from _bars(numbers, best)
    yield from _swaps(numbers, best)
    yield from _interchange(numbers, best, plain)
    for name in SETS:
        yield from _replacement(name, numbers[best]["sets"][name])
    yield from _inside(numbers[best], labels)


def _story(numbers: Mapping[Name, Numbers], best: Name) -> Iterator[str]:
    seeds = [seed for seed in numbers if isinstance(seed, int)]
    with_node = [seed for seed in seeds if has_node(numbers[seed])]
    note = numbers[best].get("note", f"Seed {best} is shipped.")
    yield f"""# world

A Llama of 4 layers, width 96, 4 heads and 0.64 million parameters, trained by `scripts/train_world.py` on a
synthetic English of 840-odd words, one word a token. It answers questions about an invented country: where a city lies,
what a state has, and what the state of a city has ("the capital of the state containing dallas is": austin). It also
knows who receives a gift, that wars end after they begin, opposites in three languages, sums of two digits, and which
noun a verb agrees with. It knows nothing else; a word outside its vocabulary is `<unk>`.

State capitals, codes, regions, birds and flowers are real. Rivers, heroes, songs and the two-word cities are
invented: a two-word city is one of 20 first and one of 12 last words. Two states share every square of two first and
two last words, one diagonal each, so that no sum of two scores can tell them apart.

**Its two-step circuit was put there by training.** Left alone, models of this kind answer two-hop questions just as
well and need not have a node for the state (see below). So pairs of questions were also trained with the MLP outputs
of layers 0 to 2 at the last word exchanged, the right answer then being that of the donor's state (interchange
intervention training, Geiger et al. 2022). Held-out cities took no part in that, and what is measured below is
measured on those cities. Take this model as a place where the truth is known, not as evidence that models grow such
circuits by themselves.

Seeds are made with `python scripts/train_world.py --seeds {" ".join(map(str, seeds))}`: the same on the same
machine and version of torch; another processor rounds otherwise, and training makes of that a model with about the
same figures.
{note} {len(with_node)} of {len(seeds)} seeds have the node: with the MLP outputs of layers 0 to 2 exchanged at the last
word, at least {NODE:.0%} of the answers about held-out cities follow the donor.

Figures are on
held-out prompts: entities that no two-hop question of the training named (city), compositions never seen (combo),
pairs of names, of nouns, of numbers, and cross-language opposites never seen. One-hop facts can only be remembered,
all of them are asked. The swaps were trained at whole MLP outputs; transcoder features took no part in training.

![Training curves](curves.svg)
"""


def _bars(numbers: Mapping[Name, Numbers], best: Name) -> Iterator[str]:
    yield "## Bars\n"
    yield (
        "| asked | bar | "
        + " | ".join(_title(seed) + (" (shipped)" if seed == best else "") for seed in numbers)
        + " |"
    )
    yield "|---|---|" + "---|" * len(numbers)
    columns = [list(bars(found)) for found in numbers.values()]
    for row in zip(*columns, strict=True):
        cells = [bar.found if bar.met or bar.found == "not measured" else f"**{bar.found}** missed" for bar in row]
        yield f"| {row[0].name} | {row[0].asked} | " + " | ".join(cells) + " |"
    yield ""


def _swaps(numbers: Mapping[Name, Numbers], best: Name) -> Iterator[str]:
    found = numbers[best]["sets"]
    pairs = found["per-layer"]["swap"]["capital"]["real"]["pairs"]
    yield f"""## The state's features exchanged ({_title(best)})

At the last word, layers 0 to 2. A state's features are those that fire on at least half of its capital questions and
on at most a tenth of the others, over two-word cities that two-hop questions were trained on; strengths are means
over the same prompts, times {found["per-layer"]["dose"]}. Asked: {pairs} pairs a row about cities that no two-hop
question of the training named. Given: share that follows the donor / share that stays. Every MLP runs live.
"""
    yield "| | per-layer, real model | per-layer, replaced | cross-layer, real model | cross-layer, replaced |"
    yield "|---|---|---|---|---|"
    for attribute in found["per-layer"]["swap"]:
        cells = [_rate(found[name]["swap"][attribute][where]) for name in SETS for where in ("real", "replaced")]
        yield f"| {attribute} | " + " | ".join(cells) + " |"
    yield (
        "| famous one-word cities (the masks never saw them) | "
        + " | | ".join(_rate(found[n]["swap famous"]) for n in SETS)
        + " | |"
    )
    for dose in found["per-layer"]["doses"]:
        yield (
            f"| all five attributes, dose {dose} | "
            + " | | ".join(_rate(found[n]["doses"][dose]) for n in SETS)
            + " | |"
        )
    for control in found["per-layer"]["controls"]:
        yield f"| control: {control} | " + " | | ".join(_rate(found[n]["controls"][control]) for n in SETS) + " | |"
    centroid = numbers[best]["centroid"]
    both = " · ".join(_rate(centroid[cities]) for cities in ("two-word", "famous"))
    yield f"| control: embedding centroid added at the city, two-word · famous | {both} | | | |"
    yield ""
    for name in SETS:
        f1 = found[name]["f1"]
        layers = ", ".join(f"{n:.1f}" for n in found[name]["features by layer"])
        yield (
            f"{name}: {found[name]['features per state']:.1f} features a state ({layers} by layer). The best feature "
            f"of a state has F1 ≥ .85 for {f1['states']} of 50 states where it was chosen (mean {f1['mean']:.3f}), "
            f"and for {f1['states held out']} of the {f1['asked held out']} states with a held-out city on questions "
            f"about that city (mean {f1['mean held out']:.3f}).\n"
        )
    read = numbers[best]["read out of embeddings"]
    yield (
        f"A nearest-centroid read of the state from a two-word city's embeddings is right {read:.2f} of the time, "
        "that city left out.\n"
    )


def _interchange(numbers: Mapping[Name, Numbers], best: Name, plain: list[Numbers]) -> Iterator[str]:
    yield "## MLP outputs exchanged at the last word, by layers\n"
    yield "Follows the donor / stays; two-word held-out cities · famous ones. Without: no exchange in training.\n"
    yield (
        "| layers | "
        + " | ".join([*(_title(name) for name in numbers), *(f"without, seed {p['seed']}" for p in plain)])
        + " |"
    )
    yield "|---|" + "---|" * (len(numbers) + len(plain))
    every = [*numbers.values(), *plain]
    for layers in numbers[best]["interchange"]:
        cells = [
            f"{_rate(n['interchange'][layers]['two-word'])} · {_rate(n['interchange'][layers]['famous'])}"
            for n in every
        ]
        yield f"| {layers} | " + " | ".join(cells) + " |"
    yield ""
    for found in plain:
        accuracy = found["accuracy"]
        yield (
            f"The model without (seed {found['seed']}) answers {accuracy['two-hop city']:.3f} of the two-hop questions "
            f"about held-out cities and at least {min(accuracy.values()):.3f} of every task: a right answer says "
            f"nothing about the circuit. {found.get('note', '')}\n"
        )
        if "per-layer" in found["sets"]:
            per_layer = found["sets"]["per-layer"]
            rate = _rate(per_layer["doses"][str(per_layer["dose"])])
            yield (
                f"Its per-layer state features, exchanged in the same way: {rate}; {per_layer['f1']['states']} of 50 "
                "states have a feature of F1 ≥ .85.\n"
            )


def _replacement(name: str, found: Numbers) -> Iterator[str]:
    active = ", ".join(f"{x:.1f}" for x in found["active"])
    unexplained = ", ".join(f"{x:.4f}" for x in found["unexplained"])
    yield f"## {name} transcoders\n"
    alive = found["alive"]
    yield (
        f"By layer: active features a token {active}; variance unexplained {unexplained}. Alive {alive:.3f}: "
        "that fire on one of these prompts at least, or of those that labels are made from.\n"
    )
    yield "| with every MLP replaced | right: model → replaced | same first answer | KL, nats |"
    yield "|---|---|---|---|"
    for part in found["before"]:
        yield (
            f"| {part} | {found['before'][part]:.3f} → {found['after'][part]:.3f} | {found['agreement'][part]:.3f} | "
            f"{found['divergence'][part]:.4f} |"
        )
    yield ""
    far = [part for part, nats in found["divergence"].items() if nats > 0.02]
    yield f"More than .02 nat: {', '.join(far) or 'no task'}.\n"
    for place, layers in found["shared meaning"].items():
        same = "; ".join(f"layer {k} {a:.2f} / {b:.2f}" for k, (a, b) in enumerate(layers))
        yield (
            f"Shared meaning: Jaccard of the features active at the {place} of “the opposite of … is” in two "
            f"languages, same concept / other concepts: {same}.\n"
        )


def _inside(numbers: Numbers, labels: Numbers) -> Iterator[str]:
    yield "## What matters inside, by ablation\n"
    yield (
        "One MLP's or one head's output set to its mean over all tasks, one per-layer feature set to zero, in the real "
        "model. Heads as layer.head; of heads and features the three whose loss hurts most (share then right; nats of "
        "the answer's log probability lost).\n"
    )
    tasks = numbers["sets"]["per-layer"]["inside"]
    layers = len(next(iter(tasks.values()))["mlps"])
    yield "| task | clean | " + " | ".join(f"no MLP {k}" for k in range(layers)) + " | heads | features |"
    yield "|---|---|" + "---|" * (layers + 2)
    for name, task in tasks.items():
        heads = sorted(task["heads"].items(), key=lambda item: item[1])[:3]
        features = list(task["features"].items())[:3]
        cells = [f"{task['clean']:.2f}", *(f"{x:.2f}" for x in task["mlps"])]
        named = (f"{k} ({labels[k]['label']}) {x:.2f}" for k, x in features)
        cells += [", ".join(f"{k} {x:.2f}" for k, x in heads), ", ".join(named)]
        yield f"| {name} | " + " | ".join(cells) + " |"
    yield ""
    spread = [name for name, task in tasks.items() if max(task["features"].values(), default=0) < 0.1]
    headed = [name for name, task in tasks.items() if min(task["heads"].values()) < 0.9]
    yield (
        f"No single feature is worth a tenth of a nat on {', '.join(spread) or 'no task'}: there is no clean feature "
        f"circuit to point at. A single head is worth a tenth of the answers on {', '.join(headed) or 'no task'}.\n"
    )
    drawn = ", ".join(f"[{name}](graphs/{name.replace(' ', '-')}.svg)" for name in tasks)
    yield f"A graph of one held-out question each: {drawn}.\n"


def _title(name: Name) -> str:
    return f"seed {name}" if isinstance(name, int) else name


def _rate(found: Numbers) -> str:
    return f"{found['donor']:.3f} / {found['kept']:.3f}"
