"""What was measured of speed, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.speed_cases import ALONE, ATTRIBUTIONS, GROWTH, PRUNINGS, TAKEN_APART
from benchmarks.stages import STAGES


def report(results: Mapping[str, Any]) -> str:
    """The results as tables."""
    lines = ["# Beside circuit-tracer", ""]
    lines += [
        "Made by `python -m benchmarks.speed`. Models and dictionaries are random but for `world`; sizes and sparsity"
    ]
    lines += [
        "are those of real ones. One thread each, turns taken in one run, medians; CPU seconds. Other work ran on the"
    ]
    lines += ["machine meanwhile: trust the ratios, not the seconds.", ""]
    where = max((result["machine"] for result in results.values()), key=lambda each: each["load"])
    shown = ", ".join(f"{key} {value}" for key, value in where.items() if key != "load")
    lines += [f"Machine: {shown}; load average up to {where['load']:.1f}.", ""]
    for tell in (_attribution, _stages, _pruning, _growth, _prompt, _gpu):
        lines += tell(results)
    took = sum(result.get("took", 0) for result in results.values())
    lines += ["", f"All parts together took {took / 60:.0f} minutes."]
    return "\n".join([*lines, ""])


def _attribution(results: Mapping[str, Any]) -> list[str]:
    """Beside the peer, and of what the peer cannot do alone."""
    lines: list[str] = []
    head = ["", "rows", "active", "peer batch", "peer s", "ours s", "ratio", "wall ratio", "over floor"]
    head += ["peer over floor", "peer MB", "ours MB", "repeats"]
    lines += ["## Attribution", "", *_header(head)]
    for name in ATTRIBUTIONS:
        if name in results:
            r = results[name]
            cells = [f"{name}: {r['case']}", r["rows"], r["active"], r["peer batch"], f"{r['peer']['cpu']:.3f}"]
            cells += [f"{r['ours']['cpu']:.3f}", f"{r['ratio cpu']:.1f}", f"{r['ratio wall']:.1f}"]
            floors = [r["over floor"], r["peer"]["cpu"] / r["floor"]["seconds"]] if "over floor" in r else []
            cells += [f"{each:.1f}" for each in floors] or ["", ""]
            cells += [f"{r['peer']['peak'] / 1e6:.0f}", f"{r['ours']['peak'] / 1e6:.0f}", r["repeats"]]
            lines.append(_row(cells))
    for name in ALONE:
        if name in results:
            r = results[name]
            cells = [f"{name}: {r['case']}", r["rows"], r["active"], "", "", f"{r['ours']['cpu']:.3f}", *[""] * 5]
            lines.append(_row([*cells, f"{r['ours']['peak'] / 1e6:.0f}", r["repeats"]]))
    lines += [
        "",
        "`over floor`: our CPU time over that of the fewest floating-point operations that rows and prompt need, at",
    ]
    lines += ["the rate of a plain matrix product in the same run; `peer over floor`, the same of the peer's: no exact"]
    lines += ["pass of this kind can be more times as fast here. MB: peak of a first run above what was loaded.", ""]
    return lines


def _stages(results: Mapping[str, Any]) -> list[str]:
    """Where our time goes."""
    lines: list[str] = []
    taken_apart = [name for name in TAKEN_APART if f"stages-{name}" in results]
    if taken_apart:
        lines += ["## Where our time goes", "", "CPU milliseconds, medians.", "", *_header(["", *taken_apart])]
        found = [results[f"stages-{name}"] for name in taken_apart]
        for part in (*STAGES, "the rest"):
            lines.append(_row([part, *(f"{1000 * r['parts'][part]:.1f}" for r in found)]))
        for part in ("rows", "prompt"):
            lines.append(_row([f"floor: {part}", *(f"{1000 * r['floor'][part]:.1f}" for r in found)]))
        lines += [
            "",
            "Of the large model nearly all is matrix products at the rate of plain ones, so that its ratio can hardly",
            "pass `peer over floor`. Of the small one no part is most of it: the model's own pass, by its hooks, which",
            "both sides need, and many products too small for the full rate.",
            "",
        ]
    return lines


def _pruning(results: Mapping[str, Any]) -> list[str]:
    """Pruning by the peer's rule and by ours."""
    lines: list[str] = []
    head = ["features", "edges", "peer s", "ours s", "ratio", "our own rule s", "peer MB", "ours MB", "repeats"]
    lines += ["## Pruning", "", *_header(head)]
    for features in PRUNINGS:
        if f"prune-{features}" in results:
            r = results[f"prune-{features}"]
            ours = r["ours, the peer's rule"]
            cells = [features, r["edges"], f"{r['peer']['cpu']:.3f}", f"{ours['cpu']:.4f}", f"{r['ratio cpu']:.0f}"]
            cells += [f"{r['ours, our rule']['cpu']:.4f}", f"{r['peer']['peak'] / 1e6:.0f}"]
            lines.append(_row([*cells, f"{ours['peak'] / 1e6:.0f}", r["repeats"]]))
    return lines


def _growth(results: Mapping[str, Any]) -> list[str]:
    """How the time grows with each size."""
    lines: list[str] = []
    lines += ["", "## Growth", "", "CPU seconds of ours on the small model, and the power that fits them.", ""]
    lines += _header(
        ["along", "points", "CPU s", "exponent", "without the prompt's own pass", "of these, the last step"]
    )
    for along in GROWTH:
        if f"growth-{along}" in results:
            r = results[f"growth-{along}"]
            at = ", ".join(str(each["at"]) for each in r["points"])
            cpu = ", ".join(f"{each['cpu']:.3f}" for each in r["points"])
            powers = r["exponent"]
            shown = [
                f"{powers[name]:.2f}" if name in powers else "" for name in ("whole", "beyond the prompt", "last step")
            ]
            lines.append(_row([along, at, cpu, *shown]))
    return lines


def _prompt(results: Mapping[str, Any]) -> list[str]:
    """A prompt from end to end."""
    lines: list[str] = []
    if "prompt" in results:
        r = results["prompt"]
        lines += ["", "## One prompt of `world`, loaded", "", *_header(["", "CPU s", "wall s"])]
        for name in ("attribute, prune, score", "assay"):
            lines.append(_row([name, f"{r[name]['cpu']:.3f}", f"{r[name]['wall']:.3f}"]))
    return lines


def _gpu(results: Mapping[str, Any]) -> list[str]:
    """One graph on a GPU."""
    lines: list[str] = []
    if "gpu" in results:
        r = results["gpu"]
        lines += [
            "",
            "## On a GPU",
            "",
            *_header(["", "device", "rows", "active", "rows s", "prompt s", "over floor", "MB"]),
        ]
        cells = [
            r["case"],
            r["device"],
            r["rows"],
            r["active"],
            f"{r['rows seconds']:.3f}",
            f"{r['prompt seconds']:.3f}",
        ]
        lines.append(_row([*cells, f"{r['over floor']:.1f}", f"{r['peak'] / 1e6:.0f}"]))
    return lines


def _header(cells: Sequence[str]) -> list[str]:
    return [_row(cells), _row(["---"] * len(cells))]


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"
