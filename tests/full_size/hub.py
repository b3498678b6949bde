"""Every row of the table from a hub, as a new user would have it: export, explain, and the library's own answer.

    python tests/full_size/hub.py [ROW …] [--passes PASS,…] [--method NAME] [--seed N]

ROW is a name of the table, or clip+prompts, clip-laion+prompts, siglip+prompts; by default all. Run by hand: a row
takes one to three minutes, and 2 GB of disk while it runs. The repository that the row's weights are published in is
made in its layout by the library that publishes it, with the random weights that this library begins with, at full
size, and stands on a server on 127.0.0.1 (hub_server.py). Everything else is a program of its own: `export --model ROW`
with an empty cache, then `explain` of a photograph. Compared are the logits (features, where the row has no classes) of
the file for that photograph with those of the library's model for the photograph as the library's own processor
prepares it.

It prints for each row: seconds of the export; what the gate found, the output that comes nearest to its limit; the
greatest difference of the logits, of their greatest value; the greatest difference of the pixels that the model sees,
in steps of 1/255; and where the library's processor is there in two versions, the same for the other. It ends with
status 1 if logits differ by more than 1e-4, or a command fails.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import open_clip
import skimage.data
import timm
import torch
import transformers
from open_clip.push_to_hf_hub import save_for_hf as save_open_clip
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from timm.models import get_pretrained_cfg
from timm.models import save_for_hf as save_timm

from onnxplain.export import MODELS
from onnxplain.runtime import Explainer
from onnxplain.runtime.images.preprocessing import preprocess
from tests.full_size.backbones import CLIP_PROCESSOR, DINOV2_PROCESSOR, openai_tokenizer
from tests.helpers.hub_server import Hub
from tests.helpers.text_models import siglip_tokenizer

ROOT = Path(__file__).parents[2]
PROMPTS = ["a photo of a cat", "this is a very large dog", "two crane"]
LIMIT = 1e-4
DINOV2 = {  # width, heads, layers, registers
    "dinov2": (768, 12, 12, 0),
    "dinov2-small": (384, 6, 12, 0),
    "dinov2-large": (1024, 16, 24, 0),
    "dinov2-reg": (768, 12, 12, 4),
}


@dataclass
class Published:
    """A model in its repository. answers: by the name of a processor, its pixels and what the model says of them."""

    repository: str
    answers: dict[str, tuple[torch.Tensor, torch.Tensor]]


def from_timm(row, folder, picture):
    model = timm.create_model(row.architecture).eval()
    repository = get_pretrained_cfg(row.architecture).hf_hub_id
    save_timm(model, folder / repository, safe_serialization=True)
    pixels = create_transform(**resolve_model_data_config(model), is_training=False)(picture).unsqueeze(0)
    return Published(repository, {"timm": (pixels, model(pixels))})


def from_transformers(row, folder, picture):
    width, heads, layers, registers = DINOV2[row.name]
    sizes = {
        "hidden_size": width, "num_attention_heads": heads, "num_hidden_layers": layers, "image_size": 518,
        "patch_size": 14, "num_labels": 1000,
    }  # fmt: skip
    if registers:
        config = transformers.Dinov2WithRegistersConfig(**sizes, num_register_tokens=registers)
        model = transformers.Dinov2WithRegistersForImageClassification(config).eval()
    else:
        model = transformers.Dinov2ForImageClassification(transformers.Dinov2Config(**sizes)).eval()
    model.save_pretrained(folder / row.repository)
    (folder / row.repository / "preprocessor_config.json").write_text(json.dumps(DINOV2_PROCESSOR))
    answers = {}
    for backend in ("pil", "torchvision"):
        processor = transformers.AutoImageProcessor.from_pretrained(folder / row.repository, backend=backend)
        pixels = processor(picture, return_tensors="pt")["pixel_values"]
        answers[type(processor).__name__] = pixels, model(pixels).logits
    return Published(row.repository, answers)


def from_open_clip(row, folder, picture):
    architecture, tag = row.open_clip.split("/")
    published = open_clip.get_pretrained_cfg(architecture, tag)
    settings = {f"image_{key}": published[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    model, _, transform = open_clip.create_model_and_transforms(architecture, **settings)
    repository = published["hf_hub"].rstrip("/")
    words = siglip_tokenizer(64) if row.name == "siglip" else openai_tokenizer()
    config = open_clip.get_model_config(architecture)
    save_open_clip(model.eval(), words, config, folder / repository, safe_serialization=True)
    if row.name != "siglip":  # as that of transformers, with which it shares the repository
        (folder / repository / "config.json").write_text("{}")
        (folder / repository / "preprocessor_config.json").write_text(json.dumps(CLIP_PROCESSOR))
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder / repository}" if row.name == "siglip" else architecture)
    pixels = transform(picture).unsqueeze(0)
    logits, _ = model.get_logits(pixels, tokenizer(PROMPTS))
    return Published(repository, {"open_clip": (pixels, logits)})


CASES = {name: (row, from_transformers if row.repository else from_timm) for name, row in MODELS.items()}
CASES |= {f"{name}+prompts": (row, from_open_clip) for name, row in MODELS.items() if row.open_clip}


def run(*arguments, env):
    """A command of onnxplain as a program of its own; its last line if it fails."""
    program = [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)]
    done = subprocess.run(program, env=env, capture_output=True, text=True, cwd=ROOT)
    return None if done.returncode == 0 else f"{arguments[0]}: {done.stderr.strip() or done.stdout[-300:]}"


def difference(given, expected):
    return float((given - expected).abs().max() / expected.abs().max())


def check(name, options, folder):
    """Print the line of a row; whether all is well."""
    row, publish = CASES[name]
    photograph = folder / "chelsea.png"
    picture = Image.fromarray(skimage.data.chelsea())
    picture.save(photograph)
    torch.manual_seed(options.seed)
    with torch.no_grad():
        published = publish(row, folder / "hub", picture)
    with Hub(folder / "hub") as hub:
        elsewhere = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}  # where nobody is
        here = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "home"), "no_proxy": "127.0.0.1,localhost"}
        env = os.environ | elsewhere | here | {"TORCH_HOME": str(folder / "home")}
        artifact = folder / "artifact.onnx"
        given = ["--prompts", *PROMPTS] if name.endswith("+prompts") else []
        has_classes = row.classes or name.endswith("+prompts")
        passes = ["--passes", options.passes] if options.passes and has_classes else []
        started = time.monotonic()
        trouble = run("export", "--model", row.name, "--output", artifact, *given, *passes, env=env)
        seconds = time.monotonic() - started
        method = [] if options.method is None else ["--method", options.method]
        trouble = trouble or run("explain", artifact, photograph, "--output", folder / "maps", *method, env=env)
        asked = {path.rpartition("/")[0] for path in hub.downloads()}
    if trouble is None and asked != {published.repository}:
        trouble = f"downloads came from {', '.join(sorted(asked))}, not {published.repository}"
    if trouble is None and not list((folder / "maps").glob("*.png")):
        trouble = "explain wrote no map"
    if trouble is not None:
        print(f"| {name} | {published.repository} | {seconds:.0f} | {trouble} |", flush=True)
        return False
    explainer = Explainer(artifact, "cpu")
    logits = torch.from_numpy(explainer.tensors(photograph, passes=[])["logits"])
    settings = explainer.metadata.preprocessing
    pixels = torch.from_numpy(preprocess(picture, settings)[0]).unsqueeze(0)
    steps = 255 * torch.tensor(settings.std).reshape(3, 1, 1)
    cells, good = [], []
    for processor, (seen, expected) in published.answers.items():
        error = difference(logits, expected)
        good.append(error <= LIMIT and float(expected.std()) > 0)
        cells.append(f"{processor}: {error:.1e}, pixels {float(((pixels - seen) * steps).abs().max()):.2g}")
    nearest = max(explainer.metadata.parity["checks"], key=lambda row: row["value"] / row["limit"])
    gate = f"{nearest['output']} {nearest['value']:.1e} of {nearest['limit']:.0e}"
    print(f"| {name} | {published.repository} | {seconds:.0f} | {gate} | {'; '.join(cells)} |", flush=True)
    return good[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", default=list(CASES))
    parser.add_argument("--passes", help="of the export, where there are classes; by default all")
    parser.add_argument("--method", help="of explain, by default the file's best")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    options = parser.parse_args()
    unknown = [name for name in options.rows if name not in CASES]
    if unknown:
        parser.error(f"there is no row {unknown[0]}; there are {', '.join(CASES)}")
    print(
        "| row | repository | s | gate | of the library's processor: difference of the logits, of the pixels |",
        flush=True,
    )
    print("|---|---|---|---|---|", flush=True)
    good = []
    for name in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            good.append(check(name, options, Path(folder)))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
