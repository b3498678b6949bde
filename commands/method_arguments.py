"""The methods that commands are given, with their parameters."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from onnxplain.commands.arguments import listed
from onnxplain.commands.options import option_of
from onnxplain.contract.errors import OnnxplainError

if TYPE_CHECKING:
    from onnxplain.runtime import Method


def check_all_methods(methods: list[str] | None, parameters: Mapping[str, object]) -> None:
    """Raise OnnxplainError if methods or parameters are given beside --all-methods, which takes neither."""
    given = [*(["method"] if methods else []), *parameters]
    if given:
        raise OnnxplainError(f"--all-methods shows every method with its defaults; leave out {option_of(given[0])}")


def parameters_by_method(
    methods: Mapping[str, "Method"], parameters: Mapping[str, object]
) -> dict[str, dict[str, object]]:
    """Give each method those of the parameters that it has.

    Args:
        methods: The methods by the names given.
        parameters: By name. A single method is given them all, and refuses those that it does not have.

    Raises:
        OnnxplainError: If there are several methods and none of them has one of the parameters.
    """
    known = {name: {parameter.name for parameter in method.parameters} for name, method in methods.items()}
    if len(methods) == 1:
        return {name: dict(parameters) for name in methods}
    for name in parameters:
        if not any(name in each for each in known.values()):
            names = ", ".join(method.name for method in methods.values())
            raise OnnxplainError(f"none of the methods {names} has the parameter `{name}`; leave it out")
    return {
        method: {name: value for name, value in parameters.items() if name in names} for method, names in known.items()
    }


def with_parameters(names: Sequence[str], parameters: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Give each method those of the parameters that it has and that do not stand behind its name.

    Args:
        names: Of methods, with parameters behind them or without.
        parameters: By name.

    Raises:
        OnnxplainError: As `parameters_by_method` does; or there is no such method, or a parameter is of no use.
    """
    from onnxplain.runtime.methods.calls import split_text
    from onnxplain.runtime.methods.choice import known_method

    split = {text: split_text(text) for text in names}
    given = parameters_by_method({text: known_method(name) for text, (name, _) in split.items()}, parameters)
    left = {
        text: {name: value for name, value in values.items() if name not in split[text][1]}
        for text, values in given.items()
    }
    for name in parameters:
        if not any(name in values for values in left.values()):
            raise OnnxplainError(f"`{name}` stands behind the name of every method that has it already; leave it out")
    return left


def parse_heatmaps(given: list[str] | None, parameters: Mapping[str, object]) -> dict[str, dict[str, object]] | None:
    """The methods of a plain artifact with the parameters that each has; None if none is given."""
    from onnxplain.runtime.methods.choice import known_method

    if given is None:
        if parameters:
            option = option_of(next(iter(parameters)))
            raise OnnxplainError(f"{option} is for the methods of --heatmaps; name them, or leave it out")
        return None
    methods: dict[str, Method] = {}
    for name in (name for text in given for name in listed(text)):
        method = known_method(name)
        if method in methods.values():
            raise OnnxplainError(f"method {method.name} is given twice; give it once")
        methods[name] = method
    return parameters_by_method(methods, parameters)
