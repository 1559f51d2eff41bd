"""What a few minutes of training give: FVU, L0, dead features and KL of each kind of transcoders, on one thread.

    python -m benchmarks.training ../shared/models/stories260K

The text is the model's own, minutes are of the CPU, and saying the text counts. What is measured is the set as it was
written, on text that it was not trained on.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="folder or Hub id")
    parser.add_argument("--kinds", nargs="+", choices=("plt", "clt", "skip"), default=("plt", "clt", "skip"))
    parser.add_argument("--minutes", type=float, default=10.0, help="of the CPU, for each kind")
    parser.add_argument("--features", type=int, default=1024, help="of a layer")
    parser.add_argument("--active", type=float, default=16.0, help="features at a token")
    parser.add_argument("--batch", type=int, default=8, help="texts at a step")
    parser.add_argument("--output", type=Path, default=RESULTS / "training.json", help="lines of other runs stay in it")
    given = parser.parse_args()

    import torch

    from circuits.formats import load
    from circuits.model import load_model
    from circuits.transcoders.fit import check_fit
    from circuits.transcoders.running import run_training
    from circuits.transcoders.settings import SELF, Settings

    torch.set_num_threads(1)
    model = load_model(given.model, device="cpu")
    settings = Settings(
        model=model.content_hash,
        kind="plt",
        activation="jumprelu",
        data=SELF,
        features=given.features,
        active=given.active,
        steps=None,
        minutes=given.minutes,
        batch=given.batch,
        seed=0,
    )
    for kind in given.kinds:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "set"
            outcome = run_training(model, replace(settings, kind=kind), folder, clock=time.process_time)
            fit = check_fit(model, load(folder))
        found = {
            "model": Path(given.model).name,
            "kind": kind,
            **{name: getattr(settings, name) for name in ("features", "active", "batch", "minutes")},
            **{name: value for name, value in outcome.to_json().items() if name != "folder"},
            "fit_test": str(fit),
        }
        keep(given.output, found)
        print(json.dumps(found), flush=True)


def keep(path: Path, found: dict[str, object]) -> None:
    """Put a line among those of other runs, in place of one of the same model and kind, and all of them in a table."""
    lines = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    same = [line for line in lines if (line["model"], line["kind"]) != (found["model"], found["kind"])]
    lines = sorted([*same, found], key=lambda line: (line["model"], line["kind"]))
    path.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(in_words(lines), encoding="utf-8")


def in_words(lines: list[dict]) -> str:
    rows = [
        f"| {line['model']} | {line['kind']} | {line['features']:,} | {line['minutes']:g} | {line['steps']:,} | "
        f"{line['tokens'] / 1e6:.1f} M | {mean(line['fvu']):.3f} | {min(line['fvu']):.3f} to {max(line['fvu']):.3f} | "
        f"{mean(line['l0']):.1f} | {line['dead']:.1%} | {line['kl']:.3f} |"
        for line in lines
    ]
    return "\n".join(
        [
            "# Transcoders in a few minutes",
            "",
            "`python -m benchmarks.training MODEL`: trained from nothing on one thread of a busy machine, no GPU, so",
            "many minutes of the CPU in all, on text that the model said itself. Measured on other such text, with the",
            "set read back from its files: FVU is the share of an MLP output's variance that is unexplained, L0",
            "features at a token, KL is in nats a token with every MLP replaced at once. plt: every feature writes its",
            "own layer; clt: its own and all later; skip: plt with a linear path beside the features.",
            "",
            "| model | kind | features a layer | minutes | steps | tokens | FVU | FVU by layer | L0 | dead | KL |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
