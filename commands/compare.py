"""explain with several artifacts: one sheet for each image, on which they are compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onnxplain.commands import display, method_arguments, reporting
from onnxplain.commands.destination import Destination
from onnxplain.commands.explainer_options import ExplainerOptions
from onnxplain.commands.figure_options import FigureOptions
from onnxplain.commands.image_loop import ImageLoop
from onnxplain.commands.json_lines import JsonLines
from onnxplain.commands.options import option_of
from onnxplain.commands.products import Written, about, save_figure
from onnxplain.contract.digest import stored_digest
from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.formats import SUFFIXES

if TYPE_CHECKING:
    from onnxplain.runtime.comparison import ModelAnswer, ModelComparison


def split_artifacts(artifact: Path, images: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The artifacts at the beginning of the command line, told by their suffix, and the images behind them.

    Raises:
        OnnxplainError: If there are no images.
    """
    count = next((place for place, path in enumerate(images) if path.suffix.lower() not in SUFFIXES), len(images))
    if count == len(images):
        raise OnnxplainError(f"{images[-1]} is an artifact, not an image; give images behind the artifacts")
    return [artifact, *images[:count]], list(images[count:])


def check_options(given: Mapping[str, object]) -> None:
    """Raise OnnxplainError if one of these options, which are for a single artifact, is given."""
    for name, value in given.items():
        if value:
            raise OnnxplainError(f"{option_of(name)} is for a single artifact; leave it out, or give one artifact")


def open_comparison(
    artifacts: Sequence[Path],
    images: int,
    options: ExplainerOptions,
    methods: Sequence[str] | None,
    parameters: Mapping[str, object],
    all_methods: bool,
    console: display.PlainConsole,
) -> "ModelComparison":
    """Open the artifacts, and choose the methods as the command line says.

    Args:
        artifacts: The files.
        images: How many images there are.
        options: How they are opened.
        methods: Those named, with parameters or without; None for the best that all files allow.
        parameters: Those that are options of their own, for the methods that have them.
        all_methods: Whether all are wanted that all files allow.
        console: Where it is told which file is being opened.
    """
    from onnxplain.runtime.comparison import ModelComparison, common_methods

    explainers = []
    for path in artifacts:
        with console.status(f"loading {path}"), reporting.warnings_shown():
            explainers.append(options.open(path, images))
    names = methods
    if not names:
        common = common_methods([explainer.metadata for explainer in explainers], quick=all_methods)
        names = common if all_methods else common[:1]
    return ModelComparison(explainers, method_arguments.with_parameters(names, parameters))


@dataclass(frozen=True)
class ModelsSheet:
    """What writes the sheet of an image."""

    comparison: "ModelComparison"
    destination: Destination
    figures: FigureOptions

    def write(self, image: Path, answers: Sequence["ModelAnswer"]) -> list[Written]:
        """The file; raises OSError if it cannot be written."""
        from onnxplain.runtime.figures.sheet import sheet_of

        sheet = sheet_of(self.comparison.rows(answers), self.figures.style)
        first = next(iter(answers[0].results.values()))
        found = {key: [each.results[key] for each in answers if key in each.results] for key in self.comparison.keys}
        shown = {key: items[0] for key, items in found.items() if items}
        texts = about(shown, first) | {"Model": ", ".join(answer.name for answer in answers)}
        folder, name = self.destination.folder_of(image), self.destination.name(image, "models")
        return [Written(save_figure(sheet, self.figures.format, texts, folder, name), "models")]


def compare(
    artifacts: Sequence[Path],
    loop: ImageLoop,
    targets: Sequence[str | int],
    sheet: ModelsSheet,
    console: display.PlainConsole,
    as_json: bool,
) -> dict[str, str]:
    """Compare the models on each image, print what they answer, and write the sheets.

    Args:
        artifacts: The files that explain, as they were given.
        loop: The images.
        targets: As the first artifact has them.
        sheet: What writes the sheets.
        console: Where all but JSON is printed.
        as_json: Whether to print JSON, one line for each image and artifact.

    Returns:
        Why methods are inexact, by model and method.
    """
    from onnxplain.runtime import Outcome

    warnings = {}
    lines = [JsonLines(path, str(stored_digest(path))) for path in artifacts]
    with display.ExplainingProgress(console, len(loop.names)) as progress:
        asked = (Outcome.of(sheet.comparison.ask, source, targets) for source in loop.sources)
        for name, done in loop.run(asked, sheet.write, progress):
            if done is None:
                for each in lines if as_json else ():
                    each.failed(name, reporting.one_line(loop.errors[-1]))
                continue
            answers, files = done
            labels = [item.label for item in next(iter(answers[0].results.values()))]
            for answer, each in zip(answers, lines, strict=True):
                if as_json:
                    each.explained(name, answer.results, files, answer.first)
                else:
                    _show(console, name, answer, labels)
                for method, why in display.inexact_methods(answer.results).items():
                    warnings[f"{answer.name}: {method}"] = why
            for file in files:
                console.print(f"  {file.path}", soft_wrap=True)
            console.print()
    return warnings


def _show(console: display.PlainConsole, image: Path, answer: "ModelAnswer", labels: Sequence[str]) -> None:
    """Print what one model answers to the classes with these labels."""
    console.print(answer.name, style="bold")
    display.show_predictions(console, image, answer.first)
    if any(index is not None for index in answer.classes) and answer.results:
        display.show_places(console, answer.results, [])
    else:
        for key, item in answer.free.items():
            console.print(f"  {key}  {'; '.join(display.remarks(item))}", soft_wrap=True)
    for label, index in zip(labels, answer.classes, strict=True):
        if index is None:
            console.print(f"  there is no class {label}", soft_wrap=True)
    if answer.impossible:
        console.print(f"  not possible with this file: {', '.join(answer.impossible)}", soft_wrap=True)
    console.print()
