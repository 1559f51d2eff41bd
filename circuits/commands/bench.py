"""`circuits bench`: which circuits are faithful, over tasks, models and methods, with intervals; resumable."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from circuits import flags

FOLDER = "circuits-bench"
PRESETS = ("quick", "full")
ABLATIONS = ("resample", "zero", "mean", "mean-by-position", "optimal")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "tasks",
        metavar="TASK",
        nargs="*",
        help="tasks by name, JSONL files of pairs; programs with known circuits by name (truth:NAME where a task has "
        "it too), or folders of them (default: all that are known by name)",
    )
    parser.add_argument(
        "-m",
        "--model",
        metavar="MODEL",
        nargs="+",
        action="extend",
        type=flags.filled,
        help=f"shipped names, folders, or Hub ids (default: {flags.MODEL})",
    )
    parser.add_argument(
        "-t",
        "--transcoders",
        metavar="SET",
        type=flags.filled,
        help="for features (default: those shipped with a model)",
    )
    parser.add_argument(
        "--methods", metavar="METHOD", nargs="+", help="what finds circuits; random ones are added (default: preset)"
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help="run what other programs have of these methods beside them: EAP-IG, circuit-tracer; each where its "
        "script in benchmarks/peers has installed it (peer:METHOD by name)",
    )
    parser.add_argument(
        "--ablation",
        choices=ABLATIONS,
        nargs="+",
        default=[],
        help="what takes the place of all else (default: preset)",
    )
    parser.add_argument("--seeds", metavar="N", nargs="+", type=flags.seed, default=[], help="(default: the preset's)")
    parser.add_argument("--preset", choices=PRESETS, default="quick", help="how much of everything (default: quick)")
    parser.add_argument(
        "--compare",
        metavar=("OLD", "NEW"),
        nargs=2,
        type=Path,
        help="run nothing: what changed from one run to another",
    )
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", type=Path, default=Path(FOLDER), help=f"the run's own (default: {FOLDER}/)"
    )
    parser.add_argument("--device", type=flags.filled, default="auto", help="where to compute (default: auto)")
    parser.add_argument("--dtype", type=flags.filled, default="float32", help="float32 or float64 (default: float32)")
    flags.add_json(parser)
    flags.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    from circuits.checkout import from_checkout

    if arguments.compare:
        return _compare(arguments)

    from circuits.keeping import check_writable

    check_writable(arguments.output)
    plans, folders = from_checkout("benchmarks.bench.plans"), from_checkout("benchmarks.bench.folders")
    plan = plans.plan(
        arguments.tasks,
        arguments.model or [flags.MODEL],
        methods=arguments.methods or (),
        ablations=arguments.ablation,
        seeds=arguments.seeds,
        preset=arguments.preset,
        transcoders=arguments.transcoders,
        peers=arguments.peers,
    )

    from circuits.model import load_model

    silent = arguments.quiet or arguments.json
    try:
        rows = folders.bench(
            plan,
            arguments.output,
            lambda name: load_model(name, device=arguments.device, dtype=arguments.dtype),
            command=command_of(arguments),
            preset=arguments.preset,
            tell=(lambda words: None) if silent else (lambda words: print(words, flush=True)),
        )
    except KeyboardInterrupt:
        print("circuits: finished cells are kept; the same command goes on with the rest", file=sys.stderr)
        raise
    untested = sorted({row.says for row in rows if row.metric == "untested"})
    if arguments.json:
        told = {"folder": str(arguments.output), "rows": len(rows), "cells": plan.cells, "untested": untested}
        print(json.dumps(told, indent=1))
    elif not arguments.quiet:
        print(*from_checkout("benchmarks.bench.reporting").results_in_words(rows, arguments.preset), sep="\n")
        print(f"{len(rows):,} numbers of {plan.cells} cells", *(f"not measured: {why}" for why in untested), sep="\n")
        print(f"wrote {arguments.output}: rows.parquet, report.md, report.html")
    return 0


def command_of(arguments: argparse.Namespace) -> str:
    """The command line that runs it again, every choice spelled out that was made."""
    words = ["circuits", "bench", *arguments.tasks, "--preset", arguments.preset, "-o", str(arguments.output)]
    for flag, given in (
        ("-m", arguments.model),
        ("-t", arguments.transcoders and [arguments.transcoders]),
        ("--methods", arguments.methods),
        ("--ablation", arguments.ablation),
        ("--seeds", [str(each) for each in arguments.seeds]),
        ("--device", arguments.device != "auto" and [arguments.device]),
        ("--dtype", arguments.dtype != "float32" and [arguments.dtype]),
    ):
        words += [flag, *given] if given else []
    words += ["--peers"] if arguments.peers else []
    return shlex.join(words)


def _compare(arguments: argparse.Namespace) -> int:
    from circuits.checkout import from_checkout

    found = from_checkout("benchmarks.bench.folders").compare_folders(*arguments.compare)
    comparing = from_checkout("benchmarks.bench.comparing")
    if arguments.json:
        print(json.dumps(comparing.comparison_as_json(found), indent=1))
    elif not arguments.quiet:
        print(*comparing.comparison_in_words(found), sep="\n")
    return 0
