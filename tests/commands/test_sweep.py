"""`explain --sweep`: one parameter of a method with several values, as a strip or an animation, from one run."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxplain.commands.sweep import parse_sweep
from onnxplain.contract.errors import OnnxplainError
from onnxplain.runtime import METHODS, Explainer
from onnxplain.runtime.backends.onnx import OnnxArtifact
from onnxplain.runtime.figures.figure import fitted, resized
from onnxplain.runtime.signature import is_signed
from tests.helpers.command_line import assert_mistake, read_pixels, run

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("discard_ratio=0:0.95:20", tuple(f"{step / 20:g}" for step in range(20))),
        ("discard-ratio = 0.5:0:3", ("0.5", "0.25", "0")),
        ("discard_ratio=0.1,0.35", ("0.1", "0.35")),
        ("head_fusion=mean, max,min", ("mean", "max", "min")),
        ("start_layer=0:3:9", ("0", "1", "2", "3")),
        ("discard_ratio=0:0.5:4", ("0", "0.167", "0.333", "0.5")),
        ("Discard_Ratio=0.1234:0.98765:3", ("0.1234", "0.556", "0.98765")),  # the ends as they were given
        ("discard_ratio=0.1234:0.1236:3", ("0.1234", "0.1235", "0.1236")),  # digits that tell the values apart
    ],
)
def test_values(text, values):
    sweep = parse_sweep(text, "rollout", METHODS["rollout"])
    assert sweep.values == values
    assert sweep.methods[1] == f"rollout:{sweep.parameter}={values[1]}"


def test_whole_numbers_are_exact():
    assert parse_sweep("seed=12345:12347:3", "rise", METHODS["rise"]).values == ("12345", "12346", "12347")
    assert parse_sweep("masks=1000:1234:2", "rise", METHODS["rise"]).values == ("1000", "1234")


def test_a_strip_shows_each_value_from_one_run(artifact, monkeypatch):
    runs = []
    once = OnnxArtifact.run
    monkeypatch.setattr(OnnxArtifact, "run", lambda self, *given: (runs.append(given), once(self, *given))[1])
    options = ("--method", "rollout:head_fusion=max", "--sweep", "discard_ratio=0:0.8:3", "--target", 3)
    result = run("explain", artifact, "cat.png", *options, "--start-layer", 1)
    assert result.exit_code == 0 and result.stderr == "" and len(runs) == 1
    sheet = read_pixels("explanations/cat.png.tiny.rollout.discard_ratio.sweep.png")
    explainer = Explainer(artifact, "cpu")
    for value in (0, 0.4, 0.8):
        given = {"head_fusion": "max", "discard_ratio": value, "start_layer": 1}
        item = explainer.explain("cat.png", 3, "rollout", **given)
        assert f"rollout:head_fusion=max,discard_ratio={value}" in result.stdout
        as_on_sheets = resized(item, fitted(item.image.size, 224, 224))
        assert _contains(sheet, np.asarray(as_on_sheets.overlay()))


def _contains(sheet, part):
    height, width = part.shape[:2]
    corners = np.argwhere((sheet[: 1 - height, : 1 - width] == part[0, 0]).all(-1))
    return any((sheet[y : y + height, x : x + width] == part).all() for y, x in corners)


@pytest.mark.parametrize("format", ["gif", "webp"])
def test_an_animation_has_a_frame_for_each_value(format, artifact):
    options = ("--method", "rollout", "--sweep", "head_fusion=mean,max,min", "--target", 3, "--target", "Dog")
    for _ in range(2):
        assert run("explain", artifact, "cat.png", *options, "--format", format).exit_code == 0
    files = sorted(Path("explanations").iterdir())
    assert len(files) == 4 and files[0].read_bytes() == files[1].read_bytes() and all(map(is_signed, files))
    explainer = Explainer(artifact, "cpu")
    with Image.open(f"explanations/cat.png.tiny.rollout.head_fusion.crane.{format}") as film:
        assert film.n_frames == 3 and film.info["loop"] == 0
        for place, value in enumerate(("mean", "max", "min")):
            film.seek(place)
            expected = np.asarray(explainer.explain("cat.png", 3, "rollout", head_fusion=value).figure(), int)
            shown = np.asarray(film.convert("RGB"), int)[: expected.shape[0], : expected.shape[1]]
            where = slice(100, None)  # below the title, which names every value
            assert np.abs(shown - expected)[where].mean() < (6 if format == "gif" else 3)


def test_large_images_are_drawn_small_in_animations(artifact):
    Image.open("cat.png").resize((900, 2000)).save("large.png")
    options = ("--method", "rollout", "--sweep", "head_fusion=mean,max", "--layout", "bare", "--format", "gif")
    for extra, size in (((), (288, 640)), (("--max-size", 1000), (450, 1000))):
        assert run("explain", artifact, "large.png", *options, *extra, "--output", str(size[0])).exit_code == 0
        with Image.open(next(Path(str(size[0])).iterdir())) as film:
            assert film.size == size


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (
            "--sweep gives head_fusion its values; leave it out of --method Rollout:head_fusion=max",
            ("--method", "Rollout:head_fusion=max", "--sweep", "head_fusion=mean,min"),
        ),
        (
            "--sweep gives head_fusion its values; leave --head-fusion out",
            ("--sweep", "head_fusion=mean,min", "--head-fusion", "max"),
        ),
        ("--sweep must be PARAMETER=FIRST:LAST:COUNT", ("--sweep", "discard_ratio")),
        ("two numbers and a whole number from 2 to 200, got '0:1'", ("--sweep", "discard_ratio=0:1")),
        ("got '0:inf:3'", ("--sweep", "discard_ratio=0:inf:3")),
        ("got '0:1:1'", ("--sweep", "discard_ratio=0:1:1")),
        ("got '0:1:300'", ("--sweep", "discard_ratio=0:1:300")),
        (
            "'rollout:discard_ratio=1': discard_ratio must be a number of at least 0 and below 1, got 1.0",
            ("--sweep", "discard_ratio=0:1:3"),
        ),
        ("method rollout has no parameter 'norm' to sweep; it has: head_fusion", ("--sweep", "norm=l1,l2")),
        (
            "'rollout:head_fusion=sum': head_fusion must be one of mean, max, min, got 'sum'",
            ("--sweep", "head_fusion=mean,sum"),
        ),
        ("--sweep is of one method", ("--sweep", "discard_ratio=0:0.5:3", "--method", "gmar")),
        ("--sweep is of one method", ("--sweep", "discard_ratio=0:0.5:3", "--sheet")),
        ("--format gif is for the animation of a --sweep", ("--format", "gif")),
    ],
)
def test_mistakes(message, options, artifact):
    method = () if options[0] == "--method" else ("--method", "rollout")
    assert_mistake(message, "explain", artifact, "cat.png", *method, *options)


def test_too_many_values():
    with pytest.raises(OnnxplainError, match="at most 200 values, got 300"):
        parse_sweep(f"seed={','.join(map(str, range(300)))}", "rise", METHODS["rise"])
