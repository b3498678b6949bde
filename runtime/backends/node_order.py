"""The nodes of an ONNX model in the order of the model that onnxruntime has made it of.

onnxruntime writes an optimized graph in an order of its own, and runs one in the order of its file. Ours goes through
the model layer by layer; in another order, what a layer leaves is kept until all are done.
"""

import heapq
from collections.abc import Callable, Container, Iterator
from typing import NamedTuple

from .onnx_fields import AttributeProto, GraphProto, ModelProto, NodeProto
from .wire import BYTES, bytes_field, fields_of, values_of

BRANCHES = {AttributeProto.G, AttributeProto.GRAPHS}


class Node(NamedTuple):
    """A node as it is written.

    Attributes:
        content: NodeProto.
        reads: The names of the values that it reads, or nodes in its branches do.
        gives: Those of its outputs.
    """

    content: bytes
    reads: list[bytes]
    gives: list[bytes]


def in_order_of(model: bytes, original: bytes) -> bytes:
    """The model with its nodes in the order of the original's, as far as they are in it, and in branches as well.

    A node that is not in the original comes before the first one that needs it.
    """
    places: dict[bytes, int] = {}
    for graph in values_of(original, {ModelProto.GRAPH}):
        _note_places(graph, places)
    return _changed(model, {ModelProto.GRAPH}, lambda graph: _ordered(graph, places))


def _note_places(graph: bytes, places: dict[bytes, int]) -> None:
    """Note for each value the place of the node that gives it, among all nodes."""
    for node in values_of(graph, {GraphProto.NODE}):
        for branch in _branches(node):
            _note_places(branch, places)
        place = len(places)
        places.update(dict.fromkeys(values_of(node, {NodeProto.OUTPUT}), place))


def _ordered(graph: bytes, places: dict[bytes, int]) -> bytes:
    def with_branches(attribute: bytes) -> bytes:
        return _changed(attribute, BRANCHES, lambda branch: _ordered(branch, places))

    nodes = [
        Node(
            _changed(node, {NodeProto.ATTRIBUTE}, with_branches), [*_read(node)], [*values_of(node, {NodeProto.OUTPUT})]
        )
        for node in values_of(graph, {GraphProto.NODE})
    ]
    rest = b"".join(
        graph[field.begin : field.end] for field in fields_of(graph, 0, len(graph)) if field.number != GraphProto.NODE
    )
    return b"".join(bytes_field(GraphProto.NODE, node.content) for node in _sorted(nodes, places)) + rest


def _sorted(nodes: list[Node], places: dict[bytes, int]) -> Iterator[Node]:
    """The nodes by their places, but each after those that it reads from; they come in any order that has this."""
    giver = {name: index for index, node in enumerate(nodes) for name in node.gives}
    needs = [{giver[name] for name in node.reads if name in giver} for node in nodes]
    users: list[list[int]] = [[] for _ in nodes]
    for index, needed in enumerate(needs):
        for one in needed:
            users[one].append(index)
    place: dict[int, float] = {}
    for index in reversed(range(len(nodes))):  # users first
        known = [places[name] for name in nodes[index].gives if name in places]
        place[index] = min(known) if known else min((place[user] for user in users[index]), default=0) - 0.5
    waiting = [len(needed) for needed in needs]
    ready = [(place[index], index) for index, count in enumerate(waiting) if not count]
    heapq.heapify(ready)
    while ready:
        _, index = heapq.heappop(ready)
        yield nodes[index]
        for user in users[index]:
            waiting[user] -= 1
            if not waiting[user]:
                heapq.heappush(ready, (place[user], user))


def _read(node: bytes) -> Iterator[bytes]:
    """The names of all values that a node or its branches read; what branches compute themselves is among them."""
    yield from values_of(node, {NodeProto.INPUT})
    for branch in _branches(node):
        for inner in values_of(branch, {GraphProto.NODE}):
            yield from _read(inner)


def _branches(node: bytes) -> Iterator[bytes]:
    for attribute in values_of(node, {NodeProto.ATTRIBUTE}):
        yield from values_of(attribute, BRANCHES)


def _changed(message: bytes, numbers: Container[int], change: Callable[[bytes], bytes]) -> bytes:
    """The message, where `change` has been made to the values of these fields."""
    return b"".join(
        bytes_field(field.number, change(message[field.start : field.end]))
        if field.number in numbers and field.kind == BYTES
        else message[field.begin : field.end]
        for field in fields_of(message, 0, len(message))
    )
