"""The options of explain that are about the report."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from onnxplain.commands.new_folder import check_new_folder
from onnxplain.contract.errors import OnnxplainError

from .gallery import PAGE, Gallery
from .page import GENERATOR
from .true_classes import true_classes

if TYPE_CHECKING:
    from onnxplain.contract import Metadata
    from onnxplain.runtime import Style

PANEL = "Report"
BEGINNING = 2000
"""Characters of a page that are looked through for what says that it is a report."""


@dataclass(frozen=True)
class ReportOptions:
    """What stands on the command line about the report; every field is an option."""

    report: Annotated[
        Path | None,
        Option(
            metavar="FOLDER",
            help="Write a page on which to look through all images and their heatmaps, and the numbers as CSV.",
            rich_help_panel=PANEL,
        ),
    ] = None
    force: Annotated[bool, Option("--force", help="Replace the report if it exists.", rich_help_panel=PANEL)] = False

    def check(self, output: Path | None) -> None:
        """Raise OnnxplainError unless the report can be written: into a new folder, or in place of another report.

        Args:
            output: The folder for other files; None if there are none.
        """
        if self.report is not None:
            if output is not None and output.resolve().is_relative_to(self.report.resolve()):
                raise OnnxplainError(
                    f"--report {self.report} replaces all that is in that folder, and --output {output} is in it; "
                    "give another folder, or --no-figures"
                )
            check_new_folder(self.report, "--report", "a report", _is_report, self.force)
        elif self.force:
            raise OnnxplainError("--force replaces a report; name it with --report, or leave --force out")

    @contextmanager
    def open(
        self, images: Mapping[Path, Path], artifact: Path, metadata: "Metadata", errors: Sequence[str], style: "Style"
    ) -> Iterator[list[Gallery]]:
        """The report, if one is asked for. What is not finished in the block is removed.

        Args:
            images: What is explained, each image with its folder within the folder that was given.
            artifact: The file that explains.
            metadata: Its metadata.
            errors: What could not be explained; read when the report is finished.
            style: How maps are drawn.
        """
        from onnxplain.runtime.files import unfinished

        if self.report is None:
            yield []
            return
        with unfinished(self.report.resolve().parent) as scratch:
            true = true_classes(images, metadata.labels)
            yield [Gallery(self.report, scratch, artifact, metadata, true, errors, style)]


def _is_report(folder: Path) -> bool:
    try:
        with (folder / PAGE).open(encoding="utf-8") as file:
            return GENERATOR in file.read(BEGINNING)
    except (OSError, ValueError):
        return False
