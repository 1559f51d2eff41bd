"""What an assay is: what was registered, predicted and measured, against which controls, and the verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypedDict

from graphs.errors import ForeignFolder
from graphs.reading import read

VERSION = 1
VERDICTS = ("supported", "not supported", "untested")

# What takes its time in an assay, for a reader: the trace, and each experiment by the field that holds its records.
STAGES = {
    "trace": "the prompt run once",
    "ablations": "nodes ablated one by one",
    "subsets": "the whole graph against random sets",
    "groups": "groups ablated together, against random ones",
    "edges": "each edge by experiment",
    "doses": "nodes halved and turned round",
    "steps": "where predictions are lost",
    "between": "nodes ablated, all others read",
    "disturbances": "a small change in both models",
    "contributions": "what each feature adds to the graph",
    "curves": "keeping more and more of the graph",
    "controls": "graphs that should do worse",
    "reseeded": "the whole graph, all that is random drawn anew",
    "prunings": "pruning it otherwise",
    "rewordings": "asking in other words",
    "examples": "the graph's features in other wordings",
}

# Of `Steps`: the models that a single ablation is followed through, and what each lets act that the one before did not.
STEPS = {
    "pruned": "the graph",
    "whole": "all active units",
    "gated": "gates",
    "replaced": "silent units",
    "norms_held": "real MLPs",
    "attention_held": "norms",
    "live": "attention",
}

# Lists of one axis: what they are records of -> the lists that are equally long.
ALIKE = {
    "subsets": ("random_faithfulness", "random_complement"),
    "reseeded": ("random_faithfulness", "random_complement"),
    "curves": ("kept", "faithfulness", "complement"),
    "contributions": ("node", "lost"),
    "between": ("source target hops influence direct predicted measured measured_frozen").split(),
    "disturbances": ("distance", "count", "cosine", "error", "ratio", "stream"),
    "examples": ("prompt", "model", "circuit", "without"),
    "steps": ("node", *STEPS),
    "groups": ("node", "singles"),
}


@dataclass(frozen=True)
class Ablation:
    """One node of the graph ablated in the real model, alone.

    node: its row in the graph that was tested.
    influence: the graph's claim: the share of the goal that passes through it.
    predicted: the graph's signed claim: the change of the target's value, in logits or a feature's own units.
    measured, kl: what happened, attention live: the change of that value; KL(clean || ablated) of the answer in
        nats, or where a feature is explained the size of the change.
    measured_frozen, kl_frozen: the same with attention patterns held.
    dose: how much of it was taken away: 1 sets it to zero, 0.5 halves it, 2 turns it round.
    """

    node: int
    influence: float
    predicted: float
    measured: float
    kl: float
    measured_frozen: float
    kl_frozen: float
    dose: float = 1.0


@dataclass(frozen=True)
class Edges:
    """Every edge by experiment: its source left out of the real model with all else held, its target read.

    tested: how many edges. left_out: how many have a source that is written nowhere: what is read with a target (the
        bias of its encoder), and what stands for untraced units; or a target that is no unit and no logit.
    largest: the largest difference between weight and measurement, as a share of the target's gross input.
    source, target: rows of the nodes of that edge, -1 without one.
    """

    tested: int
    left_out: int
    largest: float
    source: int
    target: int


@dataclass(frozen=True)
class Subset:
    """The whole graph put to the test: everything else ablated, or only the graph, under one kind of ablation.

    ablation: "mean" (over the model's own prompts) or "zero".
    faithfulness: the share of the clean target that survives when only the graph's features are left.
    complement: the same when only the graph's features are ablated. Low is good.
    random_faithfulness, random_complement: the same two for random feature sets, matched in size and layer. [control]
    p_faithfulness, p_complement: the share of controls that do as well or better, (1 + better) / (1 + controls).
    untested: why nothing can be said, empty when it can. Figures that do not exist are nan.
    """

    ablation: str
    faithfulness: float
    complement: float
    random_faithfulness: Sequence[float]
    random_complement: Sequence[float]
    p_faithfulness: float
    p_complement: float
    untested: str = ""


@dataclass(frozen=True)
class Curve:
    """How much of the difference survives as the graph's units are kept one after the other, most influential first.

    ablation: what the others get: "mean", "zero" or "resample" (their values on another prompt of the model's own).
    errors: "kept", or "ablated" with the rest.
    kept: how many units are left; the last point but one is the whole graph, the last all active units. [point]
    faithfulness: the share that survives when only those are left. complement: when only those are ablated. [point]
    area: under faithfulness, from none to the whole graph. random_area: the same for random sets. [control]
    p_area: (1 + controls with as large an area) / (1 + controls).
    untested: why nothing can be said, empty when it can.
    """

    ablation: str
    errors: str
    kept: Sequence[int]
    faithfulness: Sequence[float]
    complement: Sequence[float]
    random_faithfulness: Sequence[Sequence[float]]
    area: float
    random_area: Sequence[float]
    p_area: float
    untested: str = ""


@dataclass(frozen=True)
class Contributions:
    """What each unit of the graph adds to the kept set: the share of the difference that is lost without it.

    node: its row. lost: survival with the whole graph less survival without this unit, mean ablation. [unit]
    reference: what a random active unit outside the graph adds to it. [draw]
    untested: why nothing can be said, empty when it can.
    """

    node: Sequence[int]
    lost: Sequence[float]
    reference: Sequence[float]
    untested: str = ""


@dataclass(frozen=True)
class Steps:
    """Where a prediction is lost: the change of the target's value when a node is ablated alone, in seven models.

    node: its row. pruned: what the graph says. whole: all active units, not only the graph's, each changing in
    proportion to its value. gated: active units encoded anew, so that they saturate or fall silent. replaced: silent
    ones too may wake. In these the dictionary stands for the MLPs; patterns, norms and errors are the clean run's.
    norms_held: the real MLPs, patterns and norms held. attention_held: norms live. live: nothing held. [node]
    """

    node: Sequence[int]
    pruned: Sequence[float]
    whole: Sequence[float]
    gated: Sequence[float]
    replaced: Sequence[float]
    norms_held: Sequence[float]
    attention_held: Sequence[float]
    live: Sequence[float]


@dataclass(frozen=True)
class Between:
    """What ablating nodes does to units of the graph further on, pair by pair. All changes are shares of the value.

    source, target: rows of the ablated node and of the unit that was read. [pair]
    hops: edges on the shortest path of the graph from one to the other: 1 where an edge joins them. [pair]
    influence: the graph's unsigned claim: the share of the target's gross input that comes from the source. [pair]
    direct, predicted: its signed claims: the change by the edge alone, and by all paths. [pair]
    measured, measured_frozen: what happened to the target's value, attention live and held. [pair]
    left_out: pairs that a path joins and that were not recorded, those of least influence.
    """

    source: Sequence[int]
    target: Sequence[int]
    hops: Sequence[int]
    influence: Sequence[float]
    direct: Sequence[float]
    predicted: Sequence[float]
    measured: Sequence[float]
    measured_frozen: Sequence[float]
    left_out: int


@dataclass(frozen=True)
class Disturbance:
    """A small change of the stream in the real model, and in the one where the dictionary replaces the MLPs.

    kind: what was added: more of "an upstream feature", "a reader's direction", or "a random direction".
    attention: of the real model: "live", or "frozen" with its norms; the replacement model's are always frozen.
    distance: layers since. count: changes of this kind that are so far from the last layer. [distance]
    cosine, error, ratio: of what the layers since have written in answer, replacement against real, means over changes:
        cosine; squared difference over the real one's square; length over the real one's. [distance]
    stream: the cosine with what was added counted in. [distance]
    """

    kind: str
    attention: str
    distance: Sequence[int]
    count: Sequence[int]
    cosine: Sequence[float]
    error: Sequence[float]
    ratio: Sequence[float]
    stream: Sequence[float]


@dataclass(frozen=True)
class Prunings:
    """How many of several prunings of the same trace keep what this graph holds.

    settings: the shares of node and of edge influence kept, [nodes, edges]. [setting]
    node, edge: the share of the settings that keep each, in the graph's own order. [node] [edge]
    untested: why the prompt could not be traced again, empty when it could.
    """

    settings: Sequence[Sequence[float]]
    node: Sequence[float]
    edge: Sequence[float]
    untested: str = ""


@dataclass(frozen=True)
class Rewording:
    """What of the graph is in that of another prompt, traced for the same answer and pruned alike.

    prompt: its text. control: it is an unrelated prompt, not the question in other words.
    answered: whether the model's likeliest next token is that of the graph's prompt.
    nodes, influence: the share of the graph's features, and of their influence, that the other graph has too, wherever
        they stand. overlap: the weighted Jaccard index of both graphs' influence by feature.
    untested: why there is nothing to compare, empty when there is.
    """

    prompt: str
    control: bool
    answered: bool
    nodes: float
    influence: float
    overlap: float
    untested: str = ""


@dataclass(frozen=True)
class Examples:
    """Other wordings that are as long as the graph's prompt, with its features held in their places.

    prompt: their texts. model, circuit, without: what must be kept (see `Subset`) in the whole model, with only the
        graph's features left, and with only them ablated, mean ablation. [example]
    untested: why nothing can be said, empty when it can.
    """

    prompt: Sequence[str]
    model: Sequence[float]
    circuit: Sequence[float]
    without: Sequence[float]
    untested: str = ""


@dataclass(frozen=True)
class Arrow:
    """What ablating one group does to another that the graph joins it to; all changes are shares of that one's value.

    The value of a group: its members' values, each counted in its own direction, so that their sizes add up.

    to: the name of the other group.
    direct, predicted: the graph's claims: the change by the edges from members to members alone, and by all paths.
    measured, measured_frozen: what happened, attention live and held.
    random: what happened when random groups were ablated in place of this one, attention live. [control]
    p: (1 + controls that move it as far) / (1 + controls).
    untested: why nothing can be said, empty when it can.
    """

    to: str
    direct: float
    predicted: float
    measured: float
    measured_frozen: float
    random: Sequence[float]
    p: float
    untested: str = ""


@dataclass(frozen=True)
class Group:
    """A group of units that was registered as a hypothesis, ablated as one in the real model.

    name: what it was registered as. node: rows of its members.
    predicted: the graph's signed claim: the change of the target's value when all members are ablated at once.
    measured, kl, measured_frozen, kl_frozen: what happened, see `Ablation`.
    left: the share of the clean target that survives without the group, zero ablation, see `Subset`.
    singles: the change when each member is ablated alone, attention live. [node]
    random, random_kl: `measured` and `kl` of random groups as large. [control] alike: in what they are alike.
    p: (1 + controls that move the target as far) / (1 + controls). unmatched: why there is none, empty when there is.
    arrows: to each group that an edge of the graph joins it to.
    untested: why nothing can be said, empty when it can.
    """

    name: str
    node: Sequence[int]
    predicted: float
    measured: float
    kl: float
    measured_frozen: float
    kl_frozen: float
    left: float
    singles: Sequence[float]
    random: Sequence[float]
    random_kl: Sequence[float]
    alike: str
    p: float
    unmatched: str
    arrows: Sequence[Arrow]
    untested: str = ""


@dataclass(frozen=True)
class Control:
    """One figure of the graph beside the same figure of graphs that should do worse.

    name: what they are. statistic: what was compared. ours: the graph's. null: theirs. [control]
    p: (1 + controls that do as well) / (1 + controls). untested: why nothing can be said, empty when it can.
    """

    name: str
    statistic: str
    ours: float
    null: Sequence[float]
    p: float
    untested: str = ""


@dataclass(frozen=True)
class Verdict:
    """One claim, judged by a rule fixed beforehand.

    claim: a sentence. verdict: one of VERDICTS. number: the figure it rests on, nan when untested.
    threshold: the bar, in words. control: what it was compared with, in words; when untested, why.
    """

    claim: str
    verdict: str
    number: float
    threshold: str
    control: str


class Thresholds(TypedDict, total=False):
    """What others read of the bars that were registered. sizeable: the least effect that counts, of the clean one."""

    sizeable: float


class Registration(TypedDict, total=False):
    """What others read of a registration. hash: of all the rest."""

    thresholds: Thresholds
    hash: str


@dataclass(frozen=True)
class Assay:
    """What was predicted, what was measured, against which controls. Travels with its graph.

    registration: everything fixed before the experiments ran (metric, doses, controls, thresholds, seed) and its hash.
        `registration["metric"]` says in words what was measured, and of how many targets it is the foremost.
    conservation: the largest residual over gross of any target (level 0).
    ablations: one record per node ablated alone.
    statistics: named figures over the ablations: spearman_kl, pearson, slope, sign_agreement, each live and frozen.
    subsets: one record per kind of ablation.
    verdicts: the claims, judged.
    seconds: how long it took, by stage.
    edges: level 1, one record. doses: ablations at other doses than 1. curves: one record per kind of ablation, errors
        kept and ablated. contributions: one record. controls: one record per kind. All empty when not asked for.
    skipped: experiments that were registered and not run, and why.
    between: level 3, one record. disturbances: level 4, one record for each kind and way of attention.
    reseeded: as subsets, of two more seeds. prunings: one record. examples: one record.
    rewordings: one record for each prompt, the unrelated ones last. steps: one record.
    groups: one record for each group that was registered.
    """

    registration: Mapping[str, Any]
    conservation: float
    ablations: Sequence[Ablation]
    statistics: Mapping[str, float]
    subsets: Sequence[Subset]
    verdicts: Sequence[Verdict]
    seconds: Mapping[str, float] = field(default_factory=dict)
    edges: Sequence[Edges] = ()
    doses: Sequence[Ablation] = ()
    curves: Sequence[Curve] = ()
    contributions: Sequence[Contributions] = ()
    controls: Sequence[Control] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    between: Sequence[Between] = ()
    disturbances: Sequence[Disturbance] = ()
    reseeded: Sequence[Subset] = ()
    prunings: Sequence[Prunings] = ()
    rewordings: Sequence[Rewording] = ()
    examples: Sequence[Examples] = ()
    steps: Sequence[Steps] = ()
    groups: Sequence[Group] = ()
    version: int = VERSION

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, for `json.dump`."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Assay:
        """The inverse of `to_json`.

        Raises:
            ForeignFolder: the record was written by a later version, or is not an assay; the message says where.
        """
        version = record.get("version") if isinstance(record, Mapping) else None
        if type(version) is int and version > VERSION:
            raise ForeignFolder(
                f"an assay of version {VERSION} is wanted, found version {version}: update circuit-assay."
            )
        assay = read(record, cls, "assay")
        assay = replace(assay, registration=read(assay.registration, Registration, "assay.registration"))
        for number, each in enumerate(assay.verdicts):
            if each.verdict not in VERDICTS:
                raise ForeignFolder(
                    f"assay.verdicts[{number}].verdict should be one of {', '.join(VERDICTS)}, "
                    f"found {each.verdict!r:.40}."
                )
        _check_lengths(assay)
        return assay


def _check_lengths(assay: Assay) -> None:
    """Lists of one axis are equally long.

    Raises:
        ForeignFolder: they are not; the message says where.
    """
    for name, columns in ALIKE.items():
        for number, each in enumerate(getattr(assay, name)):
            lengths = {column: len(getattr(each, column)) for column in columns}
            if len(set(lengths.values())) > 1:
                raise ForeignFolder(f"assay.{name}[{number}] should have lists of one length, found {lengths}.")
    for number, curve in enumerate(assay.curves):
        points, sets = len(curve.kept), curve.random_faithfulness
        lengths = {len(each) for each in sets}
        if lengths - {max(points - 1, 0)} or len(sets) != len(curve.random_area):
            raise ForeignFolder(
                f"assay.curves[{number}].random_faithfulness should have a list for each of {len(curve.random_area)} "
                f"random sets, of {max(points - 1, 0)} points, found {len(sets)} of {sorted(lengths)}."
            )
    for number, group in enumerate(assay.groups):
        tested = [each.random for each in group.arrows if not each.untested]
        lengths = set(map(len, (group.random, group.random_kl, *tested)))
        if len(lengths) > 1:
            raise ForeignFolder(
                f"assay.groups[{number}] should have a figure of each random group in all its lists, found lists of "
                f"{' and '.join(map(str, sorted(lengths)))}."
            )
    for number, prunings in enumerate(assay.prunings):
        if any(len(each) != 2 for each in prunings.settings):
            raise ForeignFolder(f"assay.prunings[{number}].settings should be pairs of shares, found others.")
