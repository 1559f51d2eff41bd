"""The language model: load it, tokenize for it, run it, read and change what passes through it.

The only file that imports transformer_lens, and it does so when a model is loaded, not before.
"""

from __future__ import annotations

import copy
import hashlib
import json
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.bridge_weights import BridgeWeights
from circuits.devices import Spread, find_place
from circuits.errors import BadOption, BadPrompt, NotFetched, UnknownModel, UnsupportedModel
from circuits.families import FAMILIES, NO_MLP, NO_NORMS, Family
from circuits.hub.fetching import fetch_model
from circuits.hub.published import SHIPPED, shipped_models
from circuits.progress import Progress
from circuits.sites import Edit, Site, hook_at
from circuits.spelling import did_you_mean
from circuits.vocabulary import Vocabulary, has_tokenizer, has_words, stand_in, words_of
from circuits.weights import AttentionScores, Block, Brought, Norm
from circuits.whole_weights import WholeWeights

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Model:
    """A decoder-only transformer, loaded once, ready to be run and read. Made by `load_model`.

    name: what the user called it. layers, d_model, heads, vocabulary, context: its sizes.
    parallel: attention and MLP of a layer read the same residual stream (Pythia).
    causal: no position looks to its right.
    activation: the MLP's activation function, by its Hugging Face name.
    device, dtype: where and in what it computes. spread: its weights lie on several devices; what is read of a run, and
        the attention's weights, are brought to `device`.
    """

    def __init__(self, name: str, bridge: Any, family: Family, dtype: torch.dtype, tokenizer: Any) -> None:
        config = bridge.cfg
        self.name = name
        self.family = family
        self.layers: int = config.n_layers
        self.d_model: int = config.d_model
        self.heads: int = config.n_heads
        self.vocabulary: int = bridge.W_U.shape[1]
        self.context: int = config.n_ctx
        self.neurons: int = config.d_mlp if family.mlp == "dense" else 0
        self.activation: str = config.act_fn
        self.parallel = bool(config.parallel_attn_mlp)
        self.causal = getattr(config, "attention_dir", "causal") == "causal"
        self.learned_positions = config.positional_embedding_type == "standard"
        self.dtype = dtype
        self.spread = (getattr(config, "n_devices", 1) or 1) > 1
        self.device = torch.device(config.device) if self.spread else bridge.W_U.device
        # Its own: a bridge's has a BOS in any case, its EOS perhaps, or one that no embedding stands for.
        words = tokenizer if tokenizer is not None and has_words(tokenizer) else None
        self.words = Vocabulary(name, self.vocabulary, words)
        self._bridge = bridge

    def __repr__(self) -> str:
        return f"Model({self.name!r}: {self.layers} layers, width {self.d_model}, on {self.device})"

    # -- text ---------------------------------------------------------------------------------------------------------

    def tokenize(self, prompt: str | Sequence[int]) -> Int[Tensor, "pos"]:
        """Token ids of a prompt, with the tokenizer's own BOS in front where it has one.

        Token ids given as numbers are taken as they are.

        Raises:
            BadPrompt: nothing in it, more than the context holds, an unknown word, an id outside the vocabulary, or
                neither text nor whole numbers.
        """
        ids = self.words.read(prompt) if isinstance(prompt, str) else _whole_numbers(prompt)
        if not ids:
            raise BadPrompt("the prompt is empty: give at least one token.")
        outside = [i for i in ids if not 0 <= i < self.vocabulary]
        if outside:
            raise BadPrompt(f"token ids of {self.name} run from 0 to {self.vocabulary - 1}, found {outside[0]}.")
        if len(ids) > self.context:
            raise BadPrompt(f"the prompt has {len(ids)} tokens, {self.name} reads at most {self.context}: shorten it.")
        return torch.tensor(ids, device=self.device)

    def chat(self, said: str | Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of what a user says, or of several turns, in the model's chat template; see `Vocabulary.read_chat`.

        Raises:
            BadPrompt: there is no template, or nothing said.
        """
        return self.words.read_chat(said)

    def texts(self, ids: Iterable[int]) -> list[str]:
        """What each token says, one text per id, spaces kept."""
        return self.words.texts(ids)

    def token(self, text: str, logits: Float[Tensor, "vocab"] | None = None) -> int:
        """The id of the one token that says `text`; see `Vocabulary.token`.

        Raises:
            BadTarget: the text is several tokens, or none.
        """
        return self.words.token(text, logits)

    # -- running ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def run(
        self,
        tokens: Int[Tensor, "batch pos"],
        *,
        read: Iterable[Site] = (),
        edit: Mapping[Site, Edit] | None = None,
        past: Any = None,
        enter: tuple[int, Float[Tensor, "batch pos d_model"]] | None = None,
        gradient: bool = False,
    ) -> tuple[Float[Tensor, "batch pos vocab"], dict[Site, Tensor]]:
        """The logits before any soft cap, and what passed through the sites asked for.

        read: sites whose tensors are wanted, each [batch pos ...]; see SITES.
        edit: for a site, a function from the tensor passing there to a new one. An edited site is read after its edit.
        past: keys and values of what came before these tokens, from `remember`; these tokens' own are added to it.
        enter: a layer, and the stream before it: no layer below is run, and nothing passes its sites.
        gradient: keep what autograd needs to come back from the logits to what the edits put in.
        """
        found: dict[Site, Tensor] = {}
        edit = edit or {}

        def hook_for(site: Site) -> Callable[..., Tensor]:
            change = edit.get(site)

            def hook(tensor: Tensor, hook: Any) -> Tensor:
                if change is not None:
                    tensor = change(tensor.to(self.device)).to(tensor.device)
                found[site] = tensor.to(self.device)
                return tensor

            return hook

        wanted = dict.fromkeys([*edit, *read, ("logits", 0)])
        hooks = [(hook, hook_for(site)) for site in wanted if (hook := hook_at(self.family, site)) is not None]
        new = tokens.shape[1]
        if isinstance(past, list):
            if edit:
                raise UnsupportedModel(f"{self.name} keeps no keys and values: nothing can be said on after a change.")
            past.append(tokens)
            tokens = torch.cat(past, dim=1)
        before = {} if past is None or isinstance(past, list) else {"past_key_values": past, "use_cache": True}
        with torch.set_grad_enabled(gradient), self._entered(enter):
            self._bridge.run_with_hooks(tokens, fwd_hooks=hooks, **before)
            found[("logits", 0)] = found[("logits", 0)][:, -new:]
        for site in wanted:
            if site not in found:  # an MLP that is not there reads and adds nothing
                found[site] = edit.get(site, _same)(self.W_U.new_zeros(*tokens.shape, self.d_model))
                if bool(found[site].any()):
                    raise UnsupportedModel(f"{self.name} has no {site[0]} in layer {site[1]} that could be changed.")
        return found[("logits", 0)], found

    def scales(self, layers: Iterable[int] | None = None) -> list[Site]:
        """The denominator of every norm that the model has, as sites: in some layers or all, and before the end."""
        names = ["attention_scale", "mlp_scale"]
        names += ["attention_post_scale", "mlp_post_scale"] if self.family.post_norms else []
        sites = [(name, layer) for layer in (range(self.layers) if layers is None else layers) for name in names]
        return [site for site in [*sites, ("final_scale", 0)] if hook_at(self.family, site) is not None]

    def remember(self) -> Any:
        """An empty memory of keys and values, for `run(past=...)`: each call goes on where the last one stopped.

        All positions are kept, also where a layer looks back less far, so that a run can be resumed anywhere.
        TransformerLens-native models keep none: theirs is a list of what was read, which is read again.
        """
        from transformers import DynamicCache

        return DynamicCache() if self.remembers else []

    @property
    def remembers(self) -> bool:
        """Whether it keeps keys and values."""
        return hasattr(self.network, "config")

    def recall(self, memory: Any, length: int, rows: int = 1) -> Any:
        """Another memory: the first positions of this one, as the past of so many rows that go on from there."""
        found = self.remember()
        for layer, kept in enumerate(memory.layers):
            keys, values = (each[:, :, :length].expand(rows, -1, -1, -1) for each in (kept.keys, kept.values))
            found.update(keys, values, layer)
        return found

    def probabilities(self, logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
        """What the model would say: its soft cap, then softmax."""
        if self.logit_cap:
            logits = self.logit_cap * torch.tanh(logits / self.logit_cap)
        return logits.softmax(-1)

    @property
    def logit_cap(self) -> float | None:
        """The soft cap that logits pass before they are probabilities; None where there is none."""
        cap = getattr(self._bridge.cfg, "output_logits_soft_cap", None)
        return cap if cap and cap > 0 else None

    @property
    def norm_epsilon(self) -> float:
        """What norms add to the variance, in a model of TransformerLens's own."""
        return self._bridge.cfg.eps

    # -- weights ------------------------------------------------------------------------------------------------------

    @cached_property
    def blocks(self) -> list[Block]:
        """The weights of every layer; those of MLPs where they lie, see `whole_blocks`."""
        return [self._weights.block(layer) for layer in range(self.layers)]

    @property
    def whole_blocks(self) -> Sequence[Block]:
        """The same with all on `device`: where a model is spread out, an MLP is copied each time it is asked for."""
        return Brought(self.blocks, self.device) if self.spread else self.blocks

    @cached_property
    def final_norm(self) -> Norm | None:
        """The norm before the unembedding, None where there is none."""
        return self._weights.final_norm()

    @property
    def W_E(self) -> Float[Tensor, "vocab d_model"]:
        """The token embeddings as they are stored, before any scale."""
        return self._bridge.W_E.detach().to(self.device)

    @cached_property
    def W_U(self) -> Float[Tensor, "d_model vocab"]:
        """The unembedding."""
        return self._bridge.W_U.detach().to(self.device)

    @cached_property
    def b_U(self) -> Float[Tensor, "vocab"]:
        """The unembedding's bias, zeros where there is none."""
        return self._bridge.b_U.detach().to(self.W_U)

    @property
    def network(self) -> Any:
        """The Hugging Face model beneath, with its configuration."""
        return self._bridge.original_model

    @property
    def positions(self) -> Float[Tensor, "context d_model"] | None:
        """Learned position embeddings, None where there are none."""
        return self._bridge.pos_embed.W_pos.detach().to(self.device) if self.learned_positions else None

    def attention_scores(self, layer: int) -> AttentionScores:
        """How the heads of a layer come to their patterns."""
        return self._weights.attention_scores(layer)

    @cached_property
    def content_hash(self) -> str:
        """Twelve hex digits that change when any weight changes."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._bridge.original_model.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
        return digest.hexdigest()[:12]

    def shuffled(self, seed: int) -> Model:
        """A copy with the numbers of each weight in any order: as large and wide as this one, knowing nothing."""
        bridge = copy.deepcopy(self._bridge)
        numbers, done = torch.Generator().manual_seed(seed), set()
        for weight in bridge.original_model.parameters():
            if weight.data_ptr() not in done:  # tied weights are one
                done.add(weight.data_ptr())
                order = torch.randperm(weight.numel(), generator=numbers).to(weight.device)
                weight.data.copy_(weight.data.flatten()[order].view_as(weight))
        return Model(f"{self.name}, shuffled", bridge, self.family, self.dtype, self.words.tokenizer)

    @property
    def _weights(self) -> BridgeWeights:
        return BridgeWeights(self._bridge, self.family, self.device, self.dtype)

    @contextmanager
    def _entered(self, enter: tuple[int, Tensor] | None) -> Iterator[None]:
        """Blocks below a layer stand aside, and hand up the stream it is entered with.

        TransformerLens's own `start_at_layer` runs them all the same, and then throws away what they give.
        """
        layer, stream = enter or (0, None)
        below = self._bridge.blocks[:layer]
        others = self._given_with_streams if below else None
        given = stream if others is None else (stream, *[None] * others)
        for block in below:
            vars(block)["forward"] = lambda *_, **__: given  # assigned, it would go to the block beneath the bridge
        try:
            yield
        finally:
            for block in below:
                del vars(block)["forward"]

    @cached_property
    def _given_with_streams(self) -> int | None:
        """How many things a block hands up beside its stream, in a tuple; None where it gives the stream as it is."""
        given: list[Any] = []
        watch = self._bridge.blocks[0].register_forward_hook(lambda _block, _arguments, out: given.append(out))
        try:
            self._bridge(torch.zeros(1, 1, dtype=torch.long, device=self.device))
        finally:
            watch.remove()
        return len(given[0]) - 1 if isinstance(given[0], tuple) else None


def load_model(
    name: Any,
    *,
    tokenizer: Any = None,
    device: str | Mapping[str, str] = "auto",
    dtype: str = "float32",
    progress: Progress | None = None,
) -> Model:
    """A model by shipped name ("world"), local folder, or Hub id; or one in memory, of which a copy is made.

    A Hub id is ORG/NAME or ORG/NAME@REVISION. What is in the Hub's cache on this machine is taken as it is, and what is
    not is fetched: see `circuits.hub.fetching`.

    A folder holds what transformers saves, or the config and state dict of a TransformerLens-native model. In memory: a
    model of transformers, or a bridge that `boot_native` made. Weights may be stored in bfloat16.

    The first time, the model is held to its frozen copy on a random prompt: see `circuits.soundness`.

    tokenizer: instead of the model's own; a model in memory has none. dtype: of all that is computed, "float32" or
        "float64".
    device: "auto" (a GPU where there is one), or what torch calls it. "balanced" spreads a model of transformers over
        all GPUs, and a mapping from its modules' names says what goes where; it is then attributed on the device of
        the embeddings, where attention weights are copied, and an MLP's each time its neurons are read.
    progress: told the bytes that are fetched.

    Raises:
        UnknownModel: nothing by that name can be loaded, or fetched.
        UnsupportedModel: its architecture is not in `circuits.families.FAMILIES`.
        UnfaithfulModel: it would be traced wrongly.
    """
    from circuits.soundness import check_sound

    if dtype not in tuple(DTYPES):
        raise BadOption(f"dtype must be one of {', '.join(DTYPES)}, found {dtype!r}.")
    place = find_place(device)
    if isinstance(name, torch.nn.Module):
        if not isinstance(place, torch.device):
            raise BadOption("a model in memory goes to one device: name it, or give a Hub id or a folder.")
        model = _adopt(name, tokenizer, place, DTYPES[dtype])
    elif isinstance(name, str | Path) and name != "":
        model = _read(name, tokenizer, place, DTYPES[dtype], progress)
    else:
        raise UnknownModel(
            f"a model is named by a shipped name, a folder or a Hub id, or is one in memory; found {name!r}."
        )
    check_sound(model)
    return model


def _read(
    name: str | Path, tokenizer: Any, place: torch.device | Spread, dtype: torch.dtype, progress: Progress | None
) -> Model:
    """A model from files."""
    where = _folder(str(name))
    # A graph keeps the name: whoever reads it may stand in another folder.
    called = str(name) if where is None or str(name) in shipped_models() else os.path.abspath(where)
    where = where or _fetched(name, progress)
    try:
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        from transformers import AutoConfig, AutoTokenizer

        try:
            words = tokenizer or (AutoTokenizer.from_pretrained(where) if has_tokenizer(Path(where)) else None)
        except ValueError as reason:
            raise ValueError(f"its tokenizer is broken: {reason}") from reason
        if (settings := _native_settings(Path(where))) is not None:
            if not isinstance(place, torch.device):
                raise UnsupportedModel(f"{name} is TransformerLens's own, and goes to one device: name it.")
            bridge, family = _boot_native(Path(where), settings, place, dtype)
            return _finish(called, bridge, family, dtype, words)
        config = AutoConfig.from_pretrained(where)
        architecture = (config.architectures or ["an unnamed architecture"])[0]
        family = _family(str(name), architecture)

        from transformer_lens.model_bridge import TransformerBridge
        from transformer_lens.model_bridge.sources.transformers import get_hf_model_class_for_architecture

        put = {"device": str(place)} if isinstance(place, torch.device) else {"device_map": place}
        whole = WholeWeights(get_hf_model_class_for_architecture(architecture))
        bridge = TransformerBridge.boot_transformers(where, dtype=dtype, tokenizer=stand_in(), model_class=whole, **put)
    except UnsupportedModel:
        raise
    except Exception as reason:
        first_line = (str(reason).strip() or type(reason).__name__).splitlines()[0]
        raise UnknownModel(f"the model in {where} cannot be loaded: {first_line}") from reason
    return _finish(called, bridge, family, dtype, words)


def _adopt(given: torch.nn.Module, tokenizer: Any, place: torch.device, dtype: torch.dtype) -> Model:
    """A copy of a model in memory: a bridge works by replacing the parts of what it is put around."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel

    if isinstance(given, TransformerBridge):
        kind = type(given.original_model).__name__
        family = _native_family(kind, given.cfg) if kind == "NativeModel" else _family("the bridge", kind)
        bridge = copy.deepcopy(given).to(place, dtype)
        name = getattr(given.cfg, "model_name", None) or kind
        return _finish(name, bridge, family, dtype, tokenizer or given.tokenizer)
    if not isinstance(given, PreTrainedModel):
        raise UnsupportedModel(
            f"a model in memory is one of transformers or a bridge of TransformerLens, found {type(given).__name__}."
        )
    kind = type(given).__name__
    name = given.name_or_path or kind
    family = _family(name, kind)
    copied: Any = copy.deepcopy(given)
    copied.to(device=place, dtype=dtype)
    bridge = TransformerBridge.boot_transformers(
        name, hf_model=copied, device=str(place), dtype=dtype, tokenizer=stand_in()
    )
    return _finish(name, bridge, family, dtype, tokenizer)


def _finish(name: str, bridge: Any, family: Family, dtype: torch.dtype, words: Any) -> Model:
    bridge.requires_grad_(False)
    bridge.eval()
    if family.mlp == "experts" and dtype == torch.float64:
        bridge.original_model.set_experts_implementation("eager")  # torch's grouped product knows no float64
    if words is not None and (needed := words_of(words)) > (size := bridge.W_U.shape[1]):
        raise UnsupportedModel(
            f"the tokenizer of {name} has {needed:,} words and the model reads {size:,}: it is another model's. "
            "Put the one that the model was trained with in its place."
        )
    return Model(name, bridge, family, dtype, words)


def _family(name: str, architecture: str) -> Family:
    if architecture not in FAMILIES:
        raise UnsupportedModel(f"{name} is {architecture}; the families known are {', '.join(FAMILIES)}.")
    return FAMILIES[architecture]


def _native_family(name: str, config: Any) -> Family:
    """The family of a TransformerLens-native model, whose configuration says all."""
    if config.d_vocab_out not in (-1, config.d_vocab):
        raise UnsupportedModel(
            f"{name} reads {config.d_vocab} tokens and says {config.d_vocab_out} others: one vocabulary is wanted."
        )
    kind = (config.normalization_type or "").upper()
    sites = (NO_NORMS if not kind else {}) | (NO_MLP if config.attn_only else {})
    norm = "rms" if kind.startswith("RMS") else "layer"
    return Family(norm, mlp="none" if config.attn_only else "dense", sites=sites)


def _native_settings(folder: Path) -> dict[str, Any] | None:
    """The configuration of a TransformerLens-native model; None where the folder is one of transformers."""
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    native = isinstance(settings, dict) and {"n_layers", "d_model", "n_ctx", "d_head"} <= settings.keys()
    return settings if native and not settings.keys() & {"architectures", "model_type"} else None


def _boot_native(folder: Path, settings: dict[str, Any], place: torch.device, dtype: torch.dtype) -> tuple[Any, Family]:
    from safetensors.torch import load_file
    from transformer_lens.model_bridge.sources.native import boot
    from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint

    files = [each for end in ("safetensors", "pt", "pth") for each in sorted(folder.glob(f"*.{end}"))]
    if len(files) != 1:
        raise UnknownModel(f"one file of weights (.safetensors, .pt or .pth) is wanted, found {len(files)}")
    if files[0].suffix == ".safetensors":
        weights = load_file(files[0])
    else:
        weights = torch.load(files[0], map_location="cpu", weights_only=True)
    bridge = boot({**settings, "init_weights": False}, tokenizer=stand_in(), device=place, dtype=dtype)
    family = _native_family(str(folder), bridge.cfg)
    if any(key.endswith("W_E") for key in weights):  # as HookedTransformer named them
        weights = convert_tl_checkpoint(weights, bridge.cfg)
    weights.setdefault("unembed.bias", torch.zeros(bridge.cfg.d_vocab))
    bridge.load_state_dict(weights, strict=True)
    return bridge, family


def _folder(name: str) -> str | None:
    """Where a model's files are, None when it is to be looked up on the Hub."""
    if name in shipped_models():
        return str(SHIPPED / name / "model")
    return name if os.path.isfile(os.path.join(name, "config.json")) else None


def _fetched(name: str | Path, progress: Progress | None) -> str:
    """The folder of a model on the Hub, in its cache on this machine."""
    if os.path.exists(name):
        raise UnknownModel(f"{name} is no model: a folder with config.json and weights is wanted.")
    try:
        return str(fetch_model(str(name), progress=progress).folder)
    except NotFetched as reason:
        shipped = ", ".join(shipped_models())
        raise UnknownModel(
            f"there is no model {str(name)!r} here: not among the shipped ({shipped}), and no folder with config.json."
            f"{did_you_mean(str(name), shipped_models())} On the Hub: {reason}"
        ) from reason


def _whole_numbers(prompt: object) -> list[int]:
    wanted = "a prompt is text, or a list of token ids"
    if not isinstance(prompt, Iterable) or isinstance(prompt, bytes | Mapping):
        raise BadPrompt(f"{wanted}; found {prompt!r}.")
    ids = []
    for each in prompt:
        try:
            ids.append(None if isinstance(each, bool) else operator.index(each))
        except (TypeError, ValueError):
            ids.append(None)
        if ids[-1] is None:
            raise BadPrompt(f"{wanted}, which are whole numbers; found {each!r} in a list.")
    return ids


def _same(tensor: Tensor) -> Tensor:
    return tensor
