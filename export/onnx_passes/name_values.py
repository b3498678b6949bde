"""Names that a reader of the file can use: of weights their paths in the model, of all else the op and a number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import onnx_ir as ir


class NameValuesPass(ir.passes.InPlacePass):
    """Name all values of a model but its inputs and outputs, and the nodes after the values that they give.

    A parameter or buffer of the model has its path there, such as ``blocks.0.attn.qkv.weight``; other initializers are
    numbered, ``initializer_7``. What a node gives that reads a weight directly is called by the weight's module and the
    op, ``blocks.0.attn.qkv/Gemm_1``; all else by the op, ``Softmax_3``. The value of a branch has the name under which
    its ``If`` gives it, with ``/inner`` or ``/empty`` behind it. ``If`` nodes keep their names.

    The exporter's own names, which it keeps in the values' metadata, go.

    ensures: No two values have the same name, those of branches included, and inputs and outputs have theirs. No two
    nodes have the same name.
    """

    def __init__(self, paths: Mapping[str, str]) -> None:
        """Make the pass.

        Args:
            paths: By the exporter's name of a weight, its path in the model.
        """
        super().__init__()
        self.paths = paths

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model."""
        graph = model.graph
        names = _Names({value.name for value in (*graph.inputs, *graph.outputs) if value.name})
        modules = self._name_initializers(graph, names)
        _name_nodes(graph, names, modules, set(graph.outputs))
        for value in _values(graph):
            value.metadata_props.clear()
        return ir.passes.PassResult(model, modified=True)

    def ensures(self, model: ir.Model) -> None:
        """Raise PostconditionError if two values have the same name, or one that is read has none."""
        values = _values(model.graph)
        counts = Counter(value.name for value in values)
        shared = [name for name, times in counts.items() if name and times > 1]
        if shared or any(not value.name and value.uses() for value in values):
            raise ir.passes.PostconditionError(f"two values have one name, or one has none: {shared}")
        nodes = Counter(node.name or "" for node in ir.traversal.RecursiveGraphIterator(model.graph))
        repeated = [name for name, times in nodes.items() if not name or times > 1]
        if repeated:
            raise ir.passes.PostconditionError(f"two nodes have one name, or one has none: {repeated}")

    def _name_initializers(self, graph: ir.Graph, names: _Names) -> dict[ir.Value, str]:
        """Returns the module of each weight, a path in the model."""
        old = {value: name for name, value in graph.initializers.items()}
        paths = {value: self.paths[name] for value, name in old.items() if name in self.paths}
        new = {value: names.free(path) for value, path in paths.items()}
        graph.initializers.clear()  # so that names can be exchanged
        for value in old:
            if not value.is_graph_input():  # a flag
                value.name = new[value] if value in new else names.numbered("initializer")
            graph.register_initializer(value)
        return {value: path.removesuffix(".T").rpartition(".")[0] for value, path in paths.items()}


class _Names:
    """The names that are taken, and new ones."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken
        self._last: Counter[str] = Counter()

    def free(self, name: str) -> str:
        """This name or, where it is taken, a numbered one."""
        if name in self._taken:
            return self.numbered(name)
        self._taken.add(name)
        return name

    def numbered(self, stem: str) -> str:
        """The first of stem_1, stem_2, … that is free."""
        while True:
            self._last[stem] += 1
            name = f"{stem}_{self._last[stem]}"
            if name not in self._taken:
                self._taken.add(name)
                return name


def _values(graph: ir.Graph) -> set[ir.Value]:
    """All values of a graph and its branches."""
    computed = (value for node in ir.traversal.RecursiveGraphIterator(graph) for value in node.outputs)
    return {*graph.inputs, *graph.initializers.values(), *computed}


def _name_nodes(graph: ir.Graph, names: _Names, modules: dict[ir.Value, str], kept: set[ir.Value]) -> None:
    """Name what the nodes of a graph give, branches included, and the nodes, but for values that keep theirs."""
    for node in graph:
        if node.op_type == "If":
            then, other = (node.attributes[name].as_graph() for name in ("then_branch", "else_branch"))
            _name_nodes(then, names, modules, kept)
            for result, inner, empty in zip(node.outputs, then.outputs, other.outputs, strict=True):
                if result not in kept:
                    result.name = inner.name
                inner.name, empty.name = f"{result.name}/inner", f"{result.name}/empty"
            for inside in other:
                (value,) = inside.outputs
                if value not in other.outputs:
                    value.name = names.numbered(inside.op_type)
                inside.name = value.name
        else:
            read = [modules[value] for value in node.inputs if value in modules]
            stem = f"{read[0]}/{node.op_type}" if read and read[0] else node.op_type
            for value in node.outputs:
                if value.name and value not in kept:  # an optional output that is left out has no name
                    value.name = names.numbered(stem)
            node.name = node.outputs[0].name
