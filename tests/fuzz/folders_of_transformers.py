"""Folders as transformers writes them, with a damaged configuration, processor or weights."""

import json
import random
import shutil
import warnings
from pathlib import Path
from typing import Any

from tests.fuzz import tensors
from tests.fuzz.cases import Case
from tests.fuzz.checkpoints import judge
from tests.fuzz.exports import NOT_FINITE, export_until_read
from tests.fuzz.images import noise
from tests.fuzz.mutators import mutate_bytes, mutate_json

MODELS = ("vit", "dinov2")
CONFIG, PROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
LIKELY = {
    CONFIG: ("id2label", "label2id", "architectures", "num_hidden_layers", "hidden_size", "image_size", "patch_size",
             "model_type", "num_attention_heads", "dtype", "hidden_act", "num_channels"),
    PROCESSOR: ("size", "crop_size", "resample", "image_mean", "image_std", "rescale_factor", "do_resize", "do_rescale",
                "do_normalize", "do_center_crop", "image_processor_type"),
}  # fmt: skip
"""The fields that are read, which most of the damage is done to."""


def prepare(base: Path) -> None:
    """A folder for each model."""
    from tests.helpers.transformers_models import CLASSIFIERS, save

    for name in MODELS:
        (base / name).mkdir()
        save(base / name, name, *CLASSIFIERS[name])


def make(rng: random.Random, base: Path, folder: Path) -> Case:
    """A folder of which one file is damaged."""
    name = rng.choice(MODELS)
    shutil.copytree(base / name, folder / "model")
    file = rng.choice((CONFIG, CONFIG, PROCESSOR, PROCESSOR, WEIGHTS))
    path = folder / "model" / file
    if rng.random() < 0.04:
        path.unlink()
        about = "missing"
    elif file == WEIGHTS:
        data = path.read_bytes()
        changed, about = tensors.mutate_header(data, rng) if rng.random() < 0.5 else mutate_bytes(data, rng)
        path.write_bytes(changed)
    else:
        changed, about = _mutated(json.loads(path.read_text()), LIKELY[file], rng)
        path.write_bytes(changed)
    arguments = ("export", "--model", "hf/model", "--output", "out.onnx")
    work = export_until_read(arguments, lambda backbone: inspect(backbone, Path("model")))
    return Case(f"{name}, {file}: {about}", arguments, judge, work)


def _mutated(document: dict[str, Any], likely: tuple[str, ...], rng: random.Random) -> tuple[bytes, str]:
    if rng.random() < 0.25:
        return mutate_json(document, rng)
    name = rng.choice([name for name in likely if name in document])
    part, about = mutate_json({name: document[name]}, rng)
    rest = json.dumps({key: value for key, value in document.items() if key != name}).encode()
    if part.startswith(b"{") and part.endswith(b"}") and len(part) > 2:
        return rest[:-1] + b", " + part[1:], about
    return part, about


def inspect(backbone: Any, folder: Path) -> str | None:
    """What the model answers other than transformers does with the same folder."""
    import torch
    import transformers

    from onnxplain.runtime import preprocess

    warnings.simplefilter("ignore")
    transformers.utils.logging.disable_progress_bar()
    picture = noise(70, 50)
    try:
        theirs = transformers.AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32).eval()
        processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
        pixels = processor(picture, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            try:
                wanted = theirs(pixels).logits
            except ValueError:  # another size than in training
                wanted = theirs(pixels, interpolate_pos_encoding=True).logits
            given = backbone.model(torch.from_numpy(preprocess(picture, backbone.preprocessing)[0])[None])
    except Exception as error:  # what the library cannot use may not be used here
        return f"transformers fails on what was taken: {type(error).__name__}: {str(error)[:200]}"
    if given.shape != wanted.shape:
        return f"logits {list(given.shape)}, transformers gives {list(wanted.shape)}"
    if not torch.isfinite(given).all() and not torch.isfinite(wanted).all():
        return NOT_FINITE
    if not torch.isfinite(given).all() or not (given - wanted).abs().max() <= 1e-4 * (1 + wanted.abs().max()):
        return f"logits {given[0, :3].tolist()}, transformers gives {wanted[0, :3].tolist()}"
    names = [str(theirs.config.id2label[index]) for index in range(wanted.shape[1])]
    numbers = [str(index) for index in range(len(names))]
    made_up = all(name == f"LABEL_{index}" for index, name in enumerate(names))
    if list(backbone.labels) != (numbers if made_up else names):
        return f"labels {backbone.labels[:3]}, transformers has {names[:3]}"
    return None
