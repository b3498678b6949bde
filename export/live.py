"""A model in memory behind the interface of artifacts: the fused graph run in eager PyTorch, without a file."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onnxplain.contract import Metadata, OnnxplainError, Preprocessing
from onnxplain.contract.errors import one_line
from onnxplain.contract.lrp_rules import RULES
from onnxplain.contract.names import no_such
from onnxplain.contract.outputs import ALWAYS
from onnxplain.contract.precisions import FLOAT32, FLOAT64
from onnxplain.lrp_graph import FusedGraph
from onnxplain.runtime import Explainer
from onnxplain.runtime.backends.base import rows_of, run_error
from onnxplain.runtime.explanation import TOP_K
from onnxplain.runtime.images.loading import MAX_PIXELS

from .artifact import describe, fuse_passes
from .models.backbones import Backbone
from .plan import module_of, prepare

DEVICES = ("cpu", "cuda")
DTYPES = {FLOAT32: torch.float32, FLOAT64: torch.float64}
"""By name, which is that of a precision as well."""


def explainer_of(
    model: Backbone | nn.Module,
    device: str | None = None,
    dtype: str = "float32",
    passes: Sequence[str] | None = None,
    alpha: float = RULES["alpha"],
    beta: float | None = None,
    gamma: float | None = None,
    gamma_conv: float | None = None,
    gamma_linear: float | None = None,
    gamma_attention: float | None = None,
    labels: Sequence[str] | None = None,
    preprocessing: Mapping[str, Any] | Preprocessing | None = None,
    activation: str = "softmax",
    max_pixels: int = MAX_PIXELS,
    top_k: int = TOP_K,
) -> Explainer:
    """An Explainer over a model in PyTorch, without a file: for those who have the model at hand.

    What the model computes from its weights alone, such as resized position embeddings, is computed here once: after a
    change of its weights, make another.

    Args:
        model: As for ``export_model``. It is left as it is. The Explainer shares its parameters where they have that
            dtype and are on that device, else it has a copy.
        device: "cpu" or "cuda"; by default where the model is.
        dtype: "float32" or "float64", which the graph computes in.
        passes: As for ``export_model``, as the following are.
        alpha: Of Chefer's rule.
        beta: Of the same rule.
        gamma: Of AttnLRP's gamma rule, as the following.
        gamma_conv: For convolutions.
        gamma_linear: For linear layers.
        gamma_attention: For those of attention.
        labels: Of the classes.
        preprocessing: Needed where ``model`` is not from ``load_backbone``.
        activation: "softmax" or "sigmoid".
        max_pixels: As for ``Explainer``.
        top_k: As for ``Explainer``.

    Returns:
        The Explainer. Its results are those of an artifact exported with the same arguments, but that nothing is
        measured of how exact they are. It cannot be pickled.

    Raises:
        OnnxplainError: The model cannot be explained, or an argument is not valid.
    """
    module = module_of(model)
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise OnnxplainError(no_such("dtype", dtype, DTYPES))
    place = _device(module, device)
    checked = _converted(module, torch.device("cpu"), torch.float32)  # as which arguments are checked
    given = replace(model, model=checked) if isinstance(model, Backbone) else checked
    plan = prepare(
        given, passes=passes, alpha=alpha, beta=beta, gamma=gamma, gamma_conv=gamma_conv, gamma_linear=gamma_linear,
        gamma_attention=gamma_attention, labels=labels, preprocessing=preprocessing, activation=activation,
    )  # fmt: skip
    backbone = replace(plan.backbone, model=_converted(module, place, DTYPES[dtype]).eval())
    plan = replace(plan, backbone=backbone)
    graph, _ = fuse_passes(plan)
    metadata = replace(describe(plan, graph), precision=dtype)
    return Explainer.over(LiveArtifact(graph, metadata, place), max_pixels, top_k)


@dataclass(frozen=True)
class LiveArtifact:
    """A fused graph in eager PyTorch: an ``Artifact``.

    Attributes:
        graph: The graph, with the weights of the model.
        metadata: What a file of the graph would say about itself.
        place: Where its weights are.
    """

    graph: FusedGraph
    metadata: Metadata
    place: torch.device

    @property
    def device(self) -> str:
        """Where it runs: "cpu" or "cuda"."""
        return self.place.type

    def run(self, images: NDArray[Any], targets: Sequence[int], outputs: Iterable[str]) -> dict[str, NDArray[Any]]:
        """See ``Artifact.run``; the outputs have the dtype of the graph."""
        names = [*ALWAYS, *dict.fromkeys(outputs)]
        dtype = next(self.graph.model.parameters()).dtype
        try:
            with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):  # as in runtime/backends
                pixels = torch.tensor(images, dtype=dtype, device=self.place)
                target = torch.tensor(rows_of(targets, len(images)), device=self.place)
                values = self.graph.compute(pixels, target, names)
                return {name: values[name].cpu().contiguous().numpy() for name in names}
        except RuntimeError as error:
            raise run_error("PyTorch", len(images), len(targets), error) from None


def _device(model: nn.Module, device: str | None) -> torch.device:
    """Where to run; by default where the first parameter is."""
    first = next(model.parameters(), None)
    if device is None:
        return torch.device("cpu") if first is None else first.device
    if device not in DEVICES:
        raise OnnxplainError(no_such("device", device, DEVICES, {"gpu": ("cuda",)}))
    if device == "cuda" and not torch.cuda.is_available():
        raise OnnxplainError("PyTorch cannot use `device` cuda here; use cpu")
    return first.device if first is not None and first.device.type == device else torch.device(device)


def _converted(model: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The model in modules of its own; the tensors are the model's where none has to be converted."""
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    same = all(
        tensor.device == device and (tensor.dtype == dtype or not tensor.is_floating_point()) for tensor in tensors
    )
    try:
        copied = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors} if same else None)
    except Exception as error:  # the model's own code may raise anything
        raise OnnxplainError(f"{type(model).__name__} cannot be copied: {one_line(error)}") from error
    return copied if same else copied.to(device, dtype)
