"""Several models asked about one image: the same class, by its label, and the same methods."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from onnxplain.contract.errors import MethodError, OnnxplainError
from onnxplain.contract.metadata import Metadata

from .explainer import Explainer
from .explanation import Explanation
from .figures.canvas import plain
from .figures.formats import to_image
from .figures.sheet import Cell, Row, method_in_words, sheet_of
from .figures.style import Style, as_style
from .images.loading import ImageSource
from .methods.calls import MethodCall, split_text
from .methods.choice import (
    Methods,
    available_methods,
    call_method,
    call_methods,
    comparable_methods,
    find_method,
    known_method,
    named_methods,
)
from .methods.table import METHODS
from .pipeline import ByMethod, each_class_once
from .targets import Target, Targets, are_several, class_like

NOT_HERE = "not possible with this file"


@dataclass(frozen=True)
class ModelAnswer:
    """What one of several models answers.

    Attributes:
        name: The model's, with the file's where two models have the same.
        explainer: The model.
        classes: For each class asked for its index in this model; None where the model does not have it.
        results: By the key of the method those of the classes that the model has, in order.
        free: By the key of a method without a class its only explanation.
        first: An explanation of the image, which need not be among the results: for its predictions.
        impossible: The keys of the methods that the file lacks something for.
    """

    name: str
    explainer: Explainer
    classes: tuple[int | None, ...]
    results: ByMethod
    free: Mapping[str, Explanation]
    first: Explanation
    impossible: tuple[str, ...]


class ModelComparison:
    """Several models, and the methods by which they are compared."""

    def __init__(self, explainers: Sequence[Explainer], methods: Methods | None = None) -> None:
        """Choose the methods.

        Args:
            explainers: The models, at least one; the first one says what ranks and indices of classes mean.
            methods: As of `Explainer.explain_all`; None for the best one that all have the passes for.

        Raises:
            MethodError: If there is no method of such a name, the first model does not allow any of them, one is
                possible with none of the models, or a parameter is not valid.
        """
        self.explainers = tuple(explainers)
        metadata = [explainer.metadata for explainer in explainers]
        self._calls = _possible_calls(common_methods(metadata)[:1] if methods is None else methods, metadata)
        self.keys = tuple(dict.fromkeys(key for calls in self._calls for key in calls))
        self._names = _names(explainers)

    def ask(self, image: ImageSource, targets: Sequence[Target]) -> list[ModelAnswer]:
        """Explain an image by all models.

        Args:
            image: As of `Explainer.explain`.
            targets: Classes of the first model, see `Explainer.explain`. Those of the others are the classes with the
                same label, or with the only label that shares one of its comma-separated synonyms.

        Returns:
            One answer for each model.

        Raises:
            OnnxplainError: As `Explainer.explain_all` does.
        """
        labels: list[str] = []
        answers = []
        for place, (name, explainer, calls) in enumerate(zip(self._names, self.explainers, self._calls, strict=True)):
            if place == 0:
                found = each_class_once(_explained(explainer, image, targets, calls))
                items = next(iter(found.values()))
                labels = [item.label for item in items]
                classes: list[int | None] = [item.target for item in items]
            else:
                classes = [class_like(label, explainer.metadata.labels) for label in labels]
                found = _explained(explainer, image, [index for index in classes if index is not None] or [-1], calls)
            first = next(iter(found.values()))[0]
            free = {key: each[0] for key, each in found.items() if key in calls and not calls[key].method.per_target}
            has_class = any(index is not None for index in classes)
            found = {key: each for key, each in found.items() if key in calls and (has_class or key in free)}
            impossible = tuple(key for key in self.keys if key not in calls)
            answers.append(ModelAnswer(name, explainer, tuple(classes), found, free, first, impossible))
        return answers

    def rows(self, answers: Sequence[ModelAnswer]) -> list[Row]:
        """The rows of a sheet: class by class a row for each model, with a cell for each method."""
        first = next(iter(answers[0].results.values()))
        rows = []
        for place, asked in enumerate(first):
            for answer in answers:
                index = answer.classes[place]
                column = None if index is None else sum(each is not None for each in answer.classes[:place])
                cells = [self._cell(key, answer, column, asked.label) for key in self.keys]
                shown = [cell.content for cell in cells if isinstance(cell.content, Explanation)]
                about = f"no class {plain(asked.label)}"
                if index is not None:
                    about = plain(answer.explainer.metadata.labels[index]) or f"class {index}"
                    about += f", {shown[0].probability:.1%}" if shown else ""
                rows.append(Row(plain(answer.name), about, asked.image, cells))
        return rows

    def _cell(self, key: str, answer: ModelAnswer, column: int | None, label: str) -> Cell:
        """A method's explanation of a class, or why there is none."""
        content: Explanation | str
        if column is not None and key in answer.results:
            content = answer.results[key][column]
        elif key in answer.free:
            content = answer.free[key]
        else:
            content = f"no class {plain(label)}" if column is None else NOT_HERE
        return Cell(method_in_words(key, content) if isinstance(content, Explanation) else key, content)


def models_sheet(
    explainers: Sequence[Explainer],
    image: ImageSource,
    target: Target | Targets = -1,
    methods: Methods | None = None,
    style: Style | None = None,
) -> Image.Image:
    """Draw what several models see of a class in one image, one below the other.

    Args:
        explainers: The models; each prepares the image as it needs it.
        image: As of `Explainer.explain`.
        target: As of `Explainer.explain`, for the first model; the others' classes are found by label.
        methods: As of `Explainer.explain_all`; None for the best one that all models allow.
        style: How it is drawn.

    Returns:
        RGB: for each class and model a row with the image and each method's map.

    Raises:
        OnnxplainError: As `Explainer.explain_all` does; or there is no model.
    """
    if not isinstance(explainers, Sequence) or not all(isinstance(each, Explainer) for each in explainers):
        raise OnnxplainError(f"models_sheet takes a list of Explainers, got {explainers!r}")
    if not explainers:
        raise OnnxplainError("there are no models to compare; give at least one Explainer")
    comparison = ModelComparison(explainers, methods)
    targets: list[Any] = list(target) if are_several(target) else [target]
    return to_image(sheet_of(comparison.rows(comparison.ask(image, targets)), as_style(style)))


def common_methods(metadata: Sequence[Metadata], quick: bool = False) -> list[str]:
    """The names of the methods that all of the models allow, best first.

    Args:
        metadata: The models'.
        quick: Only those that are compared where none is named, see `comparable_methods`.

    Raises:
        MethodError: If there is none.
    """
    allowed = [comparable_methods(one)[0] if quick else available_methods(one) for one in metadata]
    common = [name for name in METHODS if all(name in [method.name for method in each] for each in allowed)]
    if not common:
        raise MethodError("there is no method that all of these files allow; export one of them again")
    return common


def _possible_calls(methods: Methods, metadata: Sequence[Metadata]) -> list[dict[str, MethodCall]]:
    """For each model those of the methods that it has what is needed for, by key; raises MethodError for mistakes."""
    given = named_methods(methods)
    names = {text: known_method(split_text(text)[0]).name for text in given}
    allowed = [{method.name for method in available_methods(one)} for one in metadata]
    for text, name in names.items():
        if not any(name in each for each in allowed):
            call_method(text, given[text], metadata[0])  # raises MethodError, which says why
    possible = [{text: given[text] for text, name in names.items() if name in each} for each in allowed]
    if not possible[0]:
        call_methods(given, metadata[0])  # likewise
    return [
        {call.key: call for call in call_methods(those, one)} if those else {}
        for those, one in zip(possible, metadata, strict=True)
    ]


def _explained(
    explainer: Explainer, image: ImageSource, targets: Sequence[Target], calls: Mapping[str, MethodCall]
) -> ByMethod:
    """By the calls; if there are none, by the model's best method."""
    fixed = bool(explainer.metadata.heatmaps)
    methods = {key: {} if fixed else call.arguments for key, call in calls.items()}
    return explainer.explain_all(image, list(targets), methods=methods or [find_method(None, explainer.metadata).name])


def _names(explainers: Iterable[Explainer]) -> list[str]:
    """Each model's name, with the file's where two have the same."""
    models = [explainer.metadata.model for explainer in explainers]
    return [
        f"{model} ({explainer.path.name})" if models.count(model) > 1 and explainer.path else model
        for model, explainer in zip(models, explainers, strict=True)
    ]
