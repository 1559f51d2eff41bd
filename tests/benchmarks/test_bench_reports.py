"""What is told of a run: a report that needs no network and escapes its words, orders, and what changed since."""

import json
import math
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.bench.comparing import compare, comparison_as_json, comparison_in_words, p_of
from benchmarks.bench.documents import to_markdown
from benchmarks.bench.folders import compare_folders, write_folder
from benchmarks.bench.measures import SIZES, performance
from benchmarks.bench.orders import found_order, judge_order, reasons
from benchmarks.bench.presets import PRESETS
from benchmarks.bench.reporting import results_in_words, write_report
from benchmarks.bench.rows import UNTESTED, Row, write_rows
from benchmarks.bench.summaries import Number, Place, Summary, summarise
from benchmarks.bench.truths import COMPILED
from circuits.__main__ import main, read
from circuits.checkout import from_checkout
from circuits.commands import bench as shell
from circuits.components.ablations import ABLATIONS
from circuits.errors import BadOption
from graphs.errors import ForeignFolder

EVIL = "<script>alert(1)</script>|`x`"
MADE = {"command": "circuits bench 'a b' && rm", "preset": "quick", "versions": {"torch": "2"}}


def row(metric="faithfulness", value=0.5, half=0.1, **columns):
    given = {"task": "ioi", "model": "world", "method": "eap", "level": "edges", "ablation": "resample", "seed": 0}
    given |= {"split": "test", "ranked": "size", "count": 10.0, "seconds": 1.0, "peak_memory": 1e6} | columns
    return Row(**given, metric=metric, value=value, low=value - half, high=value + half)


def rows_of(task="ioi", methods=("exact", "eap-ig", "eap", "random"), step=0.2):
    """Methods, each worse than the one before."""
    found = []
    for at, method in enumerate(methods):
        curve = np.clip(np.linspace(0.1, 1, len(SIZES)) - at * step, 0, 1)
        mine = {"task": task, "method": method, "seconds": 10.0 / (1 + at)}
        found += [row(value=float(value), size=size, **mine) for size, value in zip(SIZES, curve, strict=True)]
        found += [row(name, float(v), 0.01, size=SIZES[6], **mine) for name, v in (("completeness", 1), ("kl", 0.1))]
        for ranked in ("size", "value"):
            found.append(row("cpr", float(performance(curve)), 0.01, ranked=ranked, **mine))
        found += [row("log area", float(curve.mean()), 0.01, **mine), row("cmd", 0.2, 0.01, **mine)]
        found += [row(f"smallest at {bar}", SIZES[6], 0.0, **mine) for bar in (0.8, 0.9)]
    return found


def test_the_page_needs_no_network_and_no_word_of_it_is_markup(tmp_path):
    rows = rows_of(EVIL)
    rows.append(replace(row(), metric=UNTESTED, value=math.nan, says=f"{EVIL} does not fit", task=EVIL))

    write_folder(rows, tmp_path, MADE)

    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    addresses = set(re.findall(r"https?://[^\s\"'<]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(src|href)=", page)
    assert page.count("<svg") == page.count("</svg>") == 2
    assert "rm" in page and "a b" in page


def test_markdown_names_every_figure_that_lies_beside_it(tmp_path):
    write_folder(rows_of(EVIL), tmp_path, MADE)

    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    figures = re.findall(r"!\[.*\]\((figures/[A-Za-z0-9.-]+\.svg)\)", text)
    assert len(figures) == 2
    for each in figures:
        assert (tmp_path / each).read_text(encoding="utf-8").startswith("<svg")
    assert json.loads((tmp_path / "run.json").read_text()) == MADE
    columns = [line.count(" | ") for line in text.splitlines() if line.startswith("| exact |")]
    head = next(line for line in text.splitlines() if line.startswith("| method |"))
    assert columns and set(columns) == {head.count(" | ")}


def test_a_terminal_is_told_what_the_report_has_foremost_and_where_p_can_be_no_lower():
    rows = rows_of(methods=("exact", "eap"))
    rows += [row("p of log area", p, math.nan, method=name) for name, p in (("exact", 0.25), ("eap", 0.5))]

    place, head, exact, eap, _, remark = results_in_words(rows, "quick")  # three random circuits

    assert place == "ioi in world, resample ablation" and head.split() == ["method", "of", "CPR", "p"]
    cpr = summarise(rows)[Place("ioi", "world", "resample")][0].get("cpr", "value")
    assert exact.split("  ")[-2:] == [f"{cpr.value:.2f} [{cpr.low:.2f}, {cpr.high:.2f}]", "0.25 (the least)"]
    assert eap.endswith(" 0.50")
    told = to_markdown(write_report(rows, MADE))
    assert remark in told and "With 3 random circuits p is 0.25 or more" in remark and "0.25 (the least)" in told


def test_programs_of_which_all_is_true_leave_the_mean_alone():
    areas = {"one": 1.0, "two": 0.5, "all": math.nan}
    rows = [row("auroc", area, 0.0, task=task, model=COMPILED) for task, area in areas.items()]
    rows += [row("recall", 1.0, 0.0, task=task, model=COMPILED) for task in areas]

    told = to_markdown(write_report(rows, MADE))

    assert "| all | all or none are true, 100% |" in told and "| mean | 0.75 |" in told


def test_seeds_are_told_by_their_mean():
    rows = [row("cpr", value, 0.1, seed=seed) for seed, value in enumerate((0.4, 0.6))]

    told = summarise(rows)[Place("ioi", "world", "resample")][0].get("cpr")

    assert (told.value, told.low, told.high) == pytest.approx((0.5, 0.4, 0.6))


def test_graphs_of_several_seeds_are_counted_together():
    graphs = {"method": "direct", "level": "graphs", "ranked": "influence", "ablation": ""}
    rows = [row("graph nodes", 30.0 + seed, seed=seed, count=8.0, seconds=1.0 + seed, **graphs) for seed in (0, 2)]

    told = to_markdown(write_report(rows, MADE))

    line = next(line for line in told.splitlines() if line.startswith("| ioi | world | direct |"))
    assert line.startswith("| ioi | world | direct | 16 | 31.00 ") and line.endswith(" 2 |")


def ordered(**values):
    return [
        Summary(method, "edges", 1.0, 1.0, {("cpr", "value", -1.0): Number(value, value - half, value + half, 10.0)})
        for method, (value, half) in values.items()
    ]


def test_the_order_of_the_literature_is_found_or_what_does_not_follow_it_is_named():
    reported = {"exact": (2.3, 0.1), "eap-ig": (1.85, 0.1), "eap": (1.2, 0.1), "random": (0.25, 0.1)}

    assert judge_order(ordered(**reported)) == "as reported"
    assert found_order(ordered(**reported), "cpr", "value") == "patching 2.30 > EAP-IG 1.85 > EAP 1.20 > random 0.25"
    turned = judge_order(ordered(**reported | {"exact": (0.5, 0.1)}))
    assert turned == "reversed: patching and EAP-IG, patching and EAP"
    near = judge_order(ordered(**reported | {"eap": (1.8, 0.1)}))
    assert near == "not told apart: EAP-IG and EAP"
    (why,) = reasons(ordered(**reported | {"exact": (0.5, 0.1)}))
    assert why.startswith("Patching measures each edge with all others whole")
    assert reasons(ordered(**{name: (0.9, 0.1) for name in reported}))[0].startswith("No CPR is far above 1")
    assert "≈ EAP 1.80" in found_order(ordered(**reported | {"eap": (1.8, 0.1)}), "cpr", "value")


def noisy(seed, planted=()):
    """Two hundred numbers, each measured with the noise that its interval tells."""
    numbers = np.random.default_rng(seed)
    truth = np.random.default_rng(7).uniform(0, 1, size=200)
    found = []
    for at, value in enumerate(truth):
        noise = 0.05 * numbers.normal() + (0.5 if at in planted else 0.0)
        found.append(row(value=float(value + noise), half=1.96 * 0.05, task=f"task {at}"))
    return found


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_planted_change_is_found_and_noise_is_not(seed):
    unchanged, planted = compare(noisy(0), noisy(seed)), compare(noisy(0), noisy(seed, planted=(3, 50)))

    assert unchanged.compared == 200 and len(unchanged.changed) == 0
    assert {"task 3", "task 50"} <= {each.new.task for each in planted.changed}
    assert len(planted.changed) <= 3


def test_the_same_run_has_not_changed_and_what_has_no_interval_changes_beyond_rounding():
    rows = noisy(0)
    exact = row("auroc", 1.0, math.nan)

    assert compare(rows, rows).changed == []
    assert p_of(exact, replace(exact, value=1.0 - 1e-8)) == 1.0
    assert p_of(exact, replace(exact, value=0.9)) < 1e-200
    infinite = replace(exact, value=math.inf)
    assert p_of(infinite, infinite) == 1.0 and p_of(exact, infinite) < 1e-200
    untold = replace(exact, value=math.nan)
    assert compare([untold], [untold]).compared == 0
    assert len(compare([untold], [exact]).changed) == 1


def test_what_is_in_one_run_only_and_what_got_slower_is_told():
    rows = noisy(0)
    slower = [replace(each, seconds=3.0) for each in rows[1:]]
    untested = replace(rows[0], metric=UNTESTED, value=math.nan)

    found = compare(rows, [*slower, untested, row(task="more")])

    assert [each.task for each in found.gone] == ["task 0"] and [each.task for each in found.come] == ["more"]
    assert found.times == {"eap": 3.0}
    told = "\n".join(comparison_in_words(found))
    assert "only in the old run: 1 numbers of task 0, world, eap, resample, 0" in told
    assert "seconds, new over old: eap 3.00" in told
    json.dumps(comparison_as_json(found), allow_nan=False)


def test_two_folders_are_compared_from_the_shell(tmp_path, capsys):
    for name, rows in (("old", noisy(0)), ("new", noisy(1, planted=(3,)))):
        (tmp_path / name).mkdir()
        write_rows(rows, tmp_path / name / "rows.parquet")

    assert main(["bench", "--compare", str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("200 numbers are in both runs; ") and "task 3, world, eap" in said
    assert main(["bench", "--compare", str(tmp_path / "old"), str(tmp_path / "new"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"][0]["task"] == "task 3"

    with pytest.raises(ForeignFolder, match="holds no rows of a benchmark"):
        compare_folders(tmp_path / "old", tmp_path)
    assert main(["bench", "--compare", str(tmp_path), str(tmp_path)]) == 2
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 no")
    assert main(["bench", "--compare", str(tmp_path), str(tmp_path / "old")]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "there is no task 'nonsense'"),
        (["ioi", "--methods", "guess"], "there is no method 'guess'"),
        (["ioi", "-o", "/dev/null/run"], "/dev/null"),
    ],
)
def test_what_a_user_gets_wrong_is_one_sentence(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert main(["bench", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_shell_offers_what_there_is():
    assert shell.PRESETS == tuple(PRESETS) and shell.ABLATIONS == tuple(ABLATIONS)


def test_without_a_checkout_there_is_a_word_on_where_to_get_one():
    assert from_checkout("benchmarks.bench.rows").Row.__name__ == "Row"
    with pytest.raises(BadOption, match="come with the repository"):
        from_checkout("benchmarks.nowhere")


def test_the_command_that_is_told_is_read_as_the_one_that_was_given():
    words = ["bench", "ioi", "my pairs.jsonl", "-m", "world", "gpt2", "--methods", "eap", "--seeds", "0", "1"]
    given = read([*words, "--ablation", "mean", "zero", "--preset", "full", "-o", "a b", "--dtype", "float64"])

    assert vars(read(shlex.split(shell.command_of(given))[1:])) == vars(given)
