"""Supported models as rows of data, for which nothing needs to be imported; export builds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

IMAGENET = 1000
"""Classes of ImageNet-1k."""


@dataclass(frozen=True)
class Row:
    """One line of the table of models.

    timm_name: architecture and, after the dot, its published weights. classes: of these, 0 where they have no head.
    repository: where weights are published in transformers' format that are to be preferred to timm's.
    type: what such weights call the model, at its beginning. image_size, crop_pct: where they are not timm's.
    pooling: what a head reads, see POOLINGS. drop: beginnings of keys in checkpoints that are of other parts.
    open_clip: architecture and weights of the same model with its text encoder, which prompts need.
    """

    name: str
    timm_name: str
    about: str
    classes: int = IMAGENET
    repository: str | None = None
    type: str = ""
    image_size: int | None = None
    crop_pct: float | None = None
    pooling: str = "own"
    drop: tuple[str, ...] = ()
    open_clip: str = ""


def _dinov2(name: str, size: str, registers: bool = False) -> Row:
    kind = "-with-registers" if registers else ""
    return Row(
        name,
        f"vit_{size}_patch14_{'reg4_' if registers else ''}dinov2.lvd142m",
        f"DINOv2 ViT-{size[0].upper()}/14{' with registers' if registers else ''} and its linear head",
        repository=f"facebook/dinov2{kind}-{size}-imagenet1k-1-layer",
        type="dinov2_with_registers" if registers else "dinov2",
        image_size=224,
        crop_pct=0.875,
        pooling="cls+mean",
    )


MODELS = {
    row.name: row
    for row in (
        Row("vit", "vit_base_patch16_224.augreg2_in21k_ft_in1k", "supervised ViT-B/16", type="vit"),
        Row("vit-reg", "vit_medium_patch16_reg4_gap_256.sbb_in12k_ft_in1k", "ViT-M/16 with registers, mean pooling"),
        Row("deit", "deit_tiny_patch16_224.fb_in1k", "DeiT-Ti/16", type="deit"),
        Row("deit-small", "deit_small_patch16_224.fb_in1k", "DeiT-S/16", type="deit"),
        Row("deit-base", "deit_base_patch16_224.fb_in1k", "DeiT-B/16", type="deit"),
        Row("deit-distilled", "deit_tiny_distilled_patch16_224.fb_in1k", "DeiT-Ti/16, distilled", type="deit"),
        Row("deit-small-distilled", "deit_small_distilled_patch16_224.fb_in1k", "DeiT-S/16, distilled", type="deit"),
        Row("deit-base-distilled", "deit_base_distilled_patch16_224.fb_in1k", "DeiT-B/16, distilled", type="deit"),
        Row("deit3", "deit3_base_patch16_224.fb_in22k_ft_in1k", "DeiT III ViT-B/16"),
        _dinov2("dinov2", "base"),
        _dinov2("dinov2-small", "small"),
        _dinov2("dinov2-large", "large"),
        _dinov2("dinov2-reg", "base", registers=True),
        Row("dinov3", "vit_base_patch16_dinov3.lvd1689m", "DINOv3 ViT-B/16", 0, type="dinov3_vit"),
        Row(
            "mae",
            "vit_base_patch16_224.mae",
            "MAE ViT-B/16",
            classes=0,
            type="vit_mae",
            drop=("decoder_", "mask_token"),
        ),
        Row(
            "clip",
            "vit_base_patch16_clip_quickgelu_224.openai",
            "CLIP ViT-B/16, OpenAI",
            classes=0,
            type="clip",
            open_clip="ViT-B-16-quickgelu/openai",
        ),
        Row(
            "clip-laion",
            "vit_base_patch16_clip_224.laion2b",
            "CLIP ViT-B/16, LAION-2B",
            classes=0,
            type="clip",
            open_clip="ViT-B-16/laion2b_s34b_b88k",
        ),
        Row("clip-ft", "vit_base_patch16_clip_224.openai_ft_in1k", "CLIP ViT-B/16, OpenAI, fine-tuned"),
        Row(
            "siglip",
            "vit_base_patch16_siglip_224.webli",
            "SigLIP ViT-B/16, attention pool",
            classes=0,
            type="siglip",
            open_clip="ViT-B-16-SigLIP/webli",
        ),
        Row("eva02", "eva02_small_patch14_336.mim_in22k_ft_in1k", "EVA-02-S/14 at 336 pixels"),
        Row("beit", "beit_base_patch16_224.in22k_ft_in22k_in1k", "BEiT-B/16", type="beit"),
    )
}
"""The models with a name of their own."""

SOURCES = {
    "timm": "any Vision Transformer of timm, such as timm/vit_small_patch16_224",
    "hf": "a folder or hub repository in transformers' format, such as hf/google/vit-base-patch16-224",
    "torchvision": "a Vision Transformer of torchvision, such as torchvision/vit_b_16",
    "open_clip": "a vision tower of open_clip, such as open_clip/ViT-B-16 or open_clip/ViT-B-16/laion2b_s34b_b88k",
}
"""The libraries whose models are known as <library>/<name>, beside MODELS and ``demo``."""
WITH_TEXT = ("hf", "open_clip")
"""Those of them that have models with a text encoder."""
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
"""What else models are called, in lower case; what is merely like a name of ours is found without."""


def find_row(name: str) -> Row:
    """The row of that name, or one for a name of a library's.

    Raises OnnxplainError if it is neither, with what may have been meant.
    """
    source, slash, rest = name.partition("/")
    if name in MODELS:
        return MODELS[name]
    if name == DEMO or (slash and source in SOURCES):
        return Row(name, rest, "", classes=0)
    from onnxplain.contract import OnnxplainError
    from onnxplain.contract.names import nearest, no_such

    names = [*MODELS, DEMO, *(f"{library}/<name>" for library in SOURCES)]
    meant: Sequence[str] = OTHER_NAMES.get(name.casefold(), ())
    if not meant and slash:
        meant = [f"{library}/{rest}" for library in nearest(source, SOURCES)] or [f"hf/{name}"]
    if not meant and "_patch" in name:
        meant = [f"timm/{name}"]
    raise OnnxplainError(no_such("model", name, names, {name.casefold(): meant}))
