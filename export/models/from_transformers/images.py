"""How image processors of transformers prepare images, in the terms of timm's evaluation transform."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from onnxplain.contract import OnnxplainError, Preprocessing
from onnxplain.contract.errors import one_line

from ..sizes import crop_pct
from .checks import check_processor

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
"""The files that can describe the image processor; the second describes the tokenizer as well."""
PROCESSORS = ("ViT", "DeiT", "Bit", "CLIP", "Siglip", "Beit", "DINOv3ViT")
"""Image processors that resize, crop in the centre and normalise, in this order."""


def read_preprocessing(
    library: Any,
    folder: Path,
    image_size: tuple[int, int] | None,
    trained_size: tuple[int, int] | None = None,
    fields: Mapping[str, Any] | None = None,
) -> Preprocessing:
    """What the image processor's file in a folder says.

    Crops start where those of transformers' own processors on Pillow do.

    Args:
        library: transformers.
        folder: Of the model.
        image_size: (height, width) in place of the processor's.
        trained_size: (height, width) that the model was trained with, which counts where there is no such file.
        fields: Of Preprocessing, which count where there is no such file; mean and std must be among them then.

    Raises:
        OnnxplainError: If there is neither, or the file asks for something that Preprocessing cannot do.
    """
    file = next((folder / name for name in PROCESSOR_FILES if (folder / name).is_file()), None)
    size = image_size or trained_size
    if file is None and fields and {"mean", "std"} <= fields.keys() and size is not None:
        return Preprocessing(**{"size": size, "crop_rounding": "floor", **fields})
    if file is None:
        raise OnnxplainError(
            f"{folder} holds no {PROCESSOR_FILES[0]}; copy it from the model that this one comes from, or give the "
            "preprocessing: `mean` and `std`, and if they differ from timm's defaults `crop_pct`, `crop_mode` and "
            f"`interpolation`{'' if size else ', and `image_size`'}"
        )
    try:
        processor = library.AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False)
    except Exception as error:
        raise OnnxplainError(f"transformers cannot read {file}: {one_line(error)}") from error
    check_processor(file, processor)
    kind = type(processor).__name__.removesuffix("Pil").removesuffix("ImageProcessor")
    if kind not in PROCESSORS:
        known = ", ".join(f"{name}ImageProcessor" for name in PROCESSORS)
        raise OnnxplainError(f"{file} is of a {kind}ImageProcessor; known are {known}")
    if not processor.do_resize or not processor.do_rescale or abs(processor.rescale_factor * 255 - 1) > 1e-6:
        raise OnnxplainError(f"{file} must resize images and rescale them by 1/255")
    edge = processor.size.get("shortest_edge")
    resized = (edge, edge) if edge else (processor.size["height"], processor.size["width"])
    crops = getattr(processor, "do_center_crop", False)
    if edge and not crops:
        raise OnnxplainError(
            f"{file} must have do_center_crop and a crop_size where size is a shortest_edge, or images of "
            "different shapes would be inputs of different sizes"
        )
    crop = (processor.crop_size["height"], processor.crop_size["width"]) if crops else resized
    try:
        return Preprocessing(
            size=image_size or crop,
            mean=tuple(processor.image_mean) if processor.do_normalize else (0.0, 0.0, 0.0),
            std=tuple(processor.image_std) if processor.do_normalize else (1.0, 1.0, 1.0),
            crop_pct=crop_pct(crop, resized),
            crop_mode="center" if edge else "squash",
            interpolation=Image.Resampling(int(processor.resample)).name.lower(),
            crop_rounding="floor",
        )
    except OnnxplainError as error:
        raise OnnxplainError(f"{file}: {error}") from error
