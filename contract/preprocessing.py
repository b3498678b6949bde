"""How an image becomes the input of a model."""

from dataclasses import dataclass

from .validation import SIDE, Rule, is_number, is_pair, is_tuple, validate

CROP_MODES = ("center", "squash", "border")
CROP_ROUNDINGS = ("half_even", "floor")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")

CROP_PCT = (0.1, 10)  # bounds, far beyond any model's
MEAN, STD = (-10, 10), (1e-3, 1e3)


def _three_numbers(least: float, most: float) -> Rule:
    return (
        f"three numbers from {least:g} to {most:g}",
        lambda value: is_tuple(value, lambda item: is_number(item, least, most), 3),
    )


PREPROCESSING_RULES: dict[str, Rule] = {
    "size": (f"[height, width], two integers from 1 to {SIDE}", is_pair),
    "crop_pct": (f"a number from {CROP_PCT[0]} to {CROP_PCT[1]}", lambda value: is_number(value, *CROP_PCT)),
    "crop_mode": (f"one of {', '.join(CROP_MODES)}", lambda value: value in CROP_MODES),
    "crop_rounding": (f"one of {', '.join(CROP_ROUNDINGS)}", lambda value: value in CROP_ROUNDINGS),
    "interpolation": (f"one of {', '.join(INTERPOLATIONS)}", lambda value: value in INTERPOLATIONS),
    "mean": _three_numbers(*MEAN),
    "std": _three_numbers(*STD),
}


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the model's input, in the terms of timm's evaluation transform.

    Attributes:
        size: (height, width) of the input, in pixels.
        mean: Of each RGB channel, for values in [0, 1].
        std: The same for the deviation.
        crop_pct: The input's size / the size that images are resized to.
        crop_mode: "center", "squash" or "border".
        interpolation: Pillow's, by name.
        crop_rounding: Where a centred crop starts if an odd number of pixels is left over: "half_even" as in timm and
            torchvision, where half of what is cut off is rounded to even and half of a padding down; "floor" as in
            transformers, at floor((resized - size) / 2).

    Raises:
        OnnxplainError: A field is not valid; the message names it.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float = 0.875
    crop_mode: str = "center"
    interpolation: str = "bicubic"
    crop_rounding: str = "half_even"

    def __post_init__(self) -> None:
        validate(self, PREPROCESSING_RULES)

    @property
    def padding(self) -> tuple[int, int, int]:
        """The colour where the crop is larger than the image, 8-bit RGB: the mean with "border", else black."""
        red, green, blue = (
            min(max(round(255 * value), 0), 255) if self.crop_mode == "border" else 0 for value in self.mean
        )
        return red, green, blue
