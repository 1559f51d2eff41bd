"""What there is to begin with: models and transcoder sets that come with the package, and some that are on the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "shipped"


@dataclass(frozen=True)
class PublishedModel:
    """A model on the Hub. gigabytes: of its weights, about; None where nobody wrote it down.

    gated: its owners ask for consent first.
    """

    name: str
    layers: int
    gigabytes: float | None
    gated: bool = False


@dataclass(frozen=True)
class PublishedSet:
    """A transcoder set, by the name that `load_transcoders` takes.

    kind: per-layer or cross-layer, and skip where a linear map goes past the features. layout: its name in
        `circuits.formats.FORMATS`.
    features: of each of its layers, None where nobody wrote it down. gigabytes: of what is fetched, about, or None.
    """

    name: str
    model: str
    kind: str
    layout: str
    layers: int
    features: int | None
    gigabytes: float | None


MODELS = (
    PublishedModel("openai-community/gpt2", 12, 0.5),
    PublishedModel("openai-community/gpt2-medium", 24, 1.5),
    PublishedModel("openai-community/gpt2-large", 36, 3.2),
    PublishedModel("openai-community/gpt2-xl", 48, 6.4),
    PublishedModel("roneneldan/TinyStories-33M", 4, 0.3),
    PublishedModel("EleutherAI/pythia-70m", 6, 0.2),
    PublishedModel("EleutherAI/pythia-160m", 12, 0.4),
    PublishedModel("EleutherAI/pythia-410m", 24, 0.9),
    PublishedModel("EleutherAI/pythia-1.4b", 24, 2.9),
    PublishedModel("HuggingFaceTB/SmolLM2-135M", 30, 0.3),
    PublishedModel("meta-llama/Llama-3.2-1B", 16, 2.5, gated=True),
    PublishedModel("meta-llama/Llama-3.2-3B", 28, 6.4, gated=True),
    PublishedModel("meta-llama/Llama-3.1-8B-Instruct", 32, 16.1, gated=True),
    PublishedModel("mistralai/Mistral-7B-v0.1", 32, 14.5),
    PublishedModel("Qwen/Qwen2.5-0.5B", 24, 1.0),
    PublishedModel("Qwen/Qwen3-0.6B", 28, 1.5),
    PublishedModel("Qwen/Qwen3-1.7B", 28, 4.1),
    PublishedModel("Qwen/Qwen3-4B", 36, 8.0),
    PublishedModel("Qwen/Qwen3-8B", 36, 16.4),
    PublishedModel("Qwen/Qwen3-14B", 40, 29.5),
    PublishedModel("google/gemma-2-2b", 26, 10.5, gated=True),
    PublishedModel("google/gemma-3-270m", 18, 0.6, gated=True),
    PublishedModel("google/gemma-3-270m-it", 18, 0.6, gated=True),
    PublishedModel("google/gemma-3-1b-pt", 26, 2.0, gated=True),
    PublishedModel("google/gemma-3-1b-it", 26, 2.0, gated=True),
    PublishedModel("microsoft/phi-2", 32, 5.6),
    PublishedModel("allenai/OLMo-2-0425-1B", 16, None),
    PublishedModel("openai/gpt-oss-20b", 24, 13.8),
)

_PLT, _LIST, _CLT = "circuit-tracer per-layer", "circuit-tracer per-layer, list", "circuit-tracer cross-layer"
_SCOPE_2, _SCOPE_2_CLT = "Gemma Scope 2", "Gemma Scope 2 cross-layer"

# Sizes are those that were seen on the Hub, else features times width times the bytes of the files' dtype.
SETS = (
    PublishedSet("pchlenski/gpt2-transcoders", "openai-community/gpt2", "per-layer", "Dunefsky GPT-2", 12, 24576, 1.8),
    PublishedSet("mntss/gemma-scope-transcoders", "google/gemma-2-2b", "per-layer", _LIST, 26, 16384, 7.9),
    PublishedSet("mwhanna/gemma-scope-transcoders", "google/gemma-2-2b", "per-layer", _LIST, 26, 16384, 7.9),
    PublishedSet("mntss/clt-gemma-2-2b-426k", "google/gemma-2-2b", "cross-layer", _CLT, 26, 16384, 28.5),
    PublishedSet("mntss/clt-gemma-2-2b-2.5M", "google/gemma-2-2b", "cross-layer", _CLT, 26, 98304, 171),
    *(
        PublishedSet(
            f"google/gemma-scope-2-{size}-{kind}/transcoder_all/width_{width}_l0_small",
            f"google/gemma-3-{size}{'' if (size, kind) == ('270m', 'pt') else f'-{kind}'}",
            "per-layer",
            _SCOPE_2,
            layers,
            features,
            gigabytes,
        )
        for size, layers, sizes in (("270m", 18, (1.5, 24.2)), ("1b", 26, (3.9, 62.8)))
        for kind in ("pt", "it")
        for (width, features), gigabytes in zip((("16k", 16384), ("262k", 262144)), sizes, strict=True)
    ),
    PublishedSet(
        "google/gemma-scope-2-270m-pt/clt/width_262k_l0_medium_affine",
        "google/gemma-3-270m",
        "cross-layer, skip",
        _SCOPE_2_CLT,
        18,
        14560,
        None,
    ),
    PublishedSet(
        "mwhanna/gemma-scope-2-270m-pt/transcoder_all/width_16k_l0_small",
        "google/gemma-3-270m",
        "per-layer",
        _PLT,
        18,
        16384,
        1.5,
    ),
    PublishedSet("mntss/transcoder-Llama-3.2-1B", "meta-llama/Llama-3.2-1B", "per-layer, skip", _PLT, 16, 131072, 34.6),
    PublishedSet("mntss/clt-llama-3.2-1b-524k", "meta-llama/Llama-3.2-1B", "cross-layer", _CLT, 16, 32768, 20.4),
    PublishedSet(
        "EleutherAI/skip-transcoder-Llama-3.2-1B-131k",
        "meta-llama/Llama-3.2-1B",
        "per-layer, skip",
        "sparsify",
        16,
        131072,
        None,
    ),
    PublishedSet(
        "EleutherAI/Llama-3.2-1B-mntss-skip-transcoder",
        "meta-llama/Llama-3.2-1B",
        "per-layer, skip",
        "clt-training",
        16,
        None,
        34.6,
    ),
    PublishedSet(
        "facebook/crv-8b-instruct-transcoders", "meta-llama/Llama-3.1-8B-Instruct", "per-layer", _PLT, 32, None, None
    ),
    PublishedSet(
        "nev/SmolLM2-CLT-135M-73k-k32", "HuggingFaceTB/SmolLM2-135M", "cross-layer", "clt-training", 30, None, None
    ),
    *(
        PublishedSet(f"mwhanna/qwen3-{size}-transcoders{end}", f"Qwen/Qwen3-{model}", "per-layer", _PLT, n, 163840, gb)
        for size, model, end, n, gb in (
            ("0.6b", "0.6B", "-lowl0", 28, None),
            ("1.7b", "1.7B", "-lowl0", 28, None),
            ("4b", "4B", "", 36, None),
            ("8b", "8B", "", 36, None),
            ("14b", "14B", "-lowl0", 40, None),
        )
    ),
    PublishedSet("mntss/clt-131k", "openai/gpt-oss-20b", "cross-layer", _CLT, 24, 131072, None),
)


def shipped_models() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(folder.parent.name for folder in SHIPPED.glob("*/model"))


def card_of(name: str) -> Path | None:
    """Where it is written what a model was trained on: beside a shipped one, or in its folder; None where nowhere."""
    places = (SHIPPED / name / "MODEL_CARD.md", Path(name) / "README.md")
    return next((place for place in places if place.is_file()), None)


def shipped_transcoders() -> list[str]:
    """The names of the sets that come with the package."""
    names = []
    for config in sorted(SHIPPED.glob("*/*/config.yaml")):
        owner, kind = config.parent.parent.name, config.parent.name
        names.append(owner if kind == "per-layer" else f"{owner}/{kind}")
    return names


def shipped_folder(name: str) -> Path:
    """Where a shipped set is."""
    return SHIPPED / (name if "/" in name else f"{name}/per-layer")
