"""The commands heads and features: what a model sees in images, without a class."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from onnxplain.commands import display, reporting
from onnxplain.commands.destination import Destination
from onnxplain.commands.explainer_options import OpeningOptions
from onnxplain.commands.find_images import counted
from onnxplain.commands.image_loop import ImageLoop
from onnxplain.commands.option_groups import with_groups
from onnxplain.commands.options import Quiet
from onnxplain.commands.products import save_figure

if TYPE_CHECKING:
    from onnxplain.runtime import Explainer, Outcome
    from onnxplain.runtime.figures.canvas import Canvas
    from onnxplain.runtime.images.inputs import PreparedImage
    from onnxplain.runtime.views.heads import Heads

Artifact = Annotated[Path, Argument(metavar="ARTIFACT", help="A file that export wrote.")]
Images = Annotated[
    list[Path], Argument(metavar="IMAGE", help="Images, and folders of images; - is one on standard input.")
]
Recursive = Annotated[
    bool, Option("--recursive", help="Show the images in sub-folders too, into sub-folders of the same names.")
]
Output = Annotated[Path, Option(metavar="FOLDER", help="Where to write.")]
Format = Annotated[str, Option(metavar="png|jpg|webp|pdf|svg", help="The format of the files.")]
FOLDER = Path("explanations")


@dataclass(frozen=True)
class View:
    """What is shown of one image.

    Attributes:
        size: (width, height) of the image.
        figure: Draws it.
        about: What it shows, in a few words.
        ending: Of the file's name.
    """

    size: tuple[int, int]
    figure: "Callable[[], Canvas]"
    about: str
    ending: str


Views = Callable[["Explainer", "Iterator[Outcome[PreparedImage]]"], "Iterator[Outcome[View]]"]
"""From prepared images to what is shown of each."""


@with_groups
def heads(
    artifact: Artifact,
    images: Images,
    *,
    layer: Annotated[
        int,
        Option(
            metavar="L", help="From 0, or from the end as -1, -2, …; an attention pool is one more layer, the last."
        ),
    ] = -1,
    recursive: Recursive = False,
    output: Output = FOLDER,
    format: Format = "png",
    options: OpeningOptions,
    quiet: Quiet = False,
) -> None:
    """Show what each head of one layer attends to, seen from the token that the model reads; no class is asked for.

    Every image's sheet is a new file, <image>.<artifact>.heads.layer-<layer>.png, or ends as --format says.
    No file is replaced. In folders such files are skipped.
    """

    def views(explainer: "Explainer", prepared: "Iterator[Outcome[PreparedImage]]") -> "Iterator[Outcome[View]]":
        from onnxplain.runtime.views.heads import heads_of

        return (outcome.then(_view_of_heads) for outcome in heads_of(explainer.artifact, prepared, layer))

    _show(artifact, images, views, recursive, output, format, options, quiet)


@with_groups
def features(
    artifact: Artifact,
    images: Images,
    *,
    recursive: Recursive = False,
    output: Output = FOLDER,
    format: Format = "png",
    options: OpeningOptions,
    quiet: Quiet = False,
) -> None:
    """Show the features of patches as colours, those of all images together; no class is asked for.

    The first principal component of the patches tells the foreground from the
    background; the three first of the foreground are red, green and blue, as in
    DINOv2's paper. Like patches have like colours in all images.

    Every image has a new file, <image>.<artifact>.features.png, or ends as --format says.
    No file is replaced. In folders such files are skipped.
    """
    _show(artifact, images, _by_features, recursive, output, format, options, quiet)


def _view_of_heads(found: "Heads") -> View:
    from onnxplain.runtime.figures.views import heads_figure

    name = "attention pool" if found.pool else f"layer {found.layer}"
    about = f"{name}, {counted(len(found.maps), 'head')}"
    return View(found.image.size, lambda: heads_figure(found), about, f"heads.layer-{found.layer}")


def _by_features(explainer: "Explainer", prepared: "Iterator[Outcome[PreparedImage]]") -> "Iterator[Outcome[View]]":
    from onnxplain.runtime.figures.views import features_figure
    from onnxplain.runtime.views.features import PatchFeatures, patch_features, principal_colours

    outcomes = [*patch_features(explainer.artifact, prepared)]
    right = [outcome.value for outcome in outcomes if outcome.error is None]
    together = principal_colours(right, explainer.metadata.model) if right else None
    numbers = iter(range(len(right)))

    def view(found: PatchFeatures) -> View:
        assert together is not None  # it has this image
        number = next(numbers)
        about = f"foreground: {together.foreground[number].mean():.0%} of the patches"
        return View(found.size, lambda: features_figure(together, [number]), about, "features")

    return (outcome.then(view) for outcome in outcomes)


def _show(
    artifact: Path, images: list[Path], views: Views, recursive: bool, output: Path, format: str,
    options: OpeningOptions, quiet: bool,
) -> None:  # fmt: skip
    """Write a figure for each image."""
    from onnxplain.runtime.batch_size import MAX_BATCH
    from onnxplain.runtime.figures.formats import check_format
    from onnxplain.runtime.images.inputs import prepare_ahead

    check_format(format)
    console, limit = display.make_console(quiet), options.pixel_limit
    loop = ImageLoop(console, images, recursive, output, limit)
    with console.status(f"loading {artifact}"), reporting.warnings_shown():
        explainer = options.open(artifact, len(loop.names))
    metadata, destination = explainer.metadata, Destination(output, loop.found.images, artifact)

    def draw(image: Path, view: View) -> list[Path]:
        about = {"Model": metadata.model, "View": view.ending}
        folder, name = destination.folder_of(image), destination.name(image, view.ending)
        return [save_figure(view.figure(), format, about, folder, name)]

    with display.ExplainingProgress(console, len(loop.names)) as progress:
        outcomes = views(explainer, prepare_ahead(loop.sources, metadata, limit, MAX_BATCH))
        for name, done in loop.run(outcomes, draw, progress):
            if done is not None:
                view, (file,) = done
                display.show_view(console, name, view.size, view.about, file)
    loop.finish("showed", explainer.device)
