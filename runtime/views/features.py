"""The features of patches as colours, after the figures of DINOv2 (Oquab et al. 2023, sections 1 and 7): for no class.

The patches of all images are taken together. Their first principal component tells the foreground from the background,
where it is above 0 and below. The three first components of the foreground's patches alone are red, green and blue.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.metadata import Metadata
from onnxplain.contract.outputs import PASSES
from onnxplain.contract.validation import is_int

from ..backends.base import Artifact
from ..figures.figure import fitted
from ..finite import check_finite
from ..images.geometry import Placement
from ..images.inputs import PreparedImage
from ..outcome import Outcome
from .artifacts import Run, check_full, run_batches

OUTPUT = PASSES["features"].output
COLOURS = 3
MOST = 448  # pixels of the longer side of what is kept of an image, as all images are held together


@dataclass(frozen=True, eq=False)
class PatchFeatures:
    """What the model's last layer has of each patch of one image.

    Attributes:
        values: float32 [h, w, width].
        image: The image as RGB, made smaller where its longer side has more than 448 pixels.
        placement: Where the model's input lies in it.
        size: (width, height) of the image before that.
    """

    values: NDArray[np.float32]
    image: Image.Image
    placement: Placement
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Features:
    """The principal components of the patches of some images, which were taken together.

    Attributes:
        values: float32 [images, h, w, width], the features of the patches.
        first: float32 [images, h, w], their first principal component. Its sign is such that its mean along the borders
            of the images is not above 0: the background reaches there more often.
        foreground: bool [images, h, w], where `first` is above 0.
        colours: float32 [images, h, w, 3], red, green and blue: the three first principal components of the
            foreground's patches, each scaled so that it goes from 0 to 1 in all images together; 0 in the background.
            Each has the sign with which the largest number of its axis is positive. A component in which patches do not
            differ, by more than float32 rounds, is 0.
        model: The model's name.
        images: The images as RGB, made smaller where their longer sides have more than 448 pixels.
        placements: Where the model's input lies in each of these.
    """

    values: NDArray[np.float32]
    first: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    colours: NDArray[np.float32]
    model: str
    images: tuple[Image.Image, ...]
    placements: tuple[Placement, ...]

    def __repr__(self) -> str:
        """Sizes, in one line."""
        count, rows, columns, width = self.values.shape
        return (
            f"<Features of {count} image{'' if count == 1 else 's'}: {rows} x {columns} patches of {width} numbers, "
            f"{self.foreground.mean():.0%} of them in the foreground>"
        )

    def figure(self, number: int | None = None) -> Image.Image:
        """A row for each image: the image, its foreground, and the colours of that.

        Args:
            number: Of the one image that is shown, from 0; None for all.

        Returns:
            RGB.

        Raises:
            OnnxplainError: If there is no such image.
        """
        from ..figures.formats import to_image
        from ..figures.views import features_figure

        count = len(self.images)
        if number is not None and not is_int(number, 0, count - 1):
            raise OnnxplainError(f"`number` must be an integer from 0 to {count - 1}, or None for all, got {number!r}")
        return to_image(features_figure(self, range(count) if number is None else [number]))


def patch_features(
    artifact: Artifact, images: Iterable[Outcome[PreparedImage]], size: int | None = None
) -> Iterator[Outcome[PatchFeatures]]:
    """The features of each image's patches.

    Args:
        artifact: What runs the graph.
        images: What it takes.
        size: How many images one run takes at most; None to choose it.

    Raises:
        OnnxplainError: If the artifact has no features; at once.
    """
    metadata = artifact.metadata
    check_full(metadata, "features")
    if "features" not in metadata.passes:
        wanted = ",".join([*metadata.passes, "features"])
        raise OnnxplainError(
            f"this artifact has no pass features; it has: {', '.join(metadata.passes)}; export it again with `passes` "
            f"{wanted}"
        )
    runs = run_batches(artifact, images, [OUTPUT], size)
    return (outcome.then(partial(_of_patches, metadata=metadata)) for outcome in runs)


def _of_patches(run: Run, metadata: Metadata) -> PatchFeatures:
    image, outputs = run
    patches = outputs[OUTPUT][metadata.prefix_tokens :].astype(np.float32)
    check_finite("the features of patches", patches)
    shown = image.image
    if max(shown.size) > MOST:
        size = fitted(shown.size, 1, MOST)
        shown = shown.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    placement = replace(image.placement, original=(shown.height, shown.width))
    return PatchFeatures(patches.reshape(*metadata.patch_grid, -1), shown, placement, image.image.size)


def principal_colours(images: Sequence[PatchFeatures], model: str) -> Features:
    """The principal components of the patches of these images, at least one, taken together."""
    values = np.stack([image.values for image in images])
    count, *grid, width = values.shape
    patches = list(values.reshape(count, -1, width))
    first = _components(patches, 1).reshape(count, *grid)
    if first[:, _border(grid)].mean() > 0:
        first = -first
    foreground = first > 0
    colours = np.zeros((count, *grid, COLOURS), np.float32)
    if foreground.any():
        inside = [one[shown.ravel()] for one, shown in zip(patches, foreground, strict=True)]
        colours[foreground] = _from_0_to_1(_components(inside, COLOURS))
    return Features(
        values,
        first.astype(np.float32),
        foreground,
        colours,
        model,
        tuple(image.image for image in images),
        tuple(image.placement for image in images),
    )


def _components(images: Sequence[NDArray[np.float32]], count: int) -> NDArray[np.float64]:
    """The first principal components of the patches of all images: their places on the axes of most variance.

    Of each axis, the number with the greatest absolute value is positive; of several, the first.

    Args:
        images: [n, width] each, n of one its own; image by image they are taken to float64.
        count: How many components.

    Returns:
        [sum of n, count]. Components in which patches do not differ, or by no more than float32 rounds, are 0.
    """
    total = sum(len(patches) for patches in images)
    mean = sum(patches.sum(0, dtype=np.float64) for patches in images) / total
    products = sum(centred.T @ centred for centred in (patches - mean for patches in images))
    _, axes = np.linalg.eigh(products)  # as columns, that of the most variance last
    axes = axes[:, ::-1][:, :count]
    axes *= np.sign(np.take_along_axis(axes, np.abs(axes).argmax(0)[None], 0))
    found = np.concatenate([(patches - mean) @ axes for patches in images])
    rounding = np.finfo(np.float32).eps * np.sqrt(sum(np.square(patches, dtype=np.float64).sum() for patches in images))
    found[:, np.linalg.norm(found, axis=0) <= rounding] = 0
    return np.pad(found, [(0, 0), (0, count - found.shape[1])])


def _from_0_to_1(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each column from its minimum to its maximum; 0 where these are equal."""
    low, high = columns.min(0), columns.max(0)
    return np.asarray((columns - low) / np.where(high > low, high - low, 1))


def _border(grid: Sequence[int]) -> NDArray[np.bool_]:
    """Which patches of a grid stand at its border, [h, w]."""
    border = np.ones(grid, bool)
    border[1:-1, 1:-1] = False
    return border
