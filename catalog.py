"""What export can load: models with a name of their own and libraries of models, as rows of data.

It stands apart from ``export`` because the command line lists and checks names without importing PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

IMAGENET = 1000
"""Classes of ImageNet-1k."""


@dataclass(frozen=True)
class Library:
    """A library whose models are known as <library>/<name>.

    Attributes:
        about: What names it has, for the command ``models``.
        has_text: Whether it has models with a text encoder, which prompts need.
    """

    about: str
    has_text: bool = False


@dataclass(frozen=True)
class Row:
    """A model that can be loaded by name.

    Attributes:
        name: What the user calls it.
        architecture: What its library calls it, and after a dot its published weights.
        about: What it is, for the command ``models``.
        classes: Of the published weights, 0 where they have no head.
        library: The key of its loader.
        repository: Of the hub, where weights in transformers' format are to be preferred to the library's own.
        hf_type: How the model type of weights in transformers' format begins; empty for any.
        image_size: (height and width), where it is not the library's.
        crop_pct: Where it is not the library's.
        pooling: What a head reads, a key of ``export.POOLINGS``.
        unused_keys: How keys begin in checkpoints that are of other parts, such as a decoder.
        open_clip: Architecture and weights in open_clip of the same model with its text encoder, which prompts need.
    """

    name: str
    architecture: str
    about: str = ""
    classes: int = IMAGENET
    library: str = "timm"
    repository: str | None = None
    hf_type: str = ""
    image_size: int | None = None
    crop_pct: float | None = None
    pooling: str = "own"
    unused_keys: tuple[str, ...] = ()
    open_clip: str = ""


def _dinov2(name: str, size: str, registers: bool = False) -> Row:
    kind = "-with-registers" if registers else ""
    return Row(
        name,
        f"vit_{size}_patch14_{'reg4_' if registers else ''}dinov2.lvd142m",
        f"DINOv2 ViT-{size[0].upper()}/14{' with registers' if registers else ''} and its linear head",
        repository=f"facebook/dinov2{kind}-{size}-imagenet1k-1-layer",
        hf_type="dinov2_with_registers" if registers else "dinov2",
        image_size=224,
        crop_pct=0.875,
        pooling="cls+mean",
    )


MODELS = {
    row.name: row
    for row in (
        Row("vit", "vit_base_patch16_224.augreg2_in21k_ft_in1k", "supervised ViT-B/16", hf_type="vit"),
        Row("vit-reg", "vit_medium_patch16_reg4_gap_256.sbb_in12k_ft_in1k", "ViT-M/16 with registers, mean pooling"),
        Row("deit", "deit_tiny_patch16_224.fb_in1k", "DeiT-Ti/16", hf_type="deit"),
        Row("deit-small", "deit_small_patch16_224.fb_in1k", "DeiT-S/16", hf_type="deit"),
        Row("deit-base", "deit_base_patch16_224.fb_in1k", "DeiT-B/16", hf_type="deit"),
        Row("deit-distilled", "deit_tiny_distilled_patch16_224.fb_in1k", "DeiT-Ti/16, distilled", hf_type="deit"),
        Row("deit-small-distilled", "deit_small_distilled_patch16_224.fb_in1k", "DeiT-S/16, distilled", hf_type="deit"),
        Row("deit-base-distilled", "deit_base_distilled_patch16_224.fb_in1k", "DeiT-B/16, distilled", hf_type="deit"),
        Row("deit3", "deit3_base_patch16_224.fb_in22k_ft_in1k", "DeiT III ViT-B/16"),
        _dinov2("dinov2", "base"),
        _dinov2("dinov2-small", "small"),
        _dinov2("dinov2-large", "large"),
        _dinov2("dinov2-reg", "base", registers=True),
        Row("dinov3", "vit_base_patch16_dinov3.lvd1689m", "DINOv3 ViT-B/16", classes=0, hf_type="dinov3_vit"),
        Row(
            "mae",
            "vit_base_patch16_224.mae",
            "MAE ViT-B/16",
            classes=0,
            hf_type="vit_mae",
            unused_keys=("decoder_", "mask_token"),
        ),
        Row(
            "clip",
            "vit_base_patch16_clip_quickgelu_224.openai",
            "CLIP ViT-B/16, OpenAI",
            classes=0,
            hf_type="clip",
            open_clip="ViT-B-16-quickgelu/openai",
        ),
        Row(
            "clip-laion",
            "vit_base_patch16_clip_224.laion2b",
            "CLIP ViT-B/16, LAION-2B",
            classes=0,
            hf_type="clip",
            open_clip="ViT-B-16/laion2b_s34b_b88k",
        ),
        Row("clip-ft", "vit_base_patch16_clip_224.openai_ft_in1k", "CLIP ViT-B/16, OpenAI, fine-tuned"),
        Row(
            "siglip",
            "vit_base_patch16_siglip_224.webli",
            "SigLIP ViT-B/16, attention pool",
            classes=0,
            hf_type="siglip",
            open_clip="ViT-B-16-SigLIP/webli",
        ),
        Row("eva02", "eva02_small_patch14_336.mim_in22k_ft_in1k", "EVA-02-S/14 at 336 pixels"),
        Row("beit", "beit_base_patch16_224.in22k_ft_in22k_in1k", "BEiT-B/16", hf_type="beit"),
    )
}
"""The models with a name of their own."""

LIBRARIES = {
    "timm": Library("any Vision Transformer of timm, such as timm/vit_small_patch16_224"),
    "hf": Library(
        "a folder or hub repository in transformers' format, such as hf/google/vit-base-patch16-224", has_text=True
    ),
    "torchvision": Library("a Vision Transformer of torchvision, such as torchvision/vit_b_16"),
    "open_clip": Library(
        "a vision tower of open_clip, such as open_clip/ViT-B-16 or open_clip/ViT-B-16/laion2b_s34b_b88k",
        has_text=True,
    ),
}
"""Beside MODELS and ``demo``; each has its loader in ``export.models.loading.LOADERS``."""
DEMO = "demo"
"""The name of the model that comes with the package."""

OTHER_NAMES = {
    "dino": ("dinov2", "dinov3"),
    "eva": ("eva02",),
    "openai": ("clip",),
    "openclip": ("clip-laion",),
    "laion": ("clip-laion",),
    "vit-b": ("vit",),
    "vit-b/16": ("vit",),
    "vit-base": ("vit",),
    "vit_b_16": ("vit", "torchvision/vit_b_16"),
}
"""What else models are called, in lower case. Misspelt names of ours are found without."""


def find_row(name: str) -> Row:
    """The row that a name stands for.

    Args:
        name: A key of MODELS, "demo", or "<library>/<name>" with a key of LIBRARIES.

    Returns:
        The row of MODELS, or one made of the library and the name in it.

    Raises:
        OnnxplainError: If it is none of these; says what may have been meant.
    """
    from onnxplain.contract import OnnxplainError
    from onnxplain.contract.names import nearest, no_such

    if not isinstance(name, str):
        raise OnnxplainError(f"a model must be a name, got {type(name).__name__}; see MODELS and LIBRARIES")
    library, slash, rest = name.partition("/")
    if name in MODELS:
        return MODELS[name]
    if name == DEMO:
        return Row(name, DEMO, classes=0, library=DEMO)
    if slash and library in LIBRARIES:
        return Row(name, rest, classes=0, library=library)
    names = [*MODELS, DEMO, *(f"{known}/<name>" for known in LIBRARIES)]
    meant: Sequence[str] = OTHER_NAMES.get(name.casefold(), ())
    if not meant and slash:
        meant = [f"{known}/{rest}" for known in nearest(library, LIBRARIES)] or [f"hf/{name}"]
    if not meant and "_patch" in name:
        meant = [f"timm/{name}"]
    raise OnnxplainError(no_such("model", name, names, {name.casefold(): meant}))
