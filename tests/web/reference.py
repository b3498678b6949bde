"""Writes what the tests of the JavaScript compare with: ``python -m tests.web.reference FOLDER NODE_MODULES``.

FOLDER/preprocessing.json lists images with the model's input of each, FOLDER/explanations.json artifacts and images
with what the Python runtime makes of them; arrays are files of raw numbers, images are PNG. FOLDER/own and FOLDER/cdn
are pages, with onnxruntime-web in them and from elsewhere. FOLDER/report and FOLDER/hostile are reports of `explain`,
the latter with labels and names that are meant to break out of the page.
"""

import json
import sys
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from onnxplain.commands.page import page
from onnxplain.contract.preprocessing import CROP_MODES, CROP_ROUNDINGS, INTERPOLATIONS
from onnxplain.demo.samples import samples
from onnxplain.export import export_model, load_backbone
from onnxplain.runtime import Explainer, Preprocessing, preprocess
from tests.helpers.command_line import run
from tests.helpers.tiny_artifact import build

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SIZES = (1, 1), (2, 3), (17, 150), (201, 19), (95, 97), (224, 224)  # of images of noise, (width, height)
INPUTS = (32, 32), (37, 23)
CROP_PCTS = 0.875, 1.0, 1.3

# The artifacts: what they take, and the methods in each
ARTIFACTS = {
    "several": ("pixels", ["transformer_attribution", "legrad", "rollout", "attnlrp", "vit_reciprocam"]),
    "one": ("image", ["legrad"]),
    "signed": ("image", ["attnlrp"]),
}
TARGETS = -1, "one", 3
FAINT = 0.35  # an opacity of the overlays beside the default one

HOSTILE_LABELS = ["</script><script>document.title='broken'</script>", "<img src=x onerror=document.title='broken'>"]
HOSTILE_LABELS += ["\"' onmouseover=document.title='broken'", "\u202eelbisiv", "${document.title='broken'}", "&lt;"]
HOSTILE_NAMES = "<img src=x onerror=document.title='broken'>.png", "a&amp;#1%?.png"


def write_preprocessing(folder: Path) -> None:
    """Every interpolation, crop mode and rounding, on noise of odd sizes and on a photograph."""
    images = {f"{width}x{height}": _noise(width, height) for width, height in SIZES}
    images["photograph"] = Image.fromarray(skimage.data.chelsea())
    for name, image in images.items():
        image.save(folder / f"{name}.png")
    cases = []
    for name, interpolation, crop_mode, size, crop_pct in product(
        images, INTERPOLATIONS, CROP_MODES, INPUTS, CROP_PCTS
    ):
        rounding = CROP_ROUNDINGS[len(cases) % 2]
        given = (size, *IMAGENET.values(), crop_pct, crop_mode, interpolation, rounding)
        cases.append(_case(folder, len(cases), name, images[name], Preprocessing(*given)))
    for interpolation in INTERPOLATIONS:
        settings = Preprocessing((224, 224), **IMAGENET, interpolation=interpolation)
        cases.append(_case(folder, len(cases), "photograph", images["photograph"], settings))
    (folder / "preprocessing.json").write_text(json.dumps(cases))


def _case(folder: Path, number: int, name: str, image: Image.Image, preprocessing: Preprocessing) -> dict[str, object]:
    pixels, placement = preprocess(image, preprocessing)
    return {
        "image": f"{name}.png",
        "preprocessing": asdict(preprocessing),
        "placement": asdict(placement),
        "pixels": _save(folder / f"{number}.f32", pixels),
    }


def write_explanations(folder: Path) -> None:
    """Artifacts of the demo model, and every method of theirs for some classes of some images."""
    images = {f"{name}.png": image for name, image in _images().items()}
    for name, image in images.items():
        image.save(folder / name)
    cases = []
    for artifact, (taken, methods) in ARTIFACTS.items():
        path = folder / f"{artifact}.onnx"
        export_model(load_backbone("demo"), path, heatmaps=methods, input=taken)
        explainer = Explainer(path, "cpu")
        for name, method, target in product(images, methods, TARGETS):
            found = explainer.explain(folder / name, target=target, method=method)
            given = found.heatmap if taken == "image" else found.input_heatmap
            overlay, faint = (f"{artifact}.{name}.{method}.{target}.{kind}.png" for kind in ("overlay", "faint"))
            found.overlay().save(folder / overlay)
            found.overlay(opacity=FAINT).save(folder / faint)
            cases.append(
                {
                    "artifact": path.name,
                    "image": name,
                    "method": method,
                    "target": target,
                    "index": found.target,
                    "score": found.score,
                    "predictions": found.predictions,
                    "heatmap": _save(folder / f"{overlay}.f32", found.heatmap),
                    "given": _save(folder / f"{overlay}.given.f32", given),
                    "overlay": overlay,
                    "faint": {"file": faint, "opacity": FAINT},
                    "resolution": found.resolution,
                    "seen": [[axis.start, axis.stop] for axis in found.placement.seen],
                }
            )
    (folder / "explanations.json").write_text(json.dumps(cases))


def write_reports(folder: Path) -> None:
    """A report of pictures in folders of classes, by two methods, and one with hostile names."""
    pictures, hostile = folder / "pictures", folder / "names"
    for number, item in enumerate(samples() * 12):
        place = pictures / ("seven", "zero", "unknown")[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        with Image.open(item.path) as image:
            turned = image.rotate(7 * number).resize((96 + 5 * number, 140))
        turned.save(place / f"img{number}.png")
    hostile.mkdir()
    for name in HOSTILE_NAMES:
        Image.open(samples()[0].path).save(hostile / name)
    build(folder / "hostile.onnx", labels=HOSTILE_LABELS, model="<b>x</b>")
    common = ["--output", str(folder / "maps"), "--recursive"]
    methods = ["--method", "legrad", "--method", "rollout"]
    for arguments in (
        [folder / "several.onnx", pictures, "--report", folder / "report", *methods],
        [folder / "hostile.onnx", hostile, "--report", folder / "hostile", "--target", 0, "--target", 1],
    ):
        done = run("explain", *arguments, *common)
        assert done.exit_code == 0, done.output


def _images() -> dict[str, Image.Image]:
    """A scene as the model takes it, one that is resized, cropped and partly unseen, and one with transparency."""
    square, wide, transparent = (Image.open(item.path) for item in samples()[:3])
    mask = Image.linear_gradient("L").resize(transparent.size)
    transparent.putalpha(mask.point(lambda value: min(255, 2 * value)))
    return {"square": square, "wide": wide.resize((251, 140)), "transparent": transparent.resize((70, 133))}


def _noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def _save(path: Path, array: NDArray[np.float32]) -> str:
    path.write_bytes(np.ascontiguousarray(array).tobytes())
    return path.name


if __name__ == "__main__":
    target, node_modules = map(Path, sys.argv[1:])
    target.mkdir(parents=True, exist_ok=True)
    write_preprocessing(target)
    write_explanations(target)
    write_reports(target)
    artifacts = [target / f"{name}.onnx" for name in ARTIFACTS]
    page(artifacts, target / "own", onnxruntime_web=node_modules / "onnxruntime-web", force=True, quiet=True)
    page(artifacts[1:], target / "cdn", force=True, quiet=True)
