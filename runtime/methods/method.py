"""What an explanation method is: one row of the table in table.py."""

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from numbers import Integral, Real
from string import Formatter
from typing import Any

from onnxplain.contract.errors import MethodError
from onnxplain.contract.names import or_rather
from onnxplain.contract.outputs import PASSES, output_of

from .parameters import Parameter


@dataclass(frozen=True)
class Method:
    """One row of the table: the function, the outputs of the graph that it takes, and how it is described to users.

    A plain artifact has the maps themselves among its outputs, and rows of its own that take them, see choice.py.

    Attributes:
        name: By which users choose it.
        function: From the outputs, and the arguments by name, to the map; see attention_maps.py and sampling.py.
        outputs: Templates of the outputs' names: a parameter in braces chooses among outputs, and is not passed to the
            function.
        parameters: What users can set.
        summary: What the map shows, in one line.
        reference: Where the method was published.
        pixel_level: Whether the map has a value for each pixel of the model's input, else for each patch.
        runs: The parameter that says how many runs of the graph an image takes; None for a single run, which the method
            shares with others.
        signed: Whether the map has values below zero, which count against the class.
        relative: Whether only differences within the map have a meaning; it then has no zero.
        extra: An optional dependency that the function imports, as a module and an extra of onnxplain.
        max_tokens: With more tokens the method takes many seconds, and runs only when it is asked for by name.
    """

    name: str
    function: Callable[..., Any]
    outputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    summary: str
    reference: str
    pixel_level: bool = False
    runs: str | None = None
    signed: bool = False
    relative: bool = False
    extra: tuple[str, str] | None = None
    max_tokens: int | None = None

    @property
    def passes(self) -> tuple[str, ...]:
        """The passes an artifact must have for this method."""
        needed = {name for output in self._outputs for name in output_of(output).passes}
        return tuple(name for name in PASSES if name in needed)

    @property
    def per_target(self) -> bool:
        """Whether the map depends on the class."""
        return self.runs is not None or any(output_of(name).per_target for name in self._outputs)

    @property
    def in_graph(self) -> bool:
        """Whether the map can be an output of the graph: it needs one run, and only the array API."""
        return self.runs is None and self.extra is None

    @property
    def _outputs(self) -> tuple[str, ...]:
        """The outputs that it needs with its defaults; others that parameters choose need the same passes."""
        return self.bind(self.defaults)[0]

    @property
    def defaults(self) -> dict[str, Any]:
        """The value of each parameter where none is given."""
        return {parameter.name: parameter.default for parameter in self.parameters}

    @property
    def missing(self) -> str:
        """What to install before this method can run; empty if nothing."""
        if self.extra is None or importlib.util.find_spec(self.extra[0]) is not None:
            return ""
        return f"it needs {self.extra[0]}: pip install 'onnxplain[{self.extra[1]}]'"

    def arguments(self, given: Mapping[str, Any], layers: int) -> dict[str, Any]:
        """The method's full set of arguments.

        Args:
            given: Parameters by name.
            layers: How many layers the model has.

        Returns:
            The parameters given, and the defaults of the others.

        Raises:
            MethodError: If a name is unknown, or a value is not valid for a model of that many layers.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise MethodError(
                f"method {self.name} has no parameter {_listed(unknown)}; "
                + (f"it has: {_listed(known)}" if known else "it has none")
                + or_rather(unknown[0], known)
            )
        for name, value in given.items():
            parameter = known[name]
            if not isinstance(value, parameter.type) or isinstance(value, bool) or not parameter.check(value, layers):
                valid = parameter.valid.format(layers=layers, last=layers - 1)
                raise MethodError(f"`{name}` must be {valid}, got {value!r}{or_rather(value, parameter.choices)}")
        return {name: given.get(name, parameter.default) for name, parameter in known.items()}

    def values(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """The values of parameters that are given as texts, those with an unknown name or value unchanged."""
        types = {parameter.name: parameter.type for parameter in self.parameters}
        return {name: _value(text, types.get(name, str)) for name, text in texts.items()}

    def text(self, given: Mapping[str, Any]) -> str:
        """The name with these parameters behind it, in the order of the table."""
        ordered = [f"{item.name}={given[item.name]}" for item in self.parameters if item.name in given]
        return f"{self.name}:{','.join(ordered)}" if ordered else self.name

    def bind(self, arguments: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[str, Any]]:
        """The outputs of the graph that these arguments choose, and the arguments that are left for the function."""
        used = {field for template in self.outputs for _, field, _, _ in Formatter().parse(template)}
        outputs = tuple(template.format(**arguments) for template in self.outputs)
        return outputs, {name: value for name, value in arguments.items() if name not in used}


def _value(text: str, type: type) -> Any:
    """The number that the text is, if the type is one; else the text."""
    for kind, number in ((Integral, int), (Real, float)):
        if type is kind:
            with suppress(ValueError):
                return number(text)
    return text


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
