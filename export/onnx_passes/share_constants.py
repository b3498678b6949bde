"""Small constants that are the same number are one initializer.

The graph of a ViT-B/16 has a thousand, of sixty values. onnxruntime copies the names of all values of the graph for
each branch, several times as it opens the file.
"""

from __future__ import annotations

from collections.abc import Container

import onnx_ir as ir


class ShareConstantsPass(ir.passes.InPlacePass):
    """Have equal initializers be one.

    ensures: The same outputs, bit for bit, and no two equal initializers, but for those that keep their names.
    """

    def __init__(self, kept: Container[str]) -> None:
        """Make the pass.

        Args:
            kept: The names of initializers that stay, such as weights, which have their paths.
        """
        super().__init__()
        self.kept = kept

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model."""
        graph = model.graph
        first: dict[tuple[ir.DataType, tuple[int, ...], bytes], ir.Value] = {}
        shared = False
        for name, value in list(graph.initializers.items()):
            tensor = value.const_value
            if name in self.kept or tensor is None or value.is_graph_input() or value.is_graph_output():
                continue
            same = first.setdefault((tensor.dtype, tuple(tensor.shape.numpy()), tensor.tobytes()), value)
            if same is not value:
                value.replace_all_uses_with(same)
                del graph.initializers[name]
                shared = True
        return ir.passes.PassResult(model, modified=shared)
