"""The explanation methods in one table: the function of each, its passes and parameters; and how to find one."""

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from . import flow, maps
from .errors import OnnxplainError
from .maps import HEAD_FUSIONS, NORMS, TokenMap
from .metadata import PASSES


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
    """One row of the table: the function, the passes whose tensors it takes, and how it is described to users.

    `extra` names the optional dependency the function imports, a module and an extra of onnxplain; `max_tokens` is
    where its time becomes a matter of many seconds, so that it only runs when it is asked for by name.
    """

    name: str
    function: Callable[..., TokenMap]
    passes: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    summary: str
    reference: str
    extra: tuple[str, str] | None = None
    max_tokens: int | None = None

    @property
    def per_target(self) -> bool:
        """Whether the map depends on the class asked for."""
        return any(PASSES[name].per_target for name in self.passes)

    @property
    def missing(self) -> str:
        """What to install before this method can run; empty if nothing."""
        if self.extra is None or importlib.util.find_spec(self.extra[0]) is not None:
            return ""
        return f"it needs {self.extra[0]}: pip install 'onnxplain[{self.extra[1]}]'"

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
                last = f" (this model has layers 0 to {layers - 1})" if parameter in (START_LAYER, LAYER) else ""
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
LAYER = Parameter(
    "layer",
    Integral,
    -1,
    "a layer number counted from 0, or from the end as -1, -2, …",
    lambda value, layers: -layers <= value < layers,
    "the layer whose attention counts, from 0, or negative from the end",
)
NORM = Parameter(
    "norm",
    str,
    "l1",
    f"one of {', '.join(NORMS)}",
    lambda value, layers: value in NORMS,
    "how large a head's gradient is: the sum of absolute values (l1) or the root of the sum of squares (l2)",
)


_CVPR = "Chefer, Gur, Wolf: Transformer Interpretability Beyond Attention Visualization, CVPR 2021"
_ACL = "Abnar, Zuidema: Quantifying Attention Flow in Transformers, ACL 2020"

_ROWS = (
    Method(
        "transformer_attribution",
        maps.transformer_attribution,
        ("gradient", "relevance"),
        (START_LAYER,),
        "gradient times LRP relevance of every attention entry, accumulated over the layers; class-specific",
        _CVPR,
    ),
    Method(
        "grad_rollout",
        maps.grad_rollout,
        ("attention", "gradient"),
        (HEAD_FUSION, DISCARD_RATIO, START_LAYER),
        "attention rollout with each attention weighted by its gradient; class-specific",
        "Gildenblat: vit-explain, 2020, after Abnar and Zuidema",
    ),
    Method(
        "generic_attention",
        maps.generic_attention,
        ("attention", "gradient"),
        (START_LAYER,),
        "gradient times attention, accumulated over the layers; class-specific",
        "Chefer, Gur, Wolf: Generic Attention-model Explainability, ICCV 2021",
    ),
    Method(
        "gmar",
        maps.gmar,
        ("attention", "gradient"),
        (NORM, START_LAYER),
        "attention rollout with each head weighted by how large its gradient is; class-specific",
        "GMAR: Gradient-Driven Multi-Head Attention Rollout for Vision Transformer Interpretability, 2025",
    ),
    Method(
        "attention_gradcam",
        maps.attention_gradcam,
        ("attention", "gradient"),
        (),
        "GradCAM on the last layer's attention, heads in place of channels; class-specific",
        f"baseline of {_CVPR}",
    ),
    Method(
        "rollout",
        maps.rollout,
        ("attention",),
        (HEAD_FUSION, DISCARD_RATIO, START_LAYER),
        "attention multiplied through the layers, with residuals; the same for every class",
        _ACL,
    ),
    Method(
        "attention_flow",
        flow.attention_flow,
        ("attention",),
        (),
        "maximum flow from the readout to each patch, attention as capacity; the same for every class",
        _ACL,
        extra=("scipy", "flow"),
        max_tokens=200,
    ),
    Method(
        "raw_attention",
        maps.raw_attention,
        ("attention",),
        (LAYER,),
        "one layer's attention, the last unless another is named; the same for every class",
        f"baseline of {_CVPR}",
    ),
    Method(
        "relevance_rollout",
        maps.relevance_rollout,
        ("relevance",),
        (START_LAYER,),
        "LRP relevance of attention accumulated over the layers, without gradient; class-specific",
        f"ablation in {_CVPR}",
    ),
    Method(
        "last_layer",
        maps.last_layer,
        ("relevance",),
        (LAYER,),
        "LRP relevance of one layer's attention, the last unless another is named; class-specific",
        f"baseline (partial LRP) of {_CVPR}",
    ),
    Method(
        "last_layer_gradient",
        maps.last_layer_gradient,
        ("gradient", "relevance"),
        (LAYER,),
        "gradient times LRP relevance of one layer's attention, the last unless another is named; class-specific",
        f"ablation in {_CVPR}",
    ),
)

# Where no method is named, the first one whose passes the artifact has is used.
METHODS: dict[str, Method] = {method.name: method for method in _ROWS}


def available_methods(passes: Iterable[str]) -> list[Method]:
    """The methods an artifact with these passes can run, in the order of the table."""
    present = set(passes)
    return [method for method in METHODS.values() if present.issuperset(method.passes)]


def comparable_methods(passes: Iterable[str], tokens: int) -> tuple[list[Method], dict[str, str]]:
    """The available methods to compare on one picture, and why the others among them are left out, by name."""
    chosen, left_out = [], {}
    for method in available_methods(passes):
        slow = method.max_tokens is not None and tokens > method.max_tokens
        reason = method.missing or (f"slow with {tokens} tokens; name it to have it" if slow else "")
        if reason:
            left_out[method.name] = reason
        else:
            chosen.append(method)
    return chosen, left_out


def find_method(name: str | None, passes: tuple[str, ...]) -> Method:
    """The method of that name, or the best one for these passes if the name is None.

    Raises OnnxplainError if there is no such method, or if it needs a pass or a dependency that is not there.
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
    if method.missing:
        raise OnnxplainError(f"method {name} cannot run here: {method.missing}")
    return method
