"""Trace, interpret, reverse: one module whose forward pass explains itself."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from onnxplain.contract.lrp_rules import RULES, checked_rules
from onnxplain.contract.outputs import ALWAYS, OUTPUTS, PASSES, POOLED, REDUCTIONS

from .layout import read_layout
from .passes import TABLE, Run, prepare, propagate, propagators
from .reductions import layer_outputs
from .reverse import MissingRuleError, require_rules
from .rules.products import FLOAT, INT8, Products
from .trace.capture import Trace, trace
from .trace.hidden import HiddenLayer, hidden_layers
from .trace.recomputed import Recomputed
from .trace.rewrite import GraphError, ancestors, interpret, shape_of
from .trace.uses import uses_of_weights
from .trace.widths import token_widths

ALL = tuple(name for name in PASSES if name != "attention")
"""The passes that can be left out: attention is always there."""


@dataclass(frozen=True)
class Derived:
    """An output that is computed from others.

    Attributes:
        needs: The names of these.
        function: (these by name, pixels, constants by name) -> the output; only PyTorch's functions of tensors.
    """

    needs: tuple[str, ...]
    function: Callable[[Mapping[str, Tensor], Tensor, Mapping[str, Tensor]], Tensor]


class FusedGraph(nn.Module):
    """Logits, attention and the backward passes of a traced model as one computation without autograd.

    Attributes:
        layout: Which token is what.
        layers: How many layers the outputs of attention have.
        heads: How many heads each of them has.
        tokens: How many tokens each of them attends over.
        pool_heads: The heads of the attention pool, 0 without one.
        token_width: Numbers of one token between the blocks.
        hidden_width: Numbers of one token where it is widest, as in the hidden layers of the blocks.
        passes: Those it computes beside attention.
        left_out: By name, passes that nobody asked for and the model's ops do not allow, and why.
        names: All outputs of ``forward``, in their order.
    """

    def __init__(
        self,
        model: nn.Module,
        traced: Trace,
        passes: Sequence[str] | None,
        rules: Mapping[str, float],
        products: Products,
    ) -> None:
        super().__init__()
        self.training = False  # not eval(), which would change the model's own flags; nothing here depends on them
        self.model = model
        self._trace = traced
        self._constants = [f"constant_{i}" for i in range(len(traced.constants))]
        for name, constant in zip(self._constants, traced.constants.values(), strict=True):
            self.register_buffer(name, constant.clone())
        self.layers = len(traced.layer_attention)
        self.heads: int = shape_of(traced.layer_attention[0])[1]
        self.tokens: int = shape_of(traced.layer_attention[0])[2]
        self.pool_heads: int = shape_of(traced.pool_attention)[1] if traced.pool_attention is not None else 0
        self.token_width, self.hidden_width = token_widths(traced)
        self._rules = rules
        self._propagators = propagators(traced, rules, products)
        self._derived: Mapping[str, Derived] = {}
        self._derived_constants: tuple[str, ...] = ()
        self._prepared: dict[str, Any] = {}
        self.left_out: dict[str, str] = {}
        for name in ("attention", *(ALL if passes is None else passes)):
            try:
                self._prepared[name] = prepare(name, traced, self._propagators)
            except (GraphError, MissingRuleError) as error:
                if passes is not None:
                    raise
                self.left_out[name] = str(error)
        self.passes = tuple(name for name in self._prepared if name != "attention")
        require_rules(
            traced,
            self._propagators["gradient"],
            traced.layer_attention[-1:],
            "search for the tokens that the head reads",
        )
        needed = ancestors(traced.logits)
        if any(TABLE[name].full_logits for name in self._prepared):
            needed |= ancestors(traced.full_logits)
        self._nodes = [node for node in traced.nodes if node in needed]
        derived = {**REDUCTIONS, **(POOLED if self.pool_heads else {})}
        self._computed = (
            *ALWAYS,
            *(PASSES[name].output for name in self._prepared),
            *(name for name, item in derived.items() if self._prepared.keys() >= set(item.passes)),
        )
        self.names = self._computed
        with torch.no_grad():
            noise = torch.randn(1, *shape_of(traced.pixels)[1:], generator=torch.Generator().manual_seed(0))
            self.layout = read_layout(traced, self._nodes, self._given(noise.to(next(model.parameters()))))

    def with_products(self, products: Products) -> FusedGraph:
        """A graph over the same weights that multiplies by those of linear layers in another way."""
        graph = copy.copy(self)
        graph._propagators = propagators(self._trace, self._rules, products)
        return graph

    @property
    def masked_bytes(self) -> int:
        """What reciprocam's masked features of one image take in float32, the least of what it needs; 0 without it."""
        if "reciprocam" not in self._prepared:
            return 0
        rows, columns = self.layout.patch_grid
        return 4 * rows * columns * self.tokens * int(shape_of(self._prepared["reciprocam"].features)[-1])

    @property
    def hidden_layers(self) -> list[HiddenLayer]:
        """Those of the model."""
        return hidden_layers(self._trace)

    @property
    def weight_uses(self) -> dict[str, set[int]]:
        """By the path of each weight in the model, for each use how many layers have computed attention before."""
        return uses_of_weights(self._trace)

    def _with_exact_constants(self) -> FusedGraph:
        """A graph over the same weights to compute in float64, whose constants are as the trace has them in full."""
        graph = copy.copy(self)
        graph._buffers = {
            name: buffer.double() if buffer.is_floating_point() else buffer
            for name, buffer in self.named_buffers(recurse=False)
        }
        for node, name in zip(self._trace.constants, self._constants, strict=True):
            if node in self._trace.exact:
                graph._buffers[name] = self._trace.exact[node].double()
        return graph

    def with_derived(self, outputs: Mapping[str, Derived], constants: Mapping[str, Tensor]) -> FusedGraph:
        """A graph over the same weights that gives these outputs by name, and beside them only those in ALWAYS.

        Args:
            outputs: How they are computed from those in ``names``.
            constants: Floating-point tensors for their functions, by names that no buffer of the graph has.
        """
        graph = copy.copy(self)
        graph._buffers = dict(self._buffers)
        for name, tensor in constants.items():
            graph.register_buffer(name, tensor)
        graph._derived, graph._derived_constants = outputs, tuple(constants)
        graph.names = (*ALWAYS, *outputs)
        return graph

    def forward(self, pixels: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Explain a batch.

        Args:
            pixels: [batch, 3, H, W], preprocessed, in the dtype of the model.
            target: int64 [batch, targets], class indices; -1 is the class with the greatest logit, -2 the runner-up,
                and so on.

        Returns:
            By name, in the order of ``names``: ``logits`` [batch, classes], ``class_index`` int64 [batch, targets], the
            class that each target stands for, ``attention`` [batch, layers, heads, tokens, tokens]; of the passes,
            ``attention_gradient``, ``relevance`` and ``layer_gradient`` [batch, targets, layers, heads, tokens,
            tokens], ``pixel_gradient`` [batch, targets, 3, H, W], ``pixel_relevance``, ``pixel_attnlrp`` and
            ``pixel_cp_lrp`` [batch, targets, H, W], ``reciprocam`` [batch, targets, h, w], ``features`` [batch,
            tokens, width]; and the reductions that these allow. With an attention pool those of POOLED as well, and
            ``layer_gradient`` is of the pool's attention, [batch, targets, layers, pool_heads, 1, tokens]; tokens that
            the pool does not see have zeros.
            After ``with_derived``, those that it names.
        """
        return self.compute(pixels, target, self.names)

    def compute(
        self, pixels: Tensor, target: Tensor, names: Collection[str], recompute: bool = False
    ) -> dict[str, Tensor]:
        """As ``forward``, but only the outputs in ``names``, and only what these need.

        Args:
            pixels: As for ``forward``.
            target: As for ``forward``.
            names: Some of ``self.names``, or of those that ``with_derived`` took their place of, in any order.
            recompute: Whether backward passes compute the values of each layer again: that takes one more forward pass
                for each propagator, and keeps the values of one layer in place of all.

        Returns:
            These outputs by name, those that others are derived from first.
        """
        derived = {name: item for name, item in self._derived.items() if name in names}
        asked, names = set(names), {*names, *(need for item in derived.values() for need in item.needs)}
        names -= derived.keys()
        values = self._recomputed(pixels) if recompute else self._interpret(pixels)
        logits = values[self._trace.logits]
        classes = class_index(target, logits)
        seed = one_hot(classes, logits)
        needed = set[str]().union(*(OUTPUTS[name].passes for name in names.difference(ALWAYS)))
        cotangents = propagate(needed, self._trace, self._propagators, values, seed)
        run = Run(self._trace, self.layout, values, seed, cotangents, self._propagators["gradient"])
        outputs = {"logits": logits, "class_index": classes}
        asked_for = [(name, prepared) for name, prepared in self._prepared.items() if name in needed]
        raw = {PASSES[name].output: TABLE[name].compute(run, prepared) for name, prepared in asked_for}
        layers = {name: tensors for name, tensors in raw.items() if "layers" in OUTPUTS[name].axes}
        layered = layer_outputs(
            self.layout, self.layers, layers, names, lambda name: 2 if OUTPUTS[name].per_target else 1
        )
        for name, tensor in layered.items():
            outputs[name] = tensor.transpose(0, 1) if OUTPUTS[name].per_target else tensor
        for name, tensors in raw.items():
            if name not in layers:  # backward passes come to the pixels last
                (outputs[name],) = tensors
        constants = {name: self.get_buffer(name) for name in self._derived_constants}
        outputs |= {name: item.function(outputs, pixels, constants) for name, item in derived.items()}
        return {name: outputs[name] for name in (*self._computed, *self._derived) if name in asked}

    def _interpret(self, pixels: Tensor) -> Mapping[fx.Node, Any]:
        """Run the traced forward pass and keep every value."""
        return interpret(self._nodes, self._given(pixels))

    def _recomputed(self, pixels: Tensor) -> Mapping[fx.Node, Any]:
        """Run the traced forward pass and keep what later layers read."""
        return Recomputed(self._nodes, self._given(pixels), {*self._trace.attention_nodes, self._nodes[-1]})

    def _given(self, pixels: Tensor) -> dict[fx.Node, Any]:
        """What the traced forward pass starts from: the images, weights and constants."""
        values: dict[fx.Node, Any] = {self._trace.pixels: pixels}
        for node, path in self._trace.weights.items():
            owner, _, name = path.rpartition(".")
            values[node] = getattr(self.model.get_submodule(owner), name).detach()  # nothing here uses autograd
        for node, name in zip(self._trace.constants, self._constants, strict=True):
            values[node] = self.get_buffer(name)
        return values


def fuse(
    model: nn.Module, example: Tensor, passes: Sequence[str] | None = None, alpha: float = RULES["alpha"],
    beta: float = RULES["beta"], gamma: float | None = None, gamma_conv: float | None = None,
    gamma_linear: float | None = None, gamma_attention: float | None = None, int8: bool = False,
    exact_constants: bool = False,
) -> FusedGraph:  # fmt: skip
    """Turn an image classifier into a graph that explains itself.

    Args:
        model: Any nn.Module that maps [batch, 3, H, W] to logits [batch, classes] through softmax attention over
            patches. It is not copied: the result computes with its parameters.
        example: [1, 3, H, W], in the dtype of the model; fixes height and width.
        passes: What ``forward`` computes beside logits and attention, names in PASSES; by default all that the model's
            ops allow, and ``left_out`` of the result says why others do not.
        alpha: Of Chefer's rule for linear layers (Bach et al. 2015, equation 60).
        beta: Of the same rule; alpha - beta is 1.
        gamma: Of AttnLRP's gamma rule, 0 for none: each of the following three, in place of them.
        gamma_conv: Of the gamma rule for convolutions.
        gamma_linear: Of the gamma rule for linear layers, but those of attention.
        gamma_attention: Of the gamma rule for the linear layers of attention: queries, keys, values and output. 0
            unless it or ``gamma`` is given, as in the published recipe for ViTs.
        int8: Whether backward passes multiply by the weights of linear layers in int8, see ``rules/products.py``.
        exact_constants: Whether what depends on weights alone is in float64, not rounded to float32, for a graph that
            is to compute in float64.

    Returns:
        The graph, in the dtype of the model.

    Raises:
        GraphError: The model is no such classifier.
        MissingRuleError: A pass asked for has no rule for one of the model's ops.
        OnnxplainError: The constants of the rules are not valid.
    """
    rules = checked_rules(alpha, beta, gamma, gamma_conv, gamma_linear, gamma_attention)
    graph = FusedGraph(model, trace(model, example, exact_constants), passes, rules, INT8 if int8 else FLOAT)
    return graph._with_exact_constants() if exact_constants else graph


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
