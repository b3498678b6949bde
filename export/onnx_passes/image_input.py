"""An artifact that takes images as they are: preprocessing before the graph, and placement behind its heatmaps."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
from onnx_ir import convenience

from onnxplain.contract.preprocessing import Preprocessing

from .expressions import BYTE, FLOAT, Expression, Nodes
from .placement import Placement, axes_of
from .resampling import FILTERS, Axis, nearest, resize

PIXELS, IMAGE = "pixels", "image"


class ImageInputPass(ir.passes.InPlacePass):
    """Replace the input ``pixels`` by ``image``, and bring the heatmaps back onto it.

    ``image`` is uint8 [batch, height, width, 3], RGB, of any size, the same for all of a batch. It becomes the model's
    input bit for bit as in the runtime, so as Pillow resizes, where doubles are computed as IEEE 754 says.

    requires: The input ``pixels`` float32 [batch, 3, H, W] of the preprocessing's size, which is no output, and the
    outputs that are named, float32 [batch, targets, H, W].

    ensures: The input ``image`` in its place, these outputs as [batch, targets, height, width], and the others as they
    were.

    Attributes:
        prepared: The value in place of the input ``pixels``, after a call.
    """

    def __init__(self, preprocessing: Preprocessing, relative: Mapping[str, bool]) -> None:
        """Make the pass.

        Args:
            preprocessing: The artifact's.
            relative: By output, whether it gets its minimum where the model did not see the image, in place of 0.
        """
        super().__init__()
        self.preprocessing, self.relative = preprocessing, relative
        self.prepared: ir.Value | None = None

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model."""
        graph = model.graph
        pixels = next(value for value in graph.inputs if value.name == PIXELS)
        assert pixels.shape is not None
        image = ir.Value(name=IMAGE, type=ir.TensorType(BYTE), shape=ir.Shape([pixels.shape[0], "height", "width", 3]))
        nodes = Nodes()
        source = Expression(nodes, image, BYTE)
        axes = axes_of(source.length(1).scalar(), source.length(2).scalar(), self.preprocessing)
        self.prepared = prepared = preprocess(source, axes, self.preprocessing).value
        prepared.type, prepared.shape = pixels.type, pixels.shape
        graph.inputs[graph.inputs.index(pixels)] = image
        graph.insert_before(next(iter(graph)), nodes.nodes)
        convenience.replace_all_uses_with(pixels, prepared)
        done = len(nodes.nodes)
        placement = Placement(axes)
        for place, heatmap in enumerate(graph.outputs):
            relative = self.relative.get(heatmap.name or "")
            if relative is not None:
                graph.outputs[place] = _renamed(heatmap, placement.place(Expression(nodes, heatmap, FLOAT), relative))
        graph.extend(nodes.nodes[done:])
        return ir.passes.PassResult(model, modified=True)

    def requires(self, model: ir.Model) -> None:
        """Raise PreconditionError unless the graph has the input and the outputs, of the preprocessing's size."""
        values = {value.name: value for value in (*model.graph.inputs, *model.graph.outputs)}
        for name in (PIXELS, *self.relative):
            if name not in values:
                raise ir.passes.PreconditionError(f"the graph has no {name}")
            shape = values[name].shape
            if shape is None or len(shape) != 4 or tuple(shape[2:]) != self.preprocessing.size:
                raise ir.passes.PreconditionError(f"{name} is {shape}, and not of {self.preprocessing.size} pixels")

    def ensures(self, model: ir.Model) -> None:
        """Raise PostconditionError if the input is still there."""
        if any(value.name == PIXELS for value in model.graph.inputs):
            raise ir.passes.PostconditionError(f"the graph still has the input {PIXELS}")


def preprocess(image: Expression, axes: tuple[Axis, Axis], preprocessing: Preprocessing) -> Expression:
    """Make the model's input of images, as the runtime's `preprocess` does.

    Args:
        image: BYTE [batch, height, width, 3].
        axes: The rows and the columns.
        preprocessing: The artifact's.

    Returns:
        FLOAT [batch, 3, H, W].
    """
    rows, columns = axes
    if preprocessing.interpolation in FILTERS:
        window = resize(image, rows, columns, preprocessing.interpolation)
    else:
        window = image.op("Gather", nearest(rows), axis=1).op("Gather", nearest(columns), axis=2)
    padding = window.constant(preprocessing.padding)
    shown = _shown(rows).op("Unsqueeze", [1, 2]) & _shown(columns).unsqueeze(1)  # [H, 1, 1] and [W, 1]
    colours = shown.where(window, padding).transpose(0, 3, 1, 2).cast(FLOAT)
    mean, std = (
        colours.constant([[[value]] for value in values]) for values in (preprocessing.mean, preprocessing.std)
    )
    return (colours / 255 - mean) / std


def _shown(axis: Axis) -> Expression:
    """Which of the input's pixels show the image, BOOL [crop]; the others are padding."""
    outputs = axis.outputs()
    return (outputs >= 0) & (outputs < axis.resized)


def _renamed(heatmap: ir.Value, placed: Expression) -> ir.Value:
    """The placed maps, as the output in the heatmap's place."""
    assert heatmap.shape is not None
    value = placed.value
    value.type, value.shape = heatmap.type, ir.Shape([*heatmap.shape[:2], "height", "width"])
    value.name, heatmap.name = heatmap.name, f"{heatmap.name}/input"
    # Not with the lengths' names: where a flag left it empty, onnxruntime would put it into a buffer of that shape
    heatmap.shape = ir.Shape([size if isinstance(size, int) else None for size in heatmap.shape])
    return value
