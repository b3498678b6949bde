"""Images in a folder for each class, and masks in folders beside them."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from onnxplain.contract.errors import OnnxplainError
from onnxplain.runtime.images.loading import IMAGE_SUFFIXES
from onnxplain.runtime.signature import is_signed

from ..samples import Region, Sample
from .classes import find_classes
from .data_set import DataSet, first_few, of_samples, spread
from .masks import ImageNetSMask, MaskFile

MASKS = "masks"
IMAGENET_S = "-segmentation"
"""How a folder of ImageNet-S with masks ends; it begins as the one with the images."""
IMAGENET_S_CLASSES = 50, 300, 919
"""In its three variants. The class IDs in the masks are places in the sorted list of these."""


def open_class_folders(folder: Path, labels: Sequence[str], limit: int | None = None) -> DataSet:
    """The images below folder/<class>/ or folder/images/<class>/, with their masks where there are any.

    Images of a folder without any folders have no classes.

    Args:
        folder: See `_layout` for what may be in it.
        labels: Of the artifact's classes.
        limit: The most images.

    Raises:
        OnnxplainError: If there are no images, no class is one of the artifact, or no mask belongs to an image.
    """
    root, masks = _layout(folder)
    if root.is_dir() and not any(path.is_dir() for path in root.iterdir()):
        files = sorted(path for path in root.iterdir() if _is_image(path, root))
        unsigned = [path for path in files if not is_signed(path)]
        if unsigned:
            samples = [Sample(path.name, path) for path in spread(unsigned, limit)]
            return of_samples(str(root), samples, _skipped(len(files) - len(unsigned)))
    found, skipped = images_by_class(root, {MASKS})
    classes, warnings = find_classes(found, labels, folder)
    warnings += _skipped(skipped)
    region = _region_of(masks, list(found)) if masks else None
    images = [(path, name) for name, paths in found.items() if name in classes for path in paths]
    samples = []
    without = 0
    for path, name in spread(images, limit):
        mask = masks / path.relative_to(root).with_suffix(".png") if masks else None
        regions = {classes[name]: region(mask, name)} if mask and region and mask.is_file() else {}
        without += not regions
        samples.append(Sample(path.relative_to(root).as_posix(), path, (classes[name],), regions))
    if masks and without == len(samples):
        wanted = masks / images[0][0].relative_to(root).with_suffix(".png")
        raise OnnxplainError(f"there is no mask for any image of {root}; that of {images[0][0]} would be {wanted}")
    if masks and without:
        warnings.append(f"{without} of {len(samples)} images have no mask in {masks}")
    return of_samples(f"{root}, with masks" if masks else str(root), samples, warnings)


def _layout(folder: Path) -> tuple[Path, Path | None]:
    """Where the folders of classes are, and where those with masks, if there are any.

    These are "images" and "masks" in the folder, or "validation" and "validation-segmentation" as in ImageNet-S. Or
    the folders of classes are in the folder itself, and the masks in "masks" in it, or beside it: in "masks" if its
    name is "images", in "<name>-segmentation" whatever it is.
    """
    folder = folder.resolve()
    inside = [(folder / "images", folder / MASKS), (folder / "validation", folder / f"validation{IMAGENET_S}")]
    beside = [(folder, folder / MASKS), (folder, folder.with_name(f"{folder.name}{IMAGENET_S}"))]
    if folder.name == "images":
        beside.append((folder, folder.with_name(MASKS)))
    for images, masks in inside:
        if images.is_dir():
            return images, masks if masks.is_dir() else None
    return next(((images, masks) for images, masks in beside if masks.is_dir()), (folder, None))


def _region_of(masks: Path, names: Sequence[str]) -> Callable[[Path, str], Region]:
    """What makes a region of a mask's file and the name of the image's class."""
    if not masks.name.endswith(IMAGENET_S):
        return lambda path, name: MaskFile(path)
    if len(names) not in IMAGENET_S_CLASSES:
        raise OnnxplainError(
            f"the masks in {masks} name classes by their places among all {', '.join(map(str, IMAGENET_S_CLASSES))} "
            f"of a variant of ImageNet-S, and there are {len(names)}; leave the folders as they were, `limit` takes "
            "some of the images"
        )
    ids = {name: place for place, name in enumerate(sorted(names), start=1)}
    return lambda path, name: ImageNetSMask(path, ids[name])


def images_by_class(folder: Path, besides: Collection[str] = ()) -> tuple[dict[str, list[Path]], int]:
    """Find the images below folder/<class>/.

    Names that begin with a dot are skipped, as are files without an image's suffix, and figures that the command
    explain has written.

    Args:
        folder: A folder with a folder for each class.
        besides: Folders that are no classes.

    Returns:
        The images of each class, both sorted, and how many figures of onnxplain were skipped.

    Raises:
        OnnxplainError: If there are no folders in it, or no images in one of them.
    """
    needed = "it must hold one folder for each class, with the images of that class in it"
    if not folder.is_dir():
        raise OnnxplainError(f"there is no folder {folder}; {needed}")
    classes = sorted(
        item for item in folder.iterdir() if item.is_dir() and item.name[0] != "." and item.name not in besides
    )
    if not classes:
        raise OnnxplainError(f"there are no folders in {folder}; {needed}")
    strange = [item.name for item in classes if item.name.encode(errors="ignore").decode() != item.name]
    if strange:
        raise OnnxplainError(f"the name of a class must be text, got the folder {strange[0]!r} in {folder}; rename it")
    files = {item.name: sorted(path for path in item.rglob("*") if _is_image(path, item)) for item in classes}
    found = {label: [path for path in paths if not is_signed(path)] for label, paths in files.items()}
    # A folder that holds such figures only is no class; it may be the one that explain writes into.
    found = {label: paths for label, paths in found.items() if paths or not files[label]}
    empty = [label for label, paths in found.items() if not paths] or ([] if found else [*files])
    if empty:
        places = first_few([str(folder / label) for label in empty])
        raise OnnxplainError(f"there are no images in {places}; they would end in {', '.join(IMAGE_SUFFIXES)}")
    return found, sum(map(len, files.values())) - sum(map(len, found.values()))


def _skipped(count: int) -> list[str]:
    return [f"{count} images that onnxplain made were skipped"] if count else []


def _is_image(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden and path.is_file()
