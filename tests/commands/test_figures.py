"""The options of figures in the command explain: what is written is what Python draws."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxplain.commands.figure_options import FigureOptions
from onnxplain.runtime import Explainer, Style, comparison_sheet
from onnxplain.runtime.figures.figure import figure_of
from onnxplain.runtime.figures.formats import FORMATS, to_image
from onnxplain.runtime.figures.scale import shared_scales
from onnxplain.runtime.figures.style import LAYOUTS, OPACITY, SCALES
from onnxplain.runtime.signature import is_signed
from tests.helpers.command_line import assert_mistake, read_pixels, run

pytestmark = pytest.mark.usefixtures("folder")

TARGETS = ("--target", 3, "--target", "Dog")


@pytest.mark.parametrize(
    ("options", "style"),
    [
        ((), {}),
        (("--layout", "overlay", "--contour", 0.5), {"layout": "overlay", "contour": 0.5}),
        (("--layout", "map", "--colormap", "viridis_r"), {"layout": "map", "colormap": "viridis_r"}),
        (("--layout", "bare", "--opacity", 0.3), {"layout": "bare", "opacity": 0.3}),
        (("--max-size", 30), {"max_size": 30}),
    ],
)
def test_what_is_written_is_what_python_draws(options, style, artifact):
    result = run("explain", artifact, "cat.png", "--method", "attnlrp", "--target", 3, *options)
    assert result.exit_code == 0 and result.stderr == ""
    expected = Explainer(artifact).explain("cat.png", 3, "attnlrp").figure(**style)
    assert np.array_equal(read_pixels("explanations/cat.png.tiny.attnlrp.crane.png"), np.asarray(expected))


def test_a_shared_scale_holds_for_all_figures_of_an_image(artifact):
    run("explain", artifact, "cat.png", "--method", "rollout", "--method", "legrad", *TARGETS, "--scale", "shared")
    results = Explainer(artifact).explain_all("cat.png", [3, "Dog"], methods=["rollout", "legrad"])
    items = [item for each in results.values() for item in each]
    drawn = [
        np.asarray(to_image(figure_of(item, Style(), scale)))
        for item, scale in zip(items, shared_scales(items), strict=True)
    ]
    for method, name, expected in zip(
        ("rollout", "rollout", "legrad", "legrad"), ("crane", "dog") * 2, drawn, strict=True
    ):
        assert np.array_equal(read_pixels(f"explanations/cat.png.tiny.{method}.{name}.png"), expected)
    assert not np.array_equal(drawn[2], np.asarray(items[2].figure()))


def test_sheets_have_the_style_too(artifact):
    run(
        "explain",
        artifact,
        "cat.png",
        "--method",
        "rollout",
        *TARGETS,
        "--sheet",
        "--scale",
        "shared",
        "--max-size",
        99,
    )
    results = Explainer(artifact).explain_all("cat.png", [3, "Dog"], methods=["rollout"])
    expected = comparison_sheet(results, Style(scale="shared", max_size=99))
    assert np.array_equal(read_pixels("explanations/cat.png.tiny.sheet.png"), np.asarray(expected))
    assert expected.size != comparison_sheet(results).size


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("sheet", [(), ("--sheet",)])
def test_formats(format, sheet, artifact):
    for _ in range(2):
        assert run("explain", artifact, "cat.png", "--method", "legrad", "--format", format, *sheet).exit_code == 0
    files = sorted(Path("explanations").iterdir())
    assert len(files) == 2 and all(file.suffix == f".{format}" for file in files)
    assert files[0].read_bytes() == files[1].read_bytes()  # from run to run
    if format in ("png", "jpg", "webp"):
        with Image.open(files[0]) as image:
            assert image.format == {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[format]
        assert is_signed(files[0])
        again = run("explain", artifact, "explanations")  # figures are not explained in turn
        assert again.exit_code == 2 and "2 images that onnxplain made were skipped" in again.stderr


def test_the_help_says_what_there_is(artifact):
    text = "".join(run("explain", "--help").stdout.split())
    for choices in (LAYOUTS, SCALES, FORMATS):
        assert "|".join(choices) in text
    default = Style()
    assert FigureOptions().style == default
    for value in (default.layout, OPACITY, default.scale):
        assert f"[default:({value})]" in text.replace("│", "")


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("there is no layout 'beside'; there are: side, overlay, map, bare", ("--layout", "beside")),
        ("there is no colormap 'virdis'; did you mean 'viridis'", ("--colormap", "virdis")),
        ("--opacity must be a number from 0 to 1, got 2.0", ("--opacity", 2)),
        ("--opacity must be a number from 0 to 1, got nan", ("--opacity", "nan")),
        ("--contour must be a number above 0 and below 1", ("--contour", 1)),
        ("there is no scale 'all'; there are: each, shared", ("--scale", "all")),
        ("--max-size must be an integer from 1 to 8192", ("--max-size", 0)),
        ("there is no format of figures 'bmp'; there are: png, jpg, webp, pdf, svg", ("--format", "bmp")),
    ],
)
def test_mistakes(message, options, artifact):
    assert_mistake(message, "explain", artifact, "cat.png", *options)


def test_pdf_needs_reportlab(artifact, monkeypatch):
    monkeypatch.setitem(sys.modules, "reportlab", None)
    assert_mistake("pip install 'onnxplain[pdf]'", "explain", artifact, "cat.png", "--format", "pdf")
