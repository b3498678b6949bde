"""The options of explain that say how figures look, and in which format they are written."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

from typer import Option

from onnxplain.contract.errors import OnnxplainError

if TYPE_CHECKING:
    from onnxplain.runtime import Style

PANEL = "Figures"


@dataclass(frozen=True)
class FigureOptions:
    """What stands on the command line about that; every field is an option, None for the default of Style.

    Raises:
        OnnxplainError: One of them is not valid, or what writes the format is not installed.
    """

    layout: Annotated[
        str | None,
        Option(
            metavar="side|overlay|map|bare",
            help="The image and the heatmap over it side by side, only one of them (overlay, map), "
            "or the overlay without title and colour bar (bare).",
            show_default="side",
            rich_help_panel=PANEL,
        ),
    ] = None
    colormap: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="Of the package cmap, such as viridis, or viridis_r for the reverse.",
            show_default="ember, coolwarm for maps with negative values",
            rich_help_panel=PANEL,
        ),
    ] = None
    opacity: Annotated[
        float | None,
        Option(
            metavar="R",
            help="Of the colour where the map is highest, from 0 to 1.",
            show_default="0.85",
            rich_help_panel=PANEL,
        ),
    ] = None
    contour: Annotated[
        float | None,
        Option(
            metavar="R",
            help="Draw a line around what is above this share of the scale, between 0 and 1.",
            rich_help_panel=PANEL,
        ),
    ] = None
    scale: Annotated[
        str | None,
        Option(
            metavar="each|shared",
            help="Whether each map's colours span its own values, or those of all maps of the image.",
            show_default="each",
            rich_help_panel=PANEL,
        ),
    ] = None
    max_size: Annotated[
        int | None,
        Option(
            metavar="N",
            help="The longer side of the image, in pixels, where it is longer; up to 8192.",
            show_default="1600, on sheets 224, of animations 640, of bare overlays any",
            rich_help_panel=PANEL,
        ),
    ] = None
    format: Annotated[
        str,
        Option(
            metavar="png|jpg|webp|pdf|svg|gif",
            help="The format of the files. Of --sweep, webp and gif are animations.",
            rich_help_panel=PANEL,
        ),
    ] = "png"
    sweep: Annotated[
        str | None,
        Option(
            metavar="PARAMETER=VALUES",
            help="The method with several values of one parameter: from 0 to 0.95 in 20 steps, as in "
            "discard_ratio=0:0.95:20, or those listed, as in head_fusion=mean,max,min. One sheet for each image.",
            rich_help_panel=PANEL,
        ),
    ] = None

    def __post_init__(self) -> None:
        from onnxplain.runtime.figures.formats import check_format

        if self.sweep is None and self.format == "gif":
            raise OnnxplainError("--format gif is for the animation of a --sweep; give one, or another format")
        check_format(self.format, ["gif"])
        _ = self.style

    @cached_property
    def style(self) -> "Style":
        """How figures are drawn."""
        from onnxplain.runtime import Style

        names = [item.name for item in fields(Style)]
        return Style(**{name: getattr(self, name) for name in names if getattr(self, name) is not None})
