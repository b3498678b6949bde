"""The parameters of the methods as options of a command, made from their table."""

import inspect
from collections.abc import Iterable
from functools import cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from onnxplain.commands.arguments import SeveralValues

if TYPE_CHECKING:
    from onnxplain.runtime.methods.parameters import Parameter

PANEL = "Parameters of methods (the command methods lists which has which)"
TYPES: dict[Any, tuple[type, str]] = {
    str: (str, "NAME"),
    Integral: (int, "N"),
    Real: (float, "R"),
}  # what is read, and how the help calls it
KEY = "onnxplain.method_parameters"


class MethodOptions(TyperCommand):
    """A command with an option for each parameter of a method.

    The options are made when they are needed, since the other commands do without the table.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        """The command's own options, and those of the methods."""
        return [*super().get_params(ctx), *self._options]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; the command's function does not get the options of methods, see `given_parameters`."""
        rest = super().parse_args(ctx, args)
        values = {option.name: ctx.params.pop(option.name) for option in self._options}
        ctx.meta[KEY] = {name: value for name, value in values.items() if value is not None}
        return rest

    @cached_property
    def _options(self) -> list[Any]:
        def command(**parameters: Any) -> None:
            """Only its signature is used: typer makes options of it."""

        options = [
            inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_option(each))
            for each in self._parameters()
        ]
        command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in options}
        app = typer.Typer(add_completion=False)
        app.command()(command)
        return typer.main.get_command(app).params

    def _parameters(self) -> "Iterable[Parameter]":
        from onnxplain.runtime.methods.parameters import PARAMETERS

        return PARAMETERS.values()


class HeatmapOptions(MethodOptions, SeveralValues):
    """The same for the parameters of those methods whose maps can be computed in the graph."""

    def _parameters(self) -> "Iterable[Parameter]":
        from onnxplain.runtime import METHODS

        names = {each.name for method in METHODS.values() if method.in_graph for each in method.parameters}
        return [each for each in super()._parameters() if each.name in names]


def given_parameters(context: typer.Context) -> dict[str, Any]:
    """The parameters of methods that stand on the command line, by name."""
    parameters: dict[str, Any] = context.meta[KEY]
    return parameters


def _option(parameter: "Parameter") -> Any:
    kind, metavar = TYPES[parameter.type]
    text = parameter.summary[0].upper() + parameter.summary[1:]
    option = typer.Option(
        metavar="|".join(parameter.choices) or metavar,
        help=f"{text}.",
        show_default=str(parameter.default),
        rich_help_panel=PANEL,
    )
    return Annotated[kind | None, option]
