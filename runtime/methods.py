"""The explanation methods: pure NumPy functions from attention tensors to a token map, in one table.

Every function takes the tensors of its passes, for one image and one target (`attention`, `gradient` =
d logit / d attention, `relevance` of the attention; each [layers, heads, N, N]), the token `Layout`, and its
parameters by name. It returns the token map, float64 [h, w]. A product of per-layer matrices is read as `e P`,
with e the readout row: the row goes through the layers from the top, and nothing N x N is ever multiplied.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import OnnxplainError
from .metadata import PASSES, Layout

Array = NDArray[np.floating[Any]]
TokenMap = NDArray[np.float64]

HEAD_FUSIONS: dict[str, Callable[..., Any]] = {"mean": np.mean, "max": np.max, "min": np.min}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method: its type, its default, and which values are valid (which may depend on L layers)."""

    name: str
    type: type
    default: Any
    valid: str
    check: Callable[[Any, int], bool]
    summary: str


@dataclass(frozen=True)
class Method:
    """One row of the table: the function, the passes whose tensors it takes, and how it is described to users."""

    name: str
    function: Callable[..., TokenMap]
    passes: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    summary: str
    reference: str

    def arguments(self, given: Mapping[str, Any], layers: int) -> dict[str, Any]:
        """The method's full set of arguments: those given, and the defaults of the others.

        Raises OnnxplainError if a name is unknown or a value is not valid for a model of that many layers.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise OnnxplainError(
                f"method {self.name} has no parameter {', '.join(unknown)}; it has: {', '.join(known) or 'none'}"
            )
        for name, value in given.items():
            parameter = known[name]
            if not isinstance(value, parameter.type) or not parameter.check(value, layers):
                last = f" (this model has layers 0 to {layers - 1})" if parameter is START_LAYER else ""
                raise OnnxplainError(f"{name} must be {parameter.valid}{last}, got {value!r}")
        return {name: given.get(name, parameter.default) for name, parameter in known.items()}


HEAD_FUSION = Parameter(
    "head_fusion",
    str,
    "mean",
    f"one of {', '.join(HEAD_FUSIONS)}",
    lambda value, layers: value in HEAD_FUSIONS,
    "how the heads of a layer become one matrix",
)
DISCARD_RATIO = Parameter(
    "discard_ratio",
    Real,
    0.0,
    "a number of at least 0 and below 1",
    lambda value, layers: 0 <= value < 1,
    "share of each fused matrix, lowest entries first, that is set to zero",
)
START_LAYER = Parameter(
    "start_layer",
    Integral,
    0,
    "a layer number counted from 0",
    lambda value, layers: 0 <= value < layers,
    "first layer of the product, counted from 0",
)


def rollout(attention: Array, layout: Layout, *, head_fusion: str, discard_ratio: float, start_layer: int) -> TokenMap:
    """M_l = rownorm(fuse_h(A_l) + I), map = e M_L ... M_s (Abnar & Zuidema 2020, section 3; vit-explain).

    `discard_ratio`: see `_discard`.
    """
    fused = (_fuse_heads(layer, head_fusion) for layer in attention[start_layer:][::-1])
    return _roll_out((_discard(matrix, discard_ratio, layout) for matrix in fused), layout)


def grad_rollout(
    attention: Array, gradient: Array, layout: Layout, *, head_fusion: str, discard_ratio: float, start_layer: int
) -> TokenMap:
    """M_l = rownorm((fuse_h(G_l * A_l))+ + I), map = e M_L ... M_s (after vit-explain, each layer with its own G).

    `discard_ratio`: see `_discard`; it acts on the positive part.
    """
    pairs = zip(gradient[start_layer:][::-1], attention[start_layer:][::-1], strict=True)
    fused = (_positive(_fuse_heads(g * a, head_fusion)) for g, a in pairs)
    return _roll_out((_discard(matrix, discard_ratio, layout) for matrix in fused), layout)


def transformer_attribution(gradient: Array, relevance: Array, layout: Layout, *, start_layer: int) -> TokenMap:
    """C_l = E_h[(G_l * R_l)+], map = e (I + C_L) ... (I + C_s) (Chefer et al. CVPR 2021, equations 13 and 14)."""
    row = layout.readout_row()
    for g, r in zip(gradient[start_layer:][::-1], relevance[start_layer:][::-1], strict=True):
        row = row + row @ _fuse_heads(_positive(g * r), "mean")
    return layout.patches(row)


def _fuse_heads(layer: Array, head_fusion: str) -> NDArray[np.float64]:
    """[heads, N, N] to a fresh float64 [N, N]."""
    return np.asarray(HEAD_FUSIONS[head_fusion](layer, axis=0), dtype=np.float64)


def _positive(array: Any) -> Any:
    """(.)+, in place."""
    return np.maximum(array, 0, out=array)


def _discard(matrix: NDArray[np.float64], ratio: float, layout: Layout) -> NDArray[np.float64]:
    """Set to zero, in place, those of the floor(ratio N^2) lowest entries that are not in the CLS row or column.

    All N^2 entries are ranked, ties by position; protected entries (row 0 and column 0, if there are prefix tokens)
    count among the lowest but keep their value, as vit-explain's one protected element does.
    """
    flat = matrix.ravel()
    count = int(ratio * flat.size)
    if count == 0:
        return matrix
    threshold = np.partition(flat, count - 1)[count - 1]
    below = flat < threshold
    below[np.flatnonzero(flat == threshold)[: count - np.count_nonzero(below)]] = True
    lowest = below.reshape(matrix.shape)
    if layout.prefix_tokens > 0:
        lowest[0, :] = lowest[:, 0] = False
    matrix[lowest] = 0
    return matrix


def _roll_out(matrices: Iterable[NDArray[np.float64]], layout: Layout) -> TokenMap:
    """e rownorm(F_L + I) ... rownorm(F_s + I) for non-negative F, given from the top layer down."""
    row = layout.readout_row()
    for matrix in matrices:
        row = row / (matrix.sum(axis=1) + 1)  # e rownorm(M) = (e / row sums of M) M
        row = row @ matrix + row
    return layout.patches(row)


_ROWS = (
    Method(
        "transformer_attribution",
        transformer_attribution,
        ("gradient", "relevance"),
        (START_LAYER,),
        "gradient times LRP relevance of every attention entry, accumulated over the layers; class-specific",
        "Chefer, Gur, Wolf: Transformer Interpretability Beyond Attention Visualization, CVPR 2021",
    ),
    Method(
        "grad_rollout",
        grad_rollout,
        ("attention", "gradient"),
        (HEAD_FUSION, DISCARD_RATIO, START_LAYER),
        "attention rollout with each attention weighted by its gradient; class-specific",
        "Gildenblat: vit-explain, 2020, after Abnar and Zuidema",
    ),
    Method(
        "rollout",
        rollout,
        ("attention",),
        (HEAD_FUSION, DISCARD_RATIO, START_LAYER),
        "attention multiplied through the layers, with residuals; the same for every class",
        "Abnar, Zuidema: Quantifying Attention Flow in Transformers, ACL 2020",
    ),
)

# Best first: where no method is named, the first one whose passes the artifact has is used.
METHODS: dict[str, Method] = {method.name: method for method in _ROWS}


def available_methods(passes: Iterable[str]) -> list[Method]:
    """The methods an artifact with these passes can run, best first."""
    present = set(passes)
    return [method for method in METHODS.values() if present.issuperset(method.passes)]


def find_method(name: str | None, passes: tuple[str, ...]) -> Method:
    """The method of that name, or the best one for these passes if the name is None.

    Raises OnnxplainError if there is no such method or the artifact lacks a pass that it needs.
    """
    if name is None:
        return available_methods(passes)[0]
    if name not in METHODS:
        raise OnnxplainError(f"there is no method {name!r}; there are: {', '.join(METHODS)}")
    method = METHODS[name]
    missing = [item for item in method.passes if item not in passes]
    if missing:
        wanted = ",".join(item for item in PASSES if item in (*passes, *method.passes))
        raise OnnxplainError(
            f"method {name} needs the pass {' and '.join(missing)}, this artifact has: {', '.join(passes)}; "
            f"export it again with --passes {wanted}, or use one of: "
            f"{', '.join(item.name for item in available_methods(passes))}"
        )
    return method
