"""Trace, interpret, reverse: one module whose forward pass explains itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from onnxplain.contract.metadata import RULES
from onnxplain.contract.outputs import ALWAYS, OUTPUTS, PASSES, REDUCTIONS

from .layout import read_layout
from .outputs.layers import embedding, last_block, layer_gradients, reciprocam, require_stream, residual_stream
from .reductions import layer_outputs, pool_outputs, raw_inputs
from .reverse import MissingRuleError, Walk, require_rules, reverse
from .rules.attnlrp import attnlrp
from .rules.chefer import chefer, stem
from .rules.vjp import GRADIENT
from .trace.capture import Trace, trace
from .trace.hidden import HiddenLayer, hidden_layers
from .trace.rewrite import GraphError, ancestors, interpret, shape_of

ALL = tuple(name for name in PASSES if name != "attention")
"""The passes that can be left out: attention is always there."""


@dataclass(frozen=True)
class _Way:
    """One walk from the logits, and the outputs that its shares of attention and pixels become, the latter finished."""

    walk: Walk
    attention: str = ""
    pixels: str = ""
    finish: Callable[[Tensor, Tensor], Tensor] = lambda share, pixels: share


def _over_channels(share: Tensor, pixels: Tensor) -> Tensor:
    return share.sum(2)


def _times_pixels(share: Tensor, pixels: Tensor) -> Tensor:
    return (share * pixels).sum(2)


class FusedGraph(nn.Module):
    """Logits, attention and the reverse passes of a traced model as one computation without autograd.

    layout: see Layout. layers, heads, tokens: of the attention outputs. pool_heads: of the attention pool, 0 without.
    passes: beside attention, those it computes. left_out: those that nobody asked for and the model's ops do not allow,
    and why. names: of all outputs of ``forward``.
    """

    def __init__(
        self, model: nn.Module, traced: Trace, passes: Sequence[str] | None, alpha: float, beta: float, gamma: float
    ) -> None:
        super().__init__()
        self.training = False  # not eval(), which would change the model's own flags; nothing here depends on them
        self.model = model
        self._trace = traced
        self._constants = [f"constant_{i}" for i in range(len(traced.constants))]
        for name, constant in zip(self._constants, traced.constants.values(), strict=True):
            self.register_buffer(name, constant.clone())
        self.layers = len(traced.sites)
        self.heads: int = shape_of(traced.sites[0])[1]
        self.tokens: int = shape_of(traced.sites[0])[2]
        self.pool_heads: int = shape_of(traced.pool)[1] if traced.pool is not None else 0
        sites = frozenset(traced.attention)
        relevance = Walk(chefer(alpha, beta), stem(alpha, beta), embedding(traced))
        self._ways = (
            _Way(Walk(GRADIENT), "attention_gradient", "pixel_gradient"),
            _Way(relevance, "relevance", "pixel_relevance", _over_channels),
            _Way(Walk(attnlrp(gamma)), "", "pixel_attnlrp", _times_pixels),
            _Way(Walk(attnlrp(gamma), constant=sites), "", "pixel_cp_lrp", _times_pixels),
        )
        self.left_out: dict[str, str] = {}
        for name in ALL if passes is None else passes:
            try:
                self._require(name)
            except (GraphError, MissingRuleError) as error:
                if passes is not None:
                    raise
                self.left_out[name] = str(error)
        require_rules(traced, Walk(GRADIENT), traced.sites[-1:], "search for the tokens that the head reads")
        self.passes = tuple(name for name in (ALL if passes is None else passes) if name not in self.left_out)
        raw = ["attention", *(PASSES[name].output for name in self.passes)]
        needed = ancestors(traced.logits) | (ancestors(traced.whole) if "layer_gradient" in raw else set())
        self._nodes = [node for node in traced.nodes if node in needed]
        self._stream = residual_stream(traced) if "layer_gradient" in raw else ()
        self._block = last_block(traced) if "reciprocam" in raw else None
        reduced = [name for name, reduction in REDUCTIONS.items() if set(raw).issuperset(raw_inputs(reduction))]
        pool = pool_outputs({*raw, *reduced}) if self.pool_heads else []
        self.names = (*ALWAYS, *raw, *reduced, *pool)
        with torch.no_grad():
            noise = torch.randn(1, *shape_of(traced.pixels)[1:], generator=torch.Generator().manual_seed(0))
            self.layout = read_layout(traced, self._interpret(noise.to(next(model.parameters()))))

    @property
    def masked_bytes(self) -> int:
        """What reciprocam's masked features of one image take in float32, the least of what it needs; 0 without it."""
        if self._block is None:
            return 0
        rows, columns = self.layout.patch_grid
        return 4 * rows * columns * self.tokens * int(shape_of(self._block.features)[-1])

    @property
    def hidden_layers(self) -> list[HiddenLayer]:
        """Those of the model."""
        return hidden_layers(self._trace)

    def forward(self, pixels: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Explain a batch.

        pixels: [batch, 3, H, W], preprocessed. target: int64 [batch, targets], class indices; -1 is the class with the
        greatest logit, -2 the runner-up, and so on.
        Returns ``logits`` [batch, classes], ``class_index`` int64 [batch, targets], the class that each target stands
        for, ``attention`` [batch, layers, heads, tokens, tokens]; of the passes,
        ``attention_gradient``, ``relevance`` and ``layer_gradient`` [batch, targets, layers, heads, tokens, tokens],
        ``pixel_gradient`` [batch, targets, 3, H, W], ``pixel_relevance``, ``pixel_attnlrp`` and ``pixel_cp_lrp``
        [batch, targets, H, W], ``reciprocam`` [batch, targets, h, w]; and the reductions that these allow. With an
        attention pool the outputs of ``pool_outputs`` as well, and ``layer_gradient`` is of the pool's attention,
        [batch, targets, layers, pool_heads, 1, tokens]; there are zeros for tokens that the pool does not see.
        """
        return self.compute(pixels, target, self.names)

    def compute(self, pixels: Tensor, target: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """As forward, but only the outputs in ``names``, in the order of ``self.names``, and only what these need."""
        names = set(names)
        values = self._interpret(pixels)
        logits = values[self._trace.logits]
        classes = class_index(target, logits)
        seed = one_hot(classes, logits)
        needed = set[str]().union(*(raw_inputs(OUTPUTS[name]) for name in names.difference(ALWAYS)))
        layers: dict[str, Sequence[Tensor]] = {"attention": [values[site] for site in self._trace.attention]}
        outputs = {"logits": logits, "class_index": classes}
        for way in self._ways:
            ends = [way.attention in needed, way.pixels in needed]
            wanted = [*(self._trace.attention if ends[0] else ()), *([self._trace.pixels] if ends[1] else ())]
            shares = reverse(self._trace, values, self._trace.logits, seed, way.walk, wanted) if wanted else []
            if ends[1]:
                outputs[way.pixels] = way.finish(shares.pop(), pixels).transpose(0, 1)
            if ends[0]:
                layers[way.attention] = shares
        if "layer_gradient" in needed:
            layers["layer_gradient"] = layer_gradients(self._trace, self._stream, values, seed)
        if self._block is not None and "reciprocam" in needed:
            outputs["reciprocam"] = reciprocam(self._trace, self._block, values, seed, self.layout)
        once = {name for name, item in OUTPUTS.items() if not item.per_target}
        layered = layer_outputs(self.layout, layers, names, lambda name: 1 if name in once else 2)
        for name, tensor in layered.items():
            outputs[name] = tensor if name in once else tensor.transpose(0, 1)
        return {name: outputs[name] for name in self.names if name in names}

    def _require(self, name: str) -> None:
        """Raise MissingRuleError or GraphError if the model's ops do not allow this pass."""
        pixels, attention = [self._trace.pixels], self._trace.attention
        ends: dict[str, tuple[Walk, Sequence[fx.Node]]] = {"layer_gradient": (Walk(GRADIENT), attention)}
        for way in self._ways:
            ends |= {way.attention: (way.walk, attention), way.pixels: (way.walk, pixels)}
        output = PASSES[name].output
        if output in ends:
            require_rules(self._trace, *ends[output], f"{name} pass")
        if name == "layer_gradient":
            residual_stream(self._trace)
        if name == "reciprocam":
            require_stream(self._trace)

    def _interpret(self, pixels: Tensor) -> dict[fx.Node, Any]:
        """Run the traced forward pass and keep every value."""
        values: dict[fx.Node, Any] = {self._trace.pixels: pixels}
        for node, path in self._trace.weights.items():
            owner, _, name = path.rpartition(".")
            values[node] = getattr(self.model.get_submodule(owner), name).detach()  # nothing here uses autograd
        for node, name in zip(self._trace.constants, self._constants, strict=True):
            values[node] = self.get_buffer(name)
        return interpret(self._nodes, values)


def fuse(
    model: nn.Module, example: Tensor, passes: Sequence[str] | None = None, alpha: float = RULES["alpha"],
    beta: float = RULES["beta"], gamma: float = RULES["gamma"],
) -> FusedGraph:  # fmt: skip
    """Turn an image classifier into a graph that explains itself.

    model: any nn.Module that maps [batch, 3, H, W] to logits [batch, classes] through softmax attention over patches.
        It is not copied: the result computes with its parameters.
    example: [1, 3, H, W], in the dtype of the model; fixes height and width.
    passes: what forward computes beside logits and attention, names in PASSES; by default all that the model's ops
        allow, and ``left_out`` of the result says why others do not.
    alpha, beta: of Chefer's rule for linear layers; alpha - beta is 1. gamma: of AttnLRP's.
    Raises GraphError if the model is no such classifier, MissingRuleError if a pass asked for has no rule for one of
    its ops, ValueError for other constants.
    """
    if not math.isclose(alpha - beta, 1) or beta < 0 or gamma < 0:
        raise ValueError(
            f"alpha - beta must be 1 and beta and gamma not negative, got alpha {alpha}, beta {beta}, gamma {gamma}"
        )
    return FusedGraph(model, trace(model, example), passes, alpha, beta, gamma)


def class_index(target: Tensor, logits: Tensor) -> Tensor:
    """The class that each target stands for, int64 [batch, targets].

    A target of 0 or more is the class itself; -1 is the class with the greatest logit, -2 the runner-up, and so on. Of
    equal logits the one with the lower index leads. Ranks beyond the number of classes are the last.
    """
    ranking = logits.sort(dim=1, descending=True, stable=True).indices
    rank = (-1 - target).clamp(0, logits.shape[1] - 1)
    return torch.where(target < 0, ranking.gather(1, rank), target)


def one_hot(classes: Tensor, logits: Tensor) -> Tensor:
    """What backward passes start from, [targets, batch, classes]: 1 at each class of ``classes``, 0 elsewhere."""
    columns = torch.arange(logits.shape[1], device=logits.device)
    return (columns == classes.mT.unsqueeze(-1)).to(logits.dtype)
