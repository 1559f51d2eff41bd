"""The language model: load it, tokenize for it, run it, read and change what passes through it.

The only file that imports transformer_lens, and it does so when a model is loaded, not before.
"""

from __future__ import annotations

import copy
import hashlib
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.errors import BadOption, BadPrompt, UnknownModel, UnsupportedModel
from circuits.families import FAMILIES, Family
from circuits.vocabulary import Vocabulary, has_tokenizer, has_words, stand_in

SHIPPED = Path(__file__).parent / "shipped"
DTYPES = {"float32": torch.float32, "float64": torch.float64}

# Our name for a place in the model -> the hook of TransformerLens 4 that fires there. Per layer unless it is in WHOLE.
SITES = {
    "attention_scale": "blocks.{}.ln1.hook_scale",
    "attention_post_scale": "blocks.{}.ln1_post.hook_scale",
    "mlp_scale": "blocks.{}.ln2.hook_scale",
    "mlp_post_scale": "blocks.{}.ln2_post.hook_scale",
    "pattern": "blocks.{}.attn.hook_pattern",
    "value": "blocks.{}.attn.v.hook_out",
    "mixed": "blocks.{}.attn.o.hook_in",
    "attention_output": "blocks.{}.hook_attn_out",
    "mlp_input": "blocks.{}.mlp.hook_in",
    "mlp_normalised": "blocks.{}.ln2.hook_normalized",
    "residual_mid": "blocks.{}.ln2.hook_in",
    "mlp_raw": "blocks.{}.mlp.hook_out",
    "mlp_output": "blocks.{}.hook_mlp_out",
}
WHOLE = {
    "token_embedding": "embed.hook_out",
    "position_embedding": "pos_embed.hook_out",
    "final_scale": "ln_final.hook_scale",
    "logits": "unembed.hook_out",
}

Site = tuple[str, int]  # (name, layer); the layer of a WHOLE site is 0
Edit = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Norm:
    """The affine part of a norm. gain, bias: [d_model]; bias is None where the norm has none."""

    gain: Float[Tensor, "d_model"]
    bias: Float[Tensor, "d_model"] | None


@dataclass(frozen=True, eq=False)
class Block:
    """The weights of one layer that a frozen model needs; biases are None where the model has none.

    W_V [kv_head d_model d_head], W_O [head d_head d_model], b_V [kv_head d_head], b_O [d_model].
    W_gate, W_in [d_model neuron], W_out [neuron d_model], b_gate, b_in [neuron], b_out [d_model]; W_gate is None where
    the MLP has no gate. W_in of a gated MLP is the one whose output is not passed through the activation.
    Norms: before attention, after it, before the MLP, after it; None where the family has none.
    """

    W_V: Tensor
    W_O: Tensor
    b_V: Tensor | None
    b_O: Tensor | None
    W_gate: Tensor | None
    W_in: Tensor
    W_out: Tensor
    b_gate: Tensor | None
    b_in: Tensor | None
    b_out: Tensor | None
    attention_norm: Norm
    attention_post_norm: Norm | None
    mlp_norm: Norm
    mlp_post_norm: Norm | None


@dataclass(frozen=True, eq=False)
class AttentionScores:
    """How one layer's heads come to their patterns.

    W_Q [head d_model d_head], W_K [kv_head d_model d_head]; biases b_Q [head d_head], b_K [kv_head d_head] or None.
    query_norm, key_norm: gain of an RMS norm on every head's queries and keys [d_head], or None.
    scale: of the scores; cap: their soft cap or None; window: how many keys back a query sees, None for all.
    rotation: the model's own function from (a tensor of the dtype wanted, positions) to cosines and sines, or None.
    """

    W_Q: Tensor
    W_K: Tensor
    b_Q: Tensor | None
    b_K: Tensor | None
    query_norm: Tensor | None
    key_norm: Tensor | None
    scale: float
    cap: float | None
    window: int | None
    rotation: Callable[[Tensor, Tensor], Any] | None


class Model:
    """A decoder-only transformer, loaded once, ready to be run and read. Made by `load_model`.

    name: what the user called it. layers, d_model, heads, vocabulary, context: its sizes.
    parallel: attention and MLP of a layer read the same residual stream (Pythia).
    activation: the MLP's activation function, by its Hugging Face name.
    device, dtype: where and in what it computes.
    """

    def __init__(self, name: str, bridge: Any, family: Family, dtype: torch.dtype) -> None:
        config = bridge.cfg
        self.name = name
        self.family = family
        self.layers: int = config.n_layers
        self.d_model: int = config.d_model
        self.heads: int = config.n_heads
        self.vocabulary: int = config.d_vocab
        self.context: int = config.n_ctx
        self.neurons: int = config.d_mlp
        self.activation: str = config.act_fn
        self.parallel = bool(config.parallel_attn_mlp)
        self.learned_positions = config.positional_embedding_type == "standard"
        self.dtype = dtype
        self.device = bridge.W_U.device
        self.words = Vocabulary(name, self.vocabulary, bridge.tokenizer if has_words(bridge.tokenizer) else None)
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
    ) -> tuple[Float[Tensor, "batch pos vocab"], dict[Site, Tensor]]:
        """The logits before any soft cap, and what passed through the sites asked for.

        read: sites whose tensors are wanted, each [batch pos ...]; see SITES.
        edit: for a site, a function from the tensor passing there to a new one. An edited site is read after its edit.
        past: keys and values of what came before these tokens, from `remember`; these tokens' own are added to it.
        """
        found: dict[Site, Tensor] = {}
        edit = edit or {}

        def hook_for(site: Site) -> Callable[..., Tensor]:
            change = edit.get(site)

            def hook(tensor: Tensor, hook: Any) -> Tensor:
                if change is not None:
                    tensor = change(tensor)
                found[site] = tensor
                return tensor

            return hook

        wanted = dict.fromkeys([*edit, *read, ("logits", 0)])
        hooks = [(_hook_name(site), hook_for(site)) for site in wanted]
        before = {} if past is None else {"past_key_values": past, "use_cache": True}
        self._bridge.run_with_hooks(tokens, fwd_hooks=hooks, **before)
        return found[("logits", 0)], found

    def remember(self) -> Any:
        """An empty memory of keys and values, for `run(past=...)`: each call goes on where the last one stopped."""
        from transformers import DynamicCache

        return DynamicCache(config=self._bridge.original_model.config)

    def probabilities(self, logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
        """What the model would say: its soft cap, then softmax."""
        cap = getattr(self._bridge.cfg, "output_logits_soft_cap", None)
        if cap and cap > 0:
            logits = cap * torch.tanh(logits / cap)
        return logits.softmax(-1)

    # -- weights ------------------------------------------------------------------------------------------------------

    @cached_property
    def blocks(self) -> list[Block]:
        """The weights of every layer."""
        return [self._block(block) for block in self._bridge.blocks]

    @cached_property
    def final_norm(self) -> Norm:
        """The norm before the unembedding."""
        return self._norm(self._bridge.ln_final)

    @cached_property
    def W_U(self) -> Float[Tensor, "d_model vocab"]:
        """The unembedding."""
        return self._bridge.W_U.detach()

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
        return self._bridge.pos_embed.W_pos.detach() if self.learned_positions else None

    def attention_scores(self, layer: int) -> AttentionScores:
        """How the heads of a layer come to their patterns."""
        bridge, config = self._bridge.blocks[layer].attn, self.network.config
        module = bridge._original_component
        window = getattr(module, "sliding_window", getattr(config, "sliding_window", None))
        if getattr(config, "attention_layers", None):
            window = config.window_size if config.attention_layers[layer] == "local" else None
        rotation = getattr(self.network.base_model, "rotary_emb", None)
        if getattr(rotation, "layer_types", None):  # one table for each kind of layer
            rotation = partial(rotation, layer_type=module.layer_type)
        unscaled = self.network.config.model_type == "gpt_neo"
        return AttentionScores(
            W_Q=bridge.W_Q.detach(),
            W_K=bridge.W_K.detach(),
            b_Q=_maybe(bridge, "b_Q"),
            b_K=_maybe(bridge, "b_K"),
            query_norm=self._norm(bridge.q_norm).gain if hasattr(bridge, "q_norm") else None,
            key_norm=self._norm(bridge.k_norm).gain if hasattr(bridge, "k_norm") else None,
            scale=1.0 if unscaled else module.scaling,
            cap=getattr(config, "attn_logit_softcapping", None),
            window=window,
            rotation=rotation,
        )

    @cached_property
    def content_hash(self) -> str:
        """Twelve hex digits that change when any weight changes."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._bridge.original_model.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
        return digest.hexdigest()[:12]

    def shuffled(self, seed: int) -> Model:
        """A copy with the numbers of each weight in any order: as large and as wide as this one, and knowing nothing."""
        bridge = copy.deepcopy(self._bridge)
        numbers, done = torch.Generator().manual_seed(seed), set()
        for weight in bridge.original_model.parameters():
            if weight.data_ptr() not in done:  # tied weights are one
                done.add(weight.data_ptr())
                order = torch.randperm(weight.numel(), generator=numbers).to(weight.device)
                weight.data.copy_(weight.data.flatten()[order].view_as(weight))
        return Model(f"{self.name}, shuffled", bridge, self.family, self.dtype)

    def _block(self, block: Any) -> Block:
        attention, mlp = block.attn, block.mlp
        return Block(
            W_V=attention.W_V.detach(),
            W_O=attention.W_O.detach(),
            b_V=_maybe(attention, "b_V"),
            b_O=_maybe(attention, "b_O"),
            W_gate=_maybe(mlp, "W_gate"),
            W_in=mlp.W_in.detach(),
            W_out=mlp.W_out.detach(),
            b_gate=_maybe(mlp, "b_gate"),
            b_in=_maybe(mlp, "b_in"),
            b_out=_maybe(mlp, "b_out"),
            attention_norm=self._norm(block.ln1),
            attention_post_norm=self._norm(block.ln1_post) if self.family.post_norms else None,
            mlp_norm=self._norm(block.ln2),
            mlp_post_norm=self._norm(block.ln2_post) if self.family.post_norms else None,
        )

    def _norm(self, norm: Any) -> Norm:
        return Norm(norm.w.detach().to(self.dtype) + self.family.gain_offset, _maybe(norm, "b"))


def load_model(name: str | Path, *, device: str = "auto", dtype: str = "float32") -> Model:
    """A model by shipped name ("world"), local folder, or Hub id.

    device: "auto" (a GPU where there is one), or what torch calls it. dtype: "float32" or "float64".

    Raises:
        UnknownModel: nothing by that name can be loaded.
        UnsupportedModel: its architecture is not in `circuits.families.FAMILIES`.
    """
    if not isinstance(name, str | Path) or name == "":
        raise UnknownModel(f"a model is named by a shipped name, a folder or a Hub id, found {name!r}.")
    if dtype not in tuple(DTYPES):
        raise BadOption(f"dtype must be one of {', '.join(DTYPES)}, found {dtype!r}.")
    place = find_device(device)
    where = _folder(str(name))
    if where is None and os.path.exists(name):
        raise UnknownModel(f"{name} is no model: a folder with config.json and weights is wanted.")
    try:
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(where or str(name))
    except Exception as reason:
        raise UnknownModel(_not_found(str(name), where, reason)) from reason
    architecture = (config.architectures or ["an unnamed architecture"])[0]
    if architecture not in FAMILIES:
        raise UnsupportedModel(f"{name} is {architecture}; the families known are {', '.join(FAMILIES)}.")

    from transformer_lens.model_bridge import TransformerBridge

    wordless = None if where is None or has_tokenizer(Path(where)) else stand_in()
    try:
        bridge = TransformerBridge.boot_transformers(
            str(where or name), device=str(place), dtype=DTYPES[dtype], tokenizer=wordless
        )
    except Exception as reason:
        raise UnknownModel(_not_found(str(name), where, reason)) from reason
    bridge.requires_grad_(False)
    bridge.eval()
    # A graph keeps the name: whoever reads it may stand in another folder.
    called = str(name) if where is None or str(name) in shipped_models() else os.path.abspath(where)
    return Model(called, bridge, FAMILIES[architecture], DTYPES[dtype])


def shipped_models() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(folder.parent.name for folder in SHIPPED.glob("*/model"))


def find_device(name: str) -> torch.device:
    """The device called `name`; "auto" is a GPU where there is one, else the CPU.

    Raises:
        BadOption: torch knows no such device, or this machine has none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(str(name))
    except RuntimeError:
        raise BadOption(f"torch knows no device {name!r}: auto, cpu, cuda or cuda:1 are wanted.") from None
    try:
        (torch.ones(2, device=device) + 1).sum().item()  # "meta" makes tensors, and has no numbers to give back
    except Exception as reason:
        short = (str(reason).strip() or type(reason).__name__).splitlines()[0].split(". ")[0]
        raise BadOption(f"device {name!r} cannot be used here ({short[:100]}): try auto or cpu.") from None
    return device


def _folder(name: str) -> str | None:
    """Where a model's files are, None when it is to be looked up on the Hub."""
    if name in shipped_models():
        return str(SHIPPED / name / "model")
    if os.path.isfile(os.path.join(name, "config.json")):
        return name
    return None


def _not_found(name: str, where: str | None, reason: Exception) -> str:
    first_line = (str(reason).strip() or type(reason).__name__).splitlines()[0]
    if where is not None:
        return f"the model in {where} cannot be loaded: {first_line}"
    offline = " The Hub is switched off (HF_HUB_OFFLINE)." if os.environ.get("HF_HUB_OFFLINE") else ""
    return (
        f"there is no model {name!r}: not among the shipped ({', '.join(shipped_models()) or 'none'}), "
        f"not a folder with config.json, and the Hub did not give it ({first_line[:200]}).{offline}"
    )


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


def _hook_name(site: Site) -> str:
    name, layer = site
    return WHOLE[name] if name in WHOLE else SITES[name].format(layer)


def _maybe(module: Any, name: str) -> Tensor | None:
    """A weight that some families lack: None or an AttributeError both mean it is not there."""
    try:
        weight = getattr(module, name)
    except AttributeError:
        return None
    return None if weight is None else weight.detach()
