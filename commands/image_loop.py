"""What the commands that go through images share: sources, errors of single images, and what is told at the end."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from onnxplain.commands import arguments, display, reporting
from onnxplain.commands.drawing import draw_ahead
from onnxplain.commands.find_images import counted, find_images
from onnxplain.contract.errors import OnnxplainError, naming
from onnxplain.contract.formats import SUFFIXES

if TYPE_CHECKING:
    from onnxplain.runtime import Outcome

Results = TypeVar("Results")
Files = TypeVar("Files", bound=Sequence[object])


class ImageLoop:
    """The images of one call of a command.

    Attributes:
        found: The images, and what was skipped.
        names: What the images are called.
        sources: What is read for each.
        errors: What is wrong with folders and images, so far.
    """

    def __init__(
        self, console: display.PlainConsole, images: list[Path], recursive: bool, output: Path | None, max_pixels: int
    ) -> None:
        """Find the images, and read standard input where that is one of them.

        Args:
            console: Where to print.
            images: Files, folders, and `arguments.STDIN`.
            recursive: Whether to look into sub-folders as well.
            output: The folder that is written to; None if nothing is.
            max_pixels: Of an image.

        Raises:
            OnnxplainError: If there are no images, or the folder cannot be written to.
        """
        self._console, self._output = console, output
        from onnxplain.runtime.images.loading import allow_pixels

        for path in images:
            if path.suffix.lower() in SUFFIXES and not path.is_dir():
                raise OnnxplainError(f"{path} is an artifact, not an image")
        self._right, self._written = 0, 0
        self.found = find_images(images, recursive)
        if output is not None:
            arguments.check_writable(output)
        allow_pixels(max_pixels)
        self.names, self.errors = [*self.found.images], [*self.found.errors]
        self.sources: list[Path | bytes] = [*self.names]
        if arguments.STDIN in self.names:
            place = self.names.index(arguments.STDIN)
            self.sources[place], self.names[place] = arguments.read_stdin(max_pixels), Path("stdin")
        self._started = time.monotonic()

    def run(
        self,
        outcomes: "Iterator[Outcome[Results]]",
        draw: Callable[[Path, Results], Files],
        progress: display.ExplainingProgress,
    ) -> Iterator[tuple[Path, tuple[Results, Files] | None]]:
        """Draw each image's results while the next image is explained, see `draw_ahead`.

        Yields:
            Each image's name, with the results and the files; or with None, when its error is the last of `errors`.
        """
        from onnxplain.runtime.images.loading import UNNAMED

        for name, outcome in draw_ahead(draw, zip(self.names, outcomes, strict=True)):
            if outcome.error is not None:
                self.errors.append(naming(name, str(outcome.error).replace(UNNAMED, str(name), 1)))  # of standard input
                yield name, None
            else:
                self._right += 1
                self._written += len(outcome.value[1])
                yield name, outcome.value
            progress.next_image()

    def finish(self, done: str, device: str, files: Sequence[Path] = ()) -> None:
        """Tell how many images were right, what was skipped and written, and what is wrong.

        Args:
            done: What was done with the images, such as "explained".
            device: Where.
            files: What was written about all images together.

        Raises:
            typer.Exit: If anything is wrong.
        """
        if len(self.names) > 1:
            seconds = time.monotonic() - self._started
            self._console.print(f"{done} {self._right} of {len(self.names)} images in {seconds:.1f} s on {device}")
        for line in self.found.skipped():
            self._console.print(line, soft_wrap=True)
        if self._written:
            self._console.print(f"wrote {counted(self._written, 'file')} into {self._output}", soft_wrap=True)
        for path in files:
            self._console.print(f"wrote {path}", soft_wrap=True)
        for message in self.errors:
            reporting.print_error(message)
        if self.errors:
            raise typer.Exit(2)
