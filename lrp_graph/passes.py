"""How each pass of the contract is computed: one row for each, which FusedGraph checks and runs in one loop.

Passes can share a backward pass. The gradients with respect to the attention matrices and to the pixels, say, are
cotangents that one propagation meets on its way. So a row names the propagation that it reads as data, and each
propagator runs once, to all nodes at which the passes asked for read it. The rest of a pass stands in its functions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, fx

from onnxplain.contract.outputs import PASSES

from .layout import Layout
from .outputs.features import token_features
from .outputs.legrad import layer_gradients
from .outputs.reciprocam import LastBlock, last_block, reciprocam
from .outputs.streams import embedding, residual_stream
from .reverse import Propagator, require_rules, reverse_each
from .rules.attnlrp import attnlrp
from .rules.chefer import chefer, stem
from .rules.products import Products
from .rules.vjp import gradient
from .trace.capture import Trace
from .trace.projections import attention_projections


@dataclass(frozen=True)
class Backward:
    """A propagator, by name, and the nodes to which it carries cotangents: all attention matrices, or the pixels."""

    propagator: str
    to: Literal["attention", "pixels"]

    def nodes(self, trace: Trace) -> tuple[fx.Node, ...]:
        """The nodes themselves."""
        return trace.attention_nodes if self.to == "attention" else (trace.pixels,)


@dataclass(frozen=True)
class Run:
    """What passes compute with, for one batch.

    Attributes:
        trace: The model's graph.
        layout: Which token is what.
        values: The result of every node in the forward pass.
        seed: [targets, batch, classes], 1 at the class of each target.
        cotangents: For each Backward what is propagated to its nodes, the last first, [targets, *node.shape] each:
            computed when it is taken, so that a layer's need not be there any more when the next one's are.
        gradient: The propagator of gradients.
    """

    trace: Trace
    layout: Layout
    values: Mapping[fx.Node, Any]
    seed: Tensor
    cotangents: Mapping[Backward, Iterator[Tensor]]
    gradient: Propagator


def _nothing(trace: Trace) -> None:
    """What most passes prepare."""


@dataclass(frozen=True)
class Pass:
    """One pass; its name and its output stand in the contract's PASSES.

    Attributes:
        compute: (run, prepared) -> the raw output. If it has an axis of layers, one tensor for each of them, the last
            first, [targets, batch, …] where the contract says ``per_target``, else [batch, …]; if it has none, a single
            tensor [batch, targets, …]. They are computed when they are taken.
        prepare: trace -> what ``compute`` has to know of the graph. Raises GraphError or MissingRuleError where the
            model's ops do not allow the pass.
        backward: The propagation that ``compute`` reads, for which the propagator must have all rules.
        full_logits: Whether it needs the values of every token in the last block.
    """

    compute: Callable[[Run, Any], Iterator[Tensor]]
    prepare: Callable[[Trace], Any] = _nothing
    backward: Backward | None = None
    full_logits: bool = False


def _at_attention(propagator: str) -> Pass:
    """The cotangents of all attention matrices."""
    backward = Backward(propagator, "attention")
    return Pass(lambda run, _: run.cotangents[backward], backward=backward)


def _at_pixels(propagator: str, finish: Callable[[Tensor, Tensor], Tensor]) -> Pass:
    """``finish(cotangent, pixels)`` of the pixels' cotangent [targets, batch, 3, H, W]."""
    backward = Backward(propagator, "pixels")

    def compute(run: Run, _: None) -> Iterator[Tensor]:
        for cotangent in run.cotangents[backward]:
            yield finish(cotangent, run.values[run.trace.pixels]).transpose(0, 1)

    return Pass(compute, backward=backward)


def _unchanged(cotangent: Tensor, pixels: Tensor) -> Tensor:
    return cotangent


def _summed_over_channels(cotangent: Tensor, pixels: Tensor) -> Tensor:
    return cotangent.sum(2)


def _times_pixels(cotangent: Tensor, pixels: Tensor) -> Tensor:
    return (cotangent * pixels).sum(2)


def _layer_streams(trace: Trace) -> tuple[fx.Node, ...]:
    require_rules(trace, Propagator(gradient()), trace.attention_nodes, "layer_gradient pass")
    return residual_stream(trace)


def _reciprocam(run: Run, block: LastBlock) -> Iterator[Tensor]:
    yield reciprocam(run.trace, block, run.values, run.seed, run.layout)


TABLE: dict[str, Pass] = {
    "attention": Pass(lambda run, _: (run.values[node] for node in reversed(run.trace.attention_nodes))),
    "gradient": _at_attention("gradient"),
    "relevance": _at_attention("chefer"),
    "layer_gradient": Pass(
        lambda run, stream: layer_gradients(run.trace, stream, run.values, run.seed, run.gradient),
        _layer_streams,
        full_logits=True,
    ),
    "pixel_gradient": _at_pixels("gradient", _unchanged),
    "pixel_relevance": _at_pixels("chefer", _summed_over_channels),
    "pixel_attnlrp": _at_pixels("attnlrp", _times_pixels),
    "pixel_cp_lrp": _at_pixels("cp_lrp", _times_pixels),
    "reciprocam": Pass(
        _reciprocam, last_block
    ),
    "features": Pass(lambda run, node: iter((run.values[node],)), token_features, full_logits=True),
}  # fmt: skip
"""By the name of the pass."""

FORWARD_ONLY = {"attention", "reciprocam", "features"}
"""The passes that compute nothing back from the logits."""

assert TABLE.keys() == PASSES.keys()
_read = [item.backward for item in TABLE.values() if item.backward is not None]
assert len(_read) == len(set(_read)), "cotangents are taken by one pass alone"


def propagators(trace: Trace, rules: Mapping[str, float], products: Products) -> dict[str, Propagator]:
    """Those that the table names, for these constants of the rules and these products with weights."""
    alpha, beta, convolutions = rules["alpha"], rules["beta"], rules["gamma_conv"]
    by_attnlrp = Propagator(attnlrp(convolutions, rules["gamma_linear"], products))
    if rules["gamma_attention"] != rules["gamma_linear"]:
        of_attention = attnlrp(convolutions, rules["gamma_attention"], products)
        by_attnlrp = replace(by_attnlrp, special=of_attention, special_nodes=attention_projections(trace))
    return {
        "gradient": Propagator(gradient(products)),
        "chefer": Propagator(chefer(alpha, beta, products), stem(alpha, beta, products), embedding(trace)),
        "attnlrp": by_attnlrp,
        "cp_lrp": replace(by_attnlrp, constant=frozenset(trace.attention_nodes)),
    }


def prepare(name: str, trace: Trace, available: Mapping[str, Propagator]) -> Any:
    """Check what the pass ``name`` requires, and return what its ``compute`` takes.

    Raises:
        GraphError: The model has not the structure that the pass needs.
        MissingRuleError: An op has no rule.
    """
    backward = TABLE[name].backward
    if backward is not None:
        require_rules(trace, available[backward.propagator], backward.nodes(trace), f"{name} pass")
    return TABLE[name].prepare(trace)


def propagate(
    names: Collection[str],
    trace: Trace,
    available: Mapping[str, Propagator],
    values: Mapping[fx.Node, Any],
    seed: Tensor,
) -> dict[Backward, Iterator[Tensor]]:
    """The cotangents that the passes ``names`` read, see Run, from one propagation for each propagator."""
    found: dict[Backward, Iterator[Tensor]] = {}
    reads = dict.fromkeys(item for name in TABLE if name in names and (item := TABLE[name].backward) is not None)
    for propagator, rules in available.items():
        shared = [item for item in reads if item.propagator == propagator]
        if shared:
            ends = [node for item in shared for node in item.nodes(trace)]
            steps = reverse_each(trace, values, trace.logits, seed, rules, ends)
            waiting: dict[fx.Node, Tensor] = {}
            found |= {item: _taken(reversed(item.nodes(trace)), steps, waiting) for item in shared}
    return found


def _taken(
    nodes: Iterator[fx.Node], steps: Iterator[tuple[fx.Node, Tensor]], waiting: dict[fx.Node, Tensor]
) -> Iterator[Tensor]:
    """The cotangents of these nodes; ``waiting`` has those that came on the way and that another has yet to take."""
    for node in nodes:
        while node not in waiting:
            waiting.update([next(steps)])
        yield waiting.pop(node)
