"""Which methods and outputs an artifact has, and which of them the caller has chosen."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from onnxplain.contract.errors import MethodError, OnnxplainError
from onnxplain.contract.metadata import Metadata
from onnxplain.contract.names import no_such, or_rather
from onnxplain.contract.outputs import ALWAYS, PASSES

from .method import Method
from .table import METHODS

Methods = Mapping[str, Mapping[str, Any]] | Iterable[str]


class MethodCall(NamedTuple):
    """A method and its full set of arguments."""

    method: Method
    arguments: dict[str, Any]

    @property
    def bound(self) -> tuple[tuple[str, ...], dict[str, Any]]:
        """See `Method.bind`."""
        return self.method.bind(self.arguments)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that it needs of the run that all methods share; none if it has runs of its own."""
        return () if self.method.runs else self.bound[0]

    @property
    def runs(self) -> int:
        """How many runs of its own it needs for an image."""
        return int(self.arguments[self.method.runs]) if self.method.runs else 0


# Other names of methods, as `canonical` spells them; names that are only like ours are found without this table
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
    """The methods that an artifact with these passes can run, in the order of the table."""
    present = set(passes)
    return [method for method in METHODS.values() if present.issuperset(method.passes)]


def comparable_methods(passes: Iterable[str], tokens: int) -> tuple[list[Method], dict[str, str]]:
    """The methods that are compared where none is named.

    Args:
        passes: The artifact's.
        tokens: The artifact's number of tokens, on which the time of some methods depends.

    Returns:
        The available methods but those whose dependency is not installed and those that would take long; and for each
        of these, by name, why it is left out.
    """
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

    Case does not matter, and a hyphen is an underscore.

    Raises:
        MethodError: If there is no such method, or if it needs a pass or a dependency that is not there.
    """
    if name is None:
        return available_methods(passes)[0]
    if not isinstance(name, str):
        raise MethodError(f"a method must be a name, got {type(name).__name__}; there are: {', '.join(METHODS)}")
    if canonical(name) not in METHODS:
        meant = OTHER_NAMES.get(canonical(name), ())
        raise MethodError(no_such("method", name, METHODS, {name.casefold(): meant}))
    method = METHODS[canonical(name)]
    missing = [item for item in method.passes if item not in passes]
    if missing:
        wanted = ",".join(item for item in PASSES if item in (*passes, *method.passes))
        raise MethodError(
            f"method {method.name} needs the pass {' and '.join(missing)}, this artifact has: {', '.join(passes)}; "
            f"export it again with `passes` {wanted}, or use one of: "
            f"{', '.join(item.name for item in available_methods(passes))}"
        )
    if method.missing:
        raise MethodError(f"method {method.name} cannot run here: {method.missing}")
    return method


def call_method(name: str | None, parameters: Mapping[str, Any], metadata: Metadata) -> MethodCall:
    """The method of that name, or the artifact's best one, with these parameters and the defaults of the others.

    Raises:
        MethodError: If it cannot be run, or if a parameter is unknown or not valid.
    """
    method = find_method(name, metadata.passes)
    return MethodCall(method, method.arguments(parameters, metadata.layers))


def call_methods(methods: Methods | None, metadata: Metadata) -> tuple[MethodCall, ...]:
    """Several methods with their arguments, in the order given.

    Args:
        methods: Names, or a mapping of names to parameters; None for those of `comparable_methods`.
        metadata: The artifact's.

    Raises:
        MethodError: If a method cannot be run, is given twice or with what is not valid for it, or if there is
            none.
    """
    if methods is None:
        methods = [method.name for method in comparable_methods(metadata.passes, metadata.layout.tokens)[0]]
    if isinstance(methods, str) or not isinstance(methods, Iterable):
        right = [methods] if isinstance(methods, str) else ["rollout"]
        raise MethodError(
            f"`methods` must be a list of names, or a mapping of names to parameters, got {methods!r}; write {right}"
        )
    calls: dict[str, MethodCall] = {}
    for name in methods:
        given = methods[name] if isinstance(methods, Mapping) else {}
        if not isinstance(given, Mapping):
            raise MethodError(f"the parameters of {name} must be a mapping of names to values, got {given!r}")
        call = call_method(name, given, metadata)
        if call.method.name in calls:
            raise MethodError(f"method {call.method.name} is given twice; give it once")
        calls[call.method.name] = call
    if not calls:
        raise MethodError("the list of methods is empty; give at least one, or None for all")
    return tuple(calls.values())


def find_outputs(names: Iterable[str] | None, metadata: Metadata) -> tuple[str, ...]:
    """The names of outputs beside the logits.

    Args:
        names: Names of outputs, or of passes, each of which stands for its raw output; None for all passes.
        metadata: The artifact's.

    Raises:
        OnnxplainError: If the artifact has no output and no pass of such a name.
    """
    if isinstance(names, str):
        raise OnnxplainError(f"`passes` must be a list of names, got the text {names!r}; write [{names!r}]")
    known = {item.output: item.output for item in metadata.outputs}
    known |= {name: PASSES[name].output for name in metadata.passes}
    wanted = [name for name in (metadata.passes if names is None else names) if name not in ALWAYS]
    for name in wanted:
        if name not in known:
            raise OnnxplainError(
                f"this artifact has no pass {name}; it has: {', '.join(metadata.passes)}{or_rather(name, known)}"
            )
    return tuple(known[name] for name in wanted)
