"""What is written in the files of `explain --sweep`: names, titles, and for how long frames are shown."""

import base64
import io
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from onnxplain.runtime import Explainer
from onnxplain.runtime.figures.figure import fitted, resized
from tests.helpers.command_line import run

pytestmark = pytest.mark.usefixtures("folder")

SVG = "{http://www.w3.org/2000/svg}"


def read_svg(path):
    """The texts of a figure as (x, y, text), and its images as (x, y, pixels)."""
    root = ElementTree.parse(path).getroot()
    texts = [(float(one.get("x")), float(one.get("y")), one.text) for one in root.iter(f"{SVG}text")]
    images = []
    for one in root.iter(f"{SVG}image"):
        data = base64.b64decode(one.get("href").partition(",")[2])
        with Image.open(io.BytesIO(data)) as image:
            images.append((float(one.get("x")), float(one.get("y")), np.asarray(image)))
    return texts, images


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (["rollout"], "rollout"),
        (["rollout:head_fusion=max"], "rollout (head_fusion=max)"),
        (["rollout", "--head-fusion", "max"], "rollout (head_fusion=max)"),
    ],
)
def test_a_strip_names_each_map_by_its_value(method, words, artifact):
    """Above each map stands its value; above all of them class, probability, model and method."""
    options = ("--method", *method, "--sweep", "discard_ratio=0.8,0,0.4", "--target", "Dog", "--format", "svg")
    assert run("explain", artifact, "cat.png", *options).exit_code == 0
    (path,) = Path("explanations").iterdir()
    texts, images = read_svg(path)
    explainer = Explainer(artifact, "cpu")
    parameters = {"head_fusion": "max"} if "max" in words else {}
    maps = []
    for value in (0.8, 0, 0.4):
        item = explainer.explain("cat.png", "Dog", "rollout", discard_ratio=value, **parameters)
        maps.append(np.asarray(resized(item, fitted(item.image.size, 224, 224)).overlay()))
        (place,) = [(x, y) for x, y, pixels in images if np.array_equal(pixels, maps[-1])]
        assert [text for x, y, text in texts if x == place[0] and 0 <= place[1] - y < 10] == [f"discard_ratio={value}"]
    assert not any(np.array_equal(maps[one], maps[other]) for one, other in [(0, 1), (0, 2), (1, 2)])
    title, about = sorted(texts, key=lambda text: text[1])[:2]
    assert (title[2], about[2]) == ("Dog", f"{item.probability:.1%}, tiny, {words}") and title[1] == about[1]


@pytest.mark.parametrize("format", ["gif", "webp"])
@pytest.mark.parametrize("values", ["0.5,0.9", "0:0.9:4"])
def test_the_last_frame_of_an_animation_is_shown_for_a_second(format, values, artifact):
    """The others for a fifth of one."""
    options = ("--method", "rollout", "--sweep", f"discard_ratio={values}", "--target", 3, "--format", format)
    assert run("explain", artifact, "cat.png", *options).exit_code == 0
    durations = []
    with Image.open(f"explanations/cat.png.tiny.rollout.discard_ratio.crane.{format}") as film:
        for frame in range(film.n_frames):
            film.seek(frame)
            film.load()  # of WebP, only then is the duration known
            durations.append(film.info["duration"])
    assert durations == [200] * (3 if ":" in values else 1) + [1000]
