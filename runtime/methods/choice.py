"""Which methods and outputs an artifact has, and which of them are asked for."""

from collections.abc import Iterable, Mapping
from typing import Any

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.metadata import Metadata
from onnxplain.contract.names import no_such, or_rather
from onnxplain.contract.outputs import PASSES

from .method import Method
from .table import METHODS

Methods = Mapping[str, Mapping[str, Any]] | Iterable[str]
Asked = tuple[Method, dict[str, Any]]

# What others call methods, in the spelling of `canonical`; what is merely like our names is found without
OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "gradcam": ("attention_gradcam",),
    "grad_cam": ("attention_gradcam",),
    "gradcam++": ("attention_gradcam",),
    "cam": ("attention_gradcam", "vit_reciprocam"),
    "lrp": ("transformer_attribution", "attnlrp", "full"),
    "partial_lrp": ("last_layer",),
    "attribution": ("transformer_attribution",),
    "chefer": ("transformer_attribution", "generic_attention"),
    "transformer_explainability": ("transformer_attribution", "generic_attention"),
    "attention_rollout": ("rollout",),
    "gradient_rollout": ("grad_rollout",),
    "gradient_attention_rollout": ("grad_rollout",),
    "attention": ("raw_attention", "rollout"),
    "attention_map": ("raw_attention", "rollout"),
    "last_attention": ("raw_attention",),
    "flow": ("attention_flow",),
    "saliency": ("gradient",),
    "vanilla_gradient": ("gradient",),
    "backprop": ("gradient",),
    "gradient_x_input": ("input_x_gradient",),
    "grad_x_input": ("input_x_gradient",),
    "gradient_times_input": ("input_x_gradient",),
    "ig": ("integrated_gradients",),
    "occlusion": ("rise",),
    "perturbation": ("rise",),
}


def canonical(name: str) -> str:
    """A method's name as the table has it: in lower case, with underscores."""
    return name.strip().casefold().replace("-", "_").replace(" ", "_")


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

    Case does not matter, and a hyphen is an underscore. Raises OnnxplainError if there is no such method, or if it
    needs a pass or a dependency that is not there.
    """
    if name is None:
        return available_methods(passes)[0]
    if not isinstance(name, str):
        raise OnnxplainError(f"a method must be a name, got {type(name).__name__}; there are: {', '.join(METHODS)}")
    if canonical(name) not in METHODS:
        meant = OTHER_NAMES.get(canonical(name), ())
        raise OnnxplainError(no_such("method", name, METHODS, {name.casefold(): meant}))
    method = METHODS[canonical(name)]
    missing = [item for item in method.passes if item not in passes]
    if missing:
        wanted = ",".join(item for item in PASSES if item in (*passes, *method.passes))
        raise OnnxplainError(
            f"method {method.name} needs the pass {' and '.join(missing)}, this artifact has: {', '.join(passes)}; "
            f"export it again with --passes {wanted}, or use one of: "
            f"{', '.join(item.name for item in available_methods(passes))}"
        )
    if method.missing:
        raise OnnxplainError(f"method {method.name} cannot run here: {method.missing}")
    return method


def chosen_methods(methods: Methods | None, metadata: Metadata) -> tuple[Asked, ...]:
    """The methods asked for with their arguments, in that order: names, or names with parameters; None for all.

    All are those that `comparable_methods` compares. Raises OnnxplainError if a method cannot be run, is given twice or
    is given what is not valid for it, or if there is none.
    """
    if methods is None:
        found = comparable_methods(metadata.passes, metadata.layout.tokens)[0]
        return tuple((method, method.arguments({}, metadata.layers)) for method in found)
    if isinstance(methods, str) or not isinstance(methods, Iterable):
        right = [methods] if isinstance(methods, str) else ["rollout"]
        raise OnnxplainError(
            f"methods must be a list of names, or a mapping of names to parameters, got {methods!r}; write {right}"
        )
    asked: dict[str, Asked] = {}
    for name in methods:
        method = find_method(name, metadata.passes)
        if method.name in asked:
            raise OnnxplainError(f"method {method.name} is given twice; give it once")
        given = methods[name] if isinstance(methods, Mapping) else {}
        if not isinstance(given, Mapping):
            raise OnnxplainError(f"the parameters of {name} must be a mapping of names to values, got {given!r}")
        asked[method.name] = method, method.arguments(given, metadata.layers)
    if not asked:
        raise OnnxplainError("the list of methods is empty; give at least one, or None for all")
    return tuple(asked.values())


def chosen_outputs(names: Iterable[str] | None, metadata: Metadata) -> tuple[str, ...]:
    """The outputs asked for beside the logits: by their names, or each pass for its raw output; None for all passes.

    Raises OnnxplainError if the artifact has none of such a name.
    """
    if isinstance(names, str):
        raise OnnxplainError(f"passes must be a list of names, got the text {names!r}; write [{names!r}]")
    known = {item.output: item.output for item in metadata.outputs}
    known |= {name: PASSES[name].output for name in metadata.passes}
    wanted = [name for name in (metadata.passes if names is None else names) if name != "logits"]
    for name in wanted:
        if name not in known:
            raise OnnxplainError(
                f"this artifact has no pass {name}; it has: {', '.join(metadata.passes)}{or_rather(name, known)}"
            )
    return tuple(known[name] for name in wanted)
