"""Which methods and outputs an artifact has, and which of them the caller has chosen."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from onnxplain.contract.errors import MethodError, OnnxplainError
from onnxplain.contract.layout import Layout
from onnxplain.contract.metadata import Metadata
from onnxplain.contract.names import no_such, or_rather
from onnxplain.contract.outputs import ALWAYS, HEATMAP, PASSES

from ..images.geometry import tokens_of
from .attention_maps import Array, pixel_output
from .calls import MethodCall, split_text
from .method import Method
from .table import METHODS

Methods = Mapping[str, Mapping[str, Any]] | Iterable[str]
"""Methods by their names, which may have parameters behind them, see `calls.py`; or names and parameters by name."""


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


def available_methods(metadata: Metadata) -> list[Method]:
    """The methods that an artifact can run, in the order of the table.

    Of a full artifact those whose passes it has. Of a plain one those whose maps are its outputs, each with a function
    that takes the map and without parameters, as these are fixed in the graph.

    Raises:
        MethodError: If a plain artifact has only maps of methods that are not in the table.
    """
    if metadata.heatmaps:
        known = [_with_map_in_graph(method) for name, method in METHODS.items() if name in metadata.heatmaps]
        if not known:
            raise MethodError(
                f"the artifact's heatmaps are of methods that this version does not know: "
                f"{', '.join(metadata.heatmaps)}; open it with the version that wrote it"
            )
        return known
    present = set(metadata.passes)
    return [method for method in METHODS.values() if present.issuperset(method.passes)]


def _with_map_in_graph(method: Method) -> Method:
    function = pixel_output if method.pixel_level else _tokens_of_heatmap
    return replace(method, function=function, outputs=(HEATMAP + method.name,), parameters=())


def _tokens_of_heatmap(heatmap: Array, readout: Array, layout: Layout) -> Array:
    """The token map that the graph has enlarged to [..., H, W]."""
    return tokens_of(heatmap.astype(readout.dtype), layout.patch_grid)


def comparable_methods(metadata: Metadata) -> tuple[list[Method], dict[str, str]]:
    """The methods that are compared where none is named.

    Args:
        metadata: The artifact's; its number of tokens decides how long some methods take.

    Returns:
        The available methods but those whose dependency is not installed and those that would take long; and for each
        of these, by name, why it is left out. All those of a plain artifact.
    """
    tokens = metadata.layout.tokens
    chosen, left_out = [], {}
    for method in available_methods(metadata):
        slow = method.max_tokens is not None and tokens > method.max_tokens and not metadata.heatmaps
        reason = method.missing or (f"slow with {tokens} tokens; name it to have it" if slow else "")
        if reason:
            left_out[method.name] = reason
        else:
            chosen.append(method)
    return chosen, left_out


def known_method(name: object) -> Method:
    """The row of METHODS of that name.

    Case does not matter, and a hyphen is an underscore.

    Raises:
        MethodError: If there is no such method.
    """
    if not isinstance(name, str):
        raise MethodError(f"a method must be a name, got {type(name).__name__}; there are: {', '.join(METHODS)}")
    if canonical(name) not in METHODS:
        meant = OTHER_NAMES.get(canonical(name), ())
        raise MethodError(no_such("method", name, METHODS, {name.casefold(): meant}))
    return METHODS[canonical(name)]


def find_method(name: str | None, metadata: Metadata) -> Method:
    """The artifact's method of that name, or its best one if the name is None.

    Raises:
        MethodError: If there is no such method, or if it needs a pass or a dependency that is not there.
    """
    available = {method.name: method for method in available_methods(metadata)}
    if name is None:
        return next(iter(available.values()))
    method = known_method(name)
    if method.name not in available:
        use = f"or use one of: {', '.join(available)}"
        if metadata.heatmaps:
            again = (
                f"export it again with `heatmaps` {','.join((*available, method.name))}"
                if method.in_graph
                else "it cannot be in a graph: export it again without `heatmaps`"
            )
            raise MethodError(f"this artifact has no heatmap of {method.name}; {again}, {use}")
        missing = [item for item in method.passes if item not in metadata.passes]
        wanted = ",".join(item for item in PASSES if item in (*metadata.passes, *method.passes))
        raise MethodError(
            f"method {method.name} needs the pass {' and '.join(missing)}, this artifact has: "
            f"{', '.join(metadata.passes)}; export it again with `passes` {wanted}, {use}"
        )
    if method.missing:
        raise MethodError(f"method {method.name} cannot run here: {method.missing}")
    return available[method.name]


def call_method(text: str | None, parameters: Mapping[str, Any], metadata: Metadata) -> MethodCall:
    """A method with its parameters.

    Args:
        text: The method's name, with parameters behind it or without; None for the artifact's best method.
        parameters: Those that do not stand in the text; the others have their defaults.
        metadata: The artifact's.

    Raises:
        MethodError: If it cannot be run, or if a parameter is unknown, not valid, given twice with different values, or
            another than the one that is fixed in a plain artifact.
    """
    name, own = (None, {}) if text is None else split_text(text)
    method = find_method(name, metadata)
    row = METHODS[method.name]  # a plain artifact's method has no parameters left
    own = row.values(own)
    try:
        row.arguments(own, metadata.layers)
    except MethodError as error:
        raise MethodError(f"{text!r}: {str(error).replace('`', '')}") from None  # its parameters are no options
    for key, value in own.items():
        if key in parameters and parameters[key] != value:
            raise MethodError(f"`{key}` of {method.name} is given twice, as {value!r} and {parameters[key]!r}")
    given = {**parameters, **own}
    if method.name in metadata.heatmaps:
        _check_fixed(method.name, given, metadata)
        given = {}
    return MethodCall(method, method.arguments(given, metadata.layers), row.text(own))


def fixed_parameters(name: str, metadata: Metadata) -> dict[str, Any]:
    """All parameters of a method in a plain artifact: those that its metadata do not name have their defaults."""
    return {**METHODS[name].defaults, **metadata.heatmaps[name]}


def _check_fixed(name: str, parameters: Mapping[str, Any], metadata: Metadata) -> None:
    """Raise MethodError unless these are the parameters that are fixed in the graph."""
    fixed = fixed_parameters(name, metadata)
    given = METHODS[name].arguments(parameters, metadata.layers)
    for parameter in parameters:
        if given[parameter] != fixed[parameter]:
            raise MethodError(
                f"the heatmap of {name} in this artifact was exported with `{parameter}` {fixed[parameter]}, "
                f"got {given[parameter]}; leave it out, or export it again"
            )


def call_methods(methods: Methods | None, metadata: Metadata) -> tuple[MethodCall, ...]:
    """Several methods with their arguments, in the order given.

    Args:
        methods: Names, with parameters behind them or without, or a mapping of these to parameters; None for those of
            `comparable_methods`.
        metadata: The artifact's.

    Raises:
        MethodError: If a method cannot be run, is given twice or with what is not valid for it, or if there is
            none.
    """
    if methods is None:
        methods = [method.name for method in comparable_methods(metadata)[0]]
    calls: dict[str, MethodCall] = {}
    for text, given in named_methods(methods).items():
        call = call_method(text, given, metadata)
        if call.key in calls:
            raise MethodError(f"method {call.key} is given twice; give it once, or with other parameters")
        calls[call.key] = call
    return tuple(calls.values())


def named_methods(methods: Methods) -> dict[str, Mapping[str, Any]]:
    """The methods' names, with parameters behind them or without, and the other parameters of each.

    Raises:
        MethodError: If they are given in another form, twice by one name, or not at all.
    """
    if isinstance(methods, str) or not isinstance(methods, Iterable):
        right = [methods] if isinstance(methods, str) else ["rollout"]
        raise MethodError(
            f"`methods` must be a list of names, or a mapping of names to parameters, got {methods!r}; write {right}"
        )
    named: dict[str, Mapping[str, Any]] = {}
    for name in methods:
        given = methods[name] if isinstance(methods, Mapping) else {}
        if not isinstance(given, Mapping):
            raise MethodError(f"the parameters of {name} must be a mapping of names to values, got {given!r}")
        if name in named:
            raise MethodError(f"method {name} is given twice; give it once, or with other parameters")
        named[name] = given
    if not named:
        raise MethodError("the list of methods is empty; give at least one, or None for all")
    return named


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
    every = tuple(known)
    if not metadata.heatmaps:
        known |= {name: PASSES[name].output for name in metadata.passes}
        every = metadata.passes
    wanted = [name for name in (every if names is None else names) if name not in ALWAYS]
    for name in wanted:
        if name not in known:
            raise OnnxplainError(
                f"this artifact has no pass {name}; it has: {', '.join(every)}{or_rather(name, known)}"
            )
    return tuple(known[name] for name in wanted)
