"""What is drawn over an image."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..images.geometry import Placement


class Drawable(Protocol):
    """A map and the image that it is drawn over; see `Explanation`, which is one, for what the attributes are."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def input_heatmap(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def tokens(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def image(self) -> Image.Image: ...  # noqa: D102
    @property
    def placement(self) -> Placement: ...  # noqa: D102
    @property
    def pixel_level(self) -> bool: ...  # noqa: D102
    @property
    def signed(self) -> bool: ...  # noqa: D102
    @property
    def relative(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True)
class MapWithoutClass:
    """A map over patches, of attention, say."""

    input_heatmap: NDArray[np.float32]
    tokens: NDArray[np.float32]
    image: Image.Image
    placement: Placement
    pixel_level: bool = False
    signed: bool = False
    relative: bool = False
