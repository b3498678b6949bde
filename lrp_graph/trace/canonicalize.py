"""The canonical form of a graph: what models write in several ways is written in one, so that one rule is enough.

``ExportedProgram.run_decompositions`` can make a graph functional as well, but it traces the model a second time, which
takes as long as the first (0.8 to 3.6 s for what takes 0.1 to 0.6 s here). It also writes assignments to parts as
``slice_scatter``, ``select_scatter`` and ``copy``, for which every table would need rules, and leaves attention fused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from ..torch_internals import is_mutable, returns_view, traced_length
from .rewrite import GraphError, ancestors, call, interpret, shape_of, target_of

aten = torch.ops.aten

Node = Any
"""An fx.Node; fx types the arguments of a node so widely that none could be used without a cast."""

Rewrite = Callable[[fx.Graph, Node], fx.Node | None]
"""(graph, node) -> what replaces the node, inserted before it; None where the node stays."""


def canonicalize(graph: fx.Graph) -> None:
    """Write attention out and in-place ops as their functional forms, and drop calls that change nothing.

    Raises:
        GraphError: An in-place op, or attention with a causal or boolean mask, cannot be written so.
    """
    for node in list(graph.nodes):
        rewrite = REWRITES.get(target_of(node)) if node.op == "call_function" else None
        if rewrite is not None:
            with graph.inserting_before(node):
                new = rewrite(graph, node)
            if new is not None:
                node.replace_all_uses_with(new)
                graph.erase_node(node)
        elif node.op == "call_function" and _is_in_place(node):
            _functionalise(graph, node)
    _erase_no_ops(graph)


def _is_in_place(node: fx.Node) -> bool:
    return is_mutable(node.target) and target_of(node) is not aten.detach_


def _functionalise(graph: fx.Graph, node: Node) -> None:
    """Replace an in-place op, as in ``x.relu_()`` or ``x[1:] = y``: whoever reads x later reads the result.

    Raises GraphError where another view of the same memory is read later, which would show what was there before.
    """
    order = list(graph.nodes)
    place = order.index(node)
    later = set(order[place + 1 :])
    changed = node.args[0]
    stale = _other_views(changed, order[:place])
    with graph.inserting_before(node):
        new = _copied(graph, node) if target_of(node) is aten.copy_ else _functional(graph, node)
        node.replace_all_uses_with(new)
        while True:  # first the value that is changed, then what it is a part of, and so on
            changed.replace_all_uses_with(new, delete_user_cb=later.__contains__)
            stale.discard(changed)
            if target_of(changed) not in (aten.select, aten.slice):
                break
            new = _with_part_replaced(graph, changed, new)
            changed = changed.args[0]
    if any(not later.isdisjoint(view.users) for view in stale):
        raise GraphError(f"{node.name} changes a value in place of which another view is read, which is not supported")
    graph.erase_node(node)


def _other_views(changed: Node, nodes: list[fx.Node]) -> set[fx.Node]:
    """Those of ``nodes`` that share memory with ``changed``; two true parts of one value are taken not to overlap."""
    base = changed
    while is_view(base):
        base = base.args[0]
    sizes = {base: math.prod(map(traced_length, shape_of(base)))}
    for node in nodes:
        if is_view(node) and node.args[0] in sizes:
            sizes[node] = math.prod(map(traced_length, shape_of(node)))
    if sizes[changed] == sizes[base]:
        return sizes.keys() - {changed}
    return {node for node, size in sizes.items() if size == sizes[base]}


def is_view(node: fx.Node) -> bool:
    """Whether its result is a view of its argument: the same memory in another shape, or a part of it."""
    return returns_view(node.target)


def _functional(graph: fx.Graph, node: Node) -> fx.Node:
    """The call of the op that returns what the in-place op ``node`` writes."""
    name, _, overload = node.target.__name__.partition(".")  # as in "relu_.default"
    op = getattr(getattr(aten, name.removesuffix("_"), None), overload, None)
    if op is None:
        raise GraphError(f"{node.name}: {target_of(node)} changes its argument in place, which is not supported")
    return call(graph, op, *node.args, **node.kwargs)


def _copied(graph: fx.Graph, node: Node) -> fx.Node:
    """What ``x.copy_(source)`` writes: the source in the dtype and shape of x."""
    x, source, *_ = node.args
    return call(graph, aten.expand_as.default, call(graph, aten.type_as.default, source, x), x)


def _with_part_replaced(graph: fx.Graph, part: Node, new: fx.Node) -> fx.Node:
    """The value that ``part`` is a selection or slice of, with ``new`` in its place."""
    x, dim, *range_ = part.args if len(part.args) > 1 else (*part.args, 0)
    if shape_of(part) == shape_of(x):
        return new
    size = shape_of(x)[dim]
    if target_of(part) is aten.select:
        covered = range(size)[range_[0] :][:1]
        new = call(graph, aten.unsqueeze.default, new, dim)
    else:
        covered = range(size)[slice(*range_)]
    if covered.step != 1:
        raise GraphError(f"{part.name}: every other entry is changed in place, which is not supported")
    ends = ((0, covered.start), (covered.stop, size))
    before, after = ([call(graph, aten.slice.Tensor, x, dim, *end)] if end[0] < end[1] else [] for end in ends)
    return call(graph, aten.cat.default, [*before, new, *after], dim)


def _attention(graph: fx.Graph, node: Node) -> fx.Node:
    """Fused attention as the matrix products and the softmax that it stands for."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    arguments = dict(zip(names, node.args, strict=False)) | node.kwargs
    q, k, v, mask = arguments["query"], arguments["key"], arguments["value"], arguments.get("attn_mask")
    if arguments.get("is_causal"):
        raise GraphError(f"{node.name}: causal attention is not supported")
    scale = arguments.get("scale")
    scale = 1 / math.sqrt(shape_of(q)[-1]) if scale is None else scale
    if arguments.get("enable_gqa"):
        k, v = (_repeated(graph, x, shape_of(q)[-3] // shape_of(x)[-3]) for x in (k, v))
    scores = call(graph, aten.matmul.default, q, call(graph, aten.transpose.int, k, -2, -1))
    scores = call(graph, aten.mul.Tensor, scores, scale)
    if mask is not None and mask.meta["val"].dtype != torch.bool:
        scores = call(graph, aten.add.Tensor, scores, mask)
    elif mask is not None and not _all_true(mask):
        raise GraphError(f"{node.name}: boolean attention masks that leave something out are not supported")
    return call(graph, aten.matmul.default, call(graph, aten.softmax.int, scores, -1), v)


def _repeated(graph: fx.Graph, x: fx.Node, times: int) -> fx.Node:
    """Each head of [batch, heads, tokens, width] ``times`` times, one after the other."""
    return call(graph, aten.repeat_interleave.self_int, x, times, -3) if times > 1 else x


def _all_true(mask: fx.Node) -> bool:
    """Whether a mask is computed from sizes only, as that of padding where nothing is padded, and true everywhere."""
    sizes = {node: size for node in mask.graph.nodes if (size := _size(node)) is not None}
    needed = ancestors(mask, sizes)
    if any(node.op != "call_function" for node in needed - sizes.keys()):
        return False
    nodes = [node for node in mask.graph.nodes if node in needed and node not in sizes]
    return bool(interpret(nodes, dict(sizes))[mask].all())


def _size(node: fx.Node) -> int | None:
    """The traced length of an axis if that is the value of the node."""
    return traced_length(node.meta["val"]) if target_of(node) is aten.sym_size else None


def _subtracted(graph: fx.Graph, node: Node) -> fx.Node:
    """c - a x, which aten.rsub writes as (x, c, a); aten.sub takes no number as its first argument."""
    x, other, *rest = node.args
    factor = rest[0] if rest else node.kwargs.get("alpha", 1)
    if isinstance(other, fx.Node):
        return call(graph, aten.sub.Tensor, other, x, alpha=factor)
    negative = call(graph, aten.neg.default, x) if factor == 1 else call(graph, aten.mul.Tensor, x, -factor)
    return call(graph, aten.add.Tensor, negative, other)


def _sliced(graph: fx.Graph, node: Node) -> fx.Node:
    x, dim, start, length = node.args
    start = start % shape_of(x)[dim]
    return call(graph, aten.slice.Tensor, x, dim, start, start + length)


def _squared(graph: fx.Graph, node: Node) -> fx.Node:
    return call(graph, aten.mul.Tensor, node.args[0], node.args[0])


def _transposed(graph: fx.Graph, node: Node) -> fx.Node:
    x, *dims = node.args
    return call(graph, aten.transpose.int, x, *(dims or (-2, -1)))


def _avg_pool(graph: fx.Graph, node: Node) -> fx.Node | None:
    """Adaptive average pooling as the plain one, where the output's height and width divide the input's."""
    x, output = node.args
    pairs = list(zip(shape_of(x)[-2:], output, strict=True))
    if any(size % count for size, count in pairs):
        return None
    return call(graph, aten.avg_pool2d.default, x, [size // count for size, count in pairs])


REWRITES: dict[Any, Rewrite] = {
    aten.scaled_dot_product_attention: _attention,
    aten.rsub: _subtracted,
    aten.narrow: _sliced,
    aten.square: _squared,
    aten.adaptive_avg_pool2d: _avg_pool,
    **dict.fromkeys((aten.swapaxes, aten.swapdims, aten.mT, aten.adjoint), _transposed),
}


def _same_dtype_and_device(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.device == b.device


def _erase_no_ops(graph: fx.Graph) -> None:
    """Remove calls that return their first argument unchanged, so that they need no rules.

    The strides of values are then no longer those traced, so views become reshapes.
    """
    for node in list(graph.nodes):
        op = target_of(node)
        if node.target is aten.view.default:
            node.target = aten.reshape.default
        is_no_op = (
            op in (aten.alias, aten.contiguous, aten.lift_fresh_copy, aten.detach, aten.detach_)
            or (op is aten.dropout and not node.args[2])
            or (op in (aten.slice, aten.expand, aten.expand_as) and shape_of(node) == shape_of(node.args[0]))
            or (op is aten.pad and not any(node.args[1]))
            or (op in (aten.to, aten.type_as) and _same_dtype_and_device(node.meta["val"], node.args[0].meta["val"]))
        )
        if node.op == "call_function" and is_no_op:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
