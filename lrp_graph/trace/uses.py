"""Where in the forward pass each weight is used."""

from __future__ import annotations

from collections import defaultdict

from .capture import Trace


def uses_of_weights(trace: Trace) -> dict[str, set[int]]:
    """By the path of each weight, for each of its uses: how many layers have computed their attention before.

    0 is before the attention of the first layer, and the number of layers is after that of the last. A weight that a
    constant is computed from is used where the constant is.
    """
    paths = {**{node: (path,) for node, path in trace.weights.items()}, **trace.origins}
    uses: defaultdict[str, set[int]] = defaultdict(set)
    computed = 0
    for node in trace.nodes:
        for each in node.all_input_nodes:
            for path in paths.get(each, ()):
                uses[path].add(computed)
        computed += node in trace.layer_attention
    return dict(uses)
