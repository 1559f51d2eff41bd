"""Make `world`, the model we ship: train it, train its transcoders, prove that it thinks in two steps, write its card.

    python scripts/train_world.py --seeds 0 1 2 --out world-made      all of it
    python scripts/train_world.py --tiny --out toy                    a toy, in under a minute
    python scripts/train_world.py --stage card --out world-made       one stage again

Stages whose files are there already are skipped, so a run that was stopped goes on where it was.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="several (default: 0 1 2)")
    parser.add_argument(
        "--out", type=Path, default=Path("world-made"), help="folder for everything (default: world-made)"
    )
    parser.add_argument("--tiny", action="store_true", help="a toy that answers nothing, to see that every part runs")
    parser.add_argument("--stage", nargs="+", choices=("model", "transcoders", "proof", "card"), help="only these")
    parser.add_argument(
        "--ship", type=Path, help="copy the best seed and the card to this folder, say circuits/shipped/world"
    )
    parser.add_argument("--plain", action="store_true", help="train without exchanged states, to compare")
    parser.add_argument("--twins", action="store_true", help="make the learned and the cheated twin and nothing else")
    parser.add_argument("--shipped", help="write the card for this one of the folders seed_*, not for the best")
    options = parser.parse_args()

    from dataclasses import replace

    from benchmarks.world import card, twins
    from benchmarks.world.making import STAGES, TINY, Recipe, make_seed, use_threads

    use_threads(1)
    if options.twins:
        twins.make_twins(options.out / "world", seed=options.seed or 0, say=lambda line: print(line, flush=True))
        return
    recipe = TINY if options.tiny else Recipe()
    if options.plain:
        recipe = replace(recipe, swaps=0.0, gate=0.0)
    seeds = [options.seed] if options.seed is not None else options.seeds[: 1 if options.tiny else None]
    stages = tuple(options.stage or STAGES)
    for seed in seeds:
        folder = options.out / f"{'plain' if options.plain else 'seed'}_{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        make_seed(recipe, seed, folder, stages=stages, say=lambda line: print(line, flush=True))
    if "card" in stages:
        best = card.write(options.out, shipped=options.shipped)
        print(f"wrote {options.out / 'MODEL_CARD.md'}; the best seed is {best}")
    if options.ship:
        card.ship(options.out, options.ship)
        if not options.tiny:
            from benchmarks.world import drawing
            from benchmarks.world.language import make_language

            drawing.draw_tasks(options.ship, make_language(), say=print)
        print(f"shipped to {options.ship}")


if __name__ == "__main__":
    main()
