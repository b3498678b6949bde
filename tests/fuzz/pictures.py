"""Pictures: encoded in every way the runtime takes, then damaged, enlarged by a lie, or of another format than named.

The right answer is that for the picture as Pillow decodes it, prepared by timm's transform and run by onnxruntime: the
classes and probabilities that are printed, and an overlay of the picture's size. A format that no suffix stands for
is to be refused. What cannot be decoded there may not be answered here.
"""

import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from tests.fuzz.cases import Case, Outcome
from tests.fuzz.images import SAVED, disguised, encoded, mutate_image

ARTIFACT = "tiny.onnx"
METHODS = ("rollout", "attnlrp", "legrad")
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM")
"""What the runtime's suffixes stand for."""


def imports() -> None:
    """The judge's libraries, and what artifacts need."""
    import timm.data  # noqa: F401

    from tests.fuzz import artifacts

    artifacts.imports()


def prepare(base: Path) -> None:
    """The artifact that is asked."""
    from tests.helpers.tiny_artifact import build

    build(base / ARTIFACT)


def make(rng: random.Random, base: Path, folder: Path) -> Case:
    """A damaged picture."""
    if rng.random() < 0.06:
        name, data = disguised(rng)
        about = "disguised"
    else:
        name, data = encoded(rng.randrange(len(SAVED)))
        kind = name
        if rng.random() < 0.04:
            name, about = f"a.{rng.choice(('png', 'jpg', 'txt', 'eps'))}", f"named {name}"
        else:
            data, about = mutate_image(kind, data, rng)
    (folder / name).write_bytes(data)
    shutil.copy(base / ARTIFACT, folder)
    arguments = ("explain", ARTIFACT, name, "--method", rng.choice(METHODS), "--device", "cpu", "--layout", "bare")
    return Case(f"{name}: {about}", arguments, lambda outcome: judge(outcome, name), apart=True)


def judge(outcome: Outcome, name: str) -> str | None:
    """What is wrong with an answer to the picture of that name."""
    if outcome.status != 0:
        return None
    try:
        picture = decoded(outcome.folder / name)
    except Exception as error:
        return f"answered a picture that cannot be read: {type(error).__name__}: {error}"
    heading = f"{name}, {picture.width} x {picture.height} pixels"
    if heading not in outcome.stdout.splitlines():
        return f"does not say {heading!r}"
    if outcome.new_files:
        with Image.open(outcome.folder / outcome.new_files[0]) as overlay:
            if overlay.size != picture.size:
                return f"an overlay of {overlay.size} for a picture of {picture.size}"
    else:
        return "no overlay was written"
    return compare_top(outcome.stdout, logits(picture, outcome.folder / ARTIFACT))


def decoded(path: Path) -> Image.Image:
    """The first frame, upright, in RGB, over white; more than 8 bits scaled to the first white level that fits."""
    with Image.open(path, formats=FORMATS) as file:
        picture = ImageOps.exif_transpose(file)
    levels = {"I": [255, 65535], "F": [1, 255, 65535]}.get(picture.mode)
    levels = [65535] if picture.mode.startswith("I;16") else levels
    if levels is not None:
        values = np.asarray(picture).astype(np.float64)
        level = min(level for level in levels if level * (1.5 if picture.mode == "F" else 1) >= values.max())
        picture = Image.fromarray(np.clip(np.round(values * (255 / level)), 0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        over = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        over.alpha_composite(picture.convert("RGBA"))
        picture = over
    return picture.convert("RGB")


def logits(picture: Image.Image, artifact: Path) -> np.ndarray[Any, Any]:
    """Of the small artifact, by timm and onnxruntime alone."""
    import onnxruntime
    from timm.data import create_transform

    transform = create_transform(
        (3, 16, 24), mean=(0.5,) * 3, std=(0.25,) * 3, crop_pct=0.9, crop_mode="center", interpolation="bicubic"
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(artifact), options, providers=["CPUExecutionProvider"])
    pixels = np.asarray(transform(picture))[None]
    values: np.ndarray[Any, Any] = session.run(["logits"], {"pixels": pixels, "target": np.zeros((1, 1), np.int64)})[0][
        0
    ]
    return values


def compare_top(printed: str, values: np.ndarray[Any, Any]) -> str | None:
    """Whether the table shows the classes with the greatest logits, and their probabilities in percent."""
    shares = np.exp(values - values.max()) / np.exp(values - values.max()).sum()
    rows = re.findall(r"^ +(\d) +.*? +(\d+) +([\d.]+|nan)%$", printed, re.MULTILINE)
    if len(rows) != 5:
        return f"prints {len(rows)} classes"
    for rank, index, percent in rows:
        exact = 100 * np.sort(shares)[-int(rank)]
        if not (abs(float(percent) - exact) < 0.02 and abs(100 * shares[int(index)] - exact) < 0.02):
            return f"rank {rank} is class {index} with {percent}%, it should be {exact:.2f}%"
    return None
