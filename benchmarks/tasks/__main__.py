"""Which tasks a model can be given, and how well it answers: `python -m benchmarks.tasks MODEL [TASK or FILE ...]`.

For each task: pairs for training, validation and test; the share of its words that the model has not; how many
phrasings and corruptions it keeps; and of the test pairs the share whose right answer comes first of all tokens (where
many are right, as in greater-than, seldom this one), the share where it comes before the wrong one, and the mean
difference of their logits on clean and on corrupted prompts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.tasks import TASKS
from benchmarks.tasks.making import SIZE, Made, make_task
from benchmarks.tasks.measuring import ask
from benchmarks.tasks.task import BadTask
from circuits.errors import CircuitError
from circuits.model import Model, load_model

HEAD = ("task", "pairs", "lost", "phrasings", "corruptions", "first", "above wrong", "clean", "corrupted", "about")


def row(model: Model, made: Made) -> list[str]:
    """One line of the table."""
    test, every = made.splits["test"], [line for lines in made.splits.values() for line in lines]
    found = ask(model, test)
    return [
        made.name,
        "/".join(str(len(lines)) for lines in made.splits.values()),
        f"{made.lost:.0%}",
        str(len({line["phrasing"] for line in every})),
        str(len({line["corruption"] for line in every})),
        f"{found.first:.2f}",
        f"{found.above:.2f}",
        f"{found.clean:+.2f}",
        f"{found.corrupted:+.2f}",
        TASKS[made.name].about if made.name in TASKS else "",
    ]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a shipped name, a Hub id or a folder")
    parser.add_argument("task", nargs="*", help="tasks, or JSONL files of pairs; all tasks without")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=SIZE, help="pairs in each split")
    given = parser.parse_args(arguments)
    rows: list[list[str]] = [list(HEAD)]
    notes: list[str] = []
    try:
        model = load_model(given.model)
        for task in given.task or TASKS:
            try:
                made = make_task(task, model, seed=given.seed, size=given.size)
            except BadTask as reason:
                if given.task:
                    raise
                notes.append(f"{task}: {reason}")
                continue
            rows.append(row(model, made))
            notes += [f"{made.name}: {made.note}"] if made.note else []
    except CircuitError as reason:
        print(reason, file=sys.stderr)
        return 2
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for each in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)).rstrip())
    print("", *notes, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
