"""The values of a forward pass for a backward one, where there is no memory for all of them at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from torch import fx

from .rewrite import interpret, interpret_for, with_others


class Recomputed(Mapping[fx.Node, Any]):
    """The result of every node, most of which are computed again when they are asked for (Chen et al. 2016).

    The nodes are cut into segments. Kept are the values at which segments end, those that other segments read, and all
    of the segment that was asked for last. A backward pass meets one segment after the other, and so computes each once
    more; what asks for values in no such order, computes the same again and again. To ask whether a node is there
    computes it, too.
    """

    def __init__(self, nodes: Sequence[fx.Node], given: Mapping[fx.Node, Any], cuts: Collection[fx.Node]) -> None:
        """Run the nodes.

        Args:
            nodes: In their order.
            given: What they start from.
            cuts: The last nodes of segments; the last of all nodes has to be among them.
        """
        segments: list[list[fx.Node]] = [[]]
        for node in nodes:
            segments[-1].append(node)
            if node in cuts:
                segments.append([])
        self._segments = segments[:-1]
        self._place = {node: place for place, segment in enumerate(self._segments) for node in segment}
        self._kept = dict(given)
        for place, segment in enumerate(self._segments):
            wanted = {node for node in segment if any(self._place.get(user) != place for user in node.users)}
            self._kept |= interpret_for(wanted, segment, self._kept)
        self._current: tuple[int, Mapping[fx.Node, Any]] = (-1, {})

    def __getitem__(self, node: fx.Node) -> Any:
        if node in self._kept:
            return self._kept[node]
        place = self._place[node]
        if self._current[0] != place:
            self._current = (-1, {})  # before, or both would be there at once
            again = [one for one in self._segments[place] if one not in self._kept]
            self._current = (place, interpret(again, with_others(self._kept, {})))
        return self._current[1][node]

    def __iter__(self) -> Iterator[fx.Node]:
        return iter({**self._kept, **self._place})

    def __len__(self) -> int:
        return len(self._kept.keys() | self._place.keys())
