"""The options of figures: how they look, and in which format they are written."""

from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

if TYPE_CHECKING:
    from onnxplain.runtime import Style

PANEL = "Figures"

Layout = Annotated[
    str | None,
    Option(
        metavar="side|overlay|map|bare",
        help="The picture and the heatmap over it side by side, only one of them (overlay, map), "
        "or the overlay without title and colour bar (bare).",
        show_default="side",
        rich_help_panel=PANEL,
    ),
]
ColormapName = Annotated[
    str | None,
    Option(
        "--colormap",
        metavar="NAME",
        help="Of the package cmap, such as viridis, or viridis_r for the reverse.",
        show_default="ember, coolwarm for maps with negative values",
        rich_help_panel=PANEL,
    ),
]
Opacity = Annotated[
    float | None,
    Option(
        metavar="R",
        help="Of the colour where the map is highest, from 0 to 1.",
        show_default="0.85",
        rich_help_panel=PANEL,
    ),
]
Contour = Annotated[
    float | None,
    Option(metavar="R", help="Draw a line around what is above this share of the scale.", rich_help_panel=PANEL),
]
ScaleName = Annotated[
    str | None,
    Option(
        "--scale",
        metavar="each|shared",
        help="Whether each map's colours span its own values, or those of all maps of the image.",
        show_default="each",
        rich_help_panel=PANEL,
    ),
]
MaxSize = Annotated[
    int | None,
    Option(
        metavar="N",
        help="The longer side of the picture, in pixels, where it is longer.",
        show_default="1600, on sheets 224, of bare overlays any",
        rich_help_panel=PANEL,
    ),
]
Format = Annotated[str, Option(metavar="png|jpg|webp|pdf|svg", help="The format of the files.", rich_help_panel=PANEL)]


def style_of(**given: Any) -> "Style":
    """The style with these options, None for the defaults; raises OnnxplainError if one is not valid."""
    from onnxplain.runtime import Style

    return Style(**{name: value for name, value in given.items() if value is not None})
