"""Answers questions with an Explainer: those that ask the same of several images together."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.metadata import Metadata
from onnxplain.runtime import Explainer, Explanation
from onnxplain.runtime.explanation import top_predictions
from onnxplain.runtime.figures.formats import encoded
from onnxplain.runtime.methods.choice import find_method
from onnxplain.runtime.outcome import Outcome
from onnxplain.runtime.pipeline import ByMethod
from onnxplain.runtime.summary import about_image, about_map

from .questions import Answer, Question

OF_MAP: dict[str, Callable[[Explanation], NDArray[np.float32]]] = {
    "image": lambda item: item.heatmap,
    "input": lambda item: item.input_heatmap,
    "tokens": lambda item: item.tokens,
}


def open_explainer(path: str, threads: int | None, max_pixels: int) -> Explainer:
    """An Explainer on the CPU for a long time, which lists all classes: questions ask for different numbers of them.

    Raises:
        OnnxplainError: As Explainer does.
    """
    opened = Explainer(path, "cpu", threads=threads, packed=True)
    return Explainer.over(opened.artifact, max_pixels, top_k=len(opened.metadata.labels))


def answer_all(explainer: Explainer, questions: Sequence[Question]) -> list[Outcome[Answer]]:
    """Answer questions, in order; an error of one image concerns that image only.

    Args:
        explainer: As `open_explainer` gives it.
        questions: Those with the same methods and targets are explained together.
    """
    answers: list[Outcome[Answer]] = [Outcome() for _ in questions]

    def key(place: int) -> tuple[str, str]:  # 1 and "1" are different targets, and "a" < 1 cannot be compared
        return repr(questions[place].methods), repr(questions[place].targets)

    for _, group in groupby(sorted(range(len(questions)), key=key), key):
        places = list(group)
        asked = [questions[place] for place in places]
        if asked[0].methods is None:
            found = [Outcome.of(_predict, explainer, question) for question in asked]
        else:
            found = _explain(explainer, asked)
        for place, outcome in zip(places, found, strict=True):
            answers[place] = outcome
    return answers


def _explain(explainer: Explainer, asked: Sequence[Question]) -> list[Outcome[Answer]]:
    images, targets = [question.image for question in asked], list(asked[0].targets)
    try:
        methods = asked[0].methods or (find_method(None, explainer.metadata).name,)
        outcomes = explainer.explain_all_many(images, targets, methods=methods).outcomes()
    except OnnxplainError as error:  # of what is the same for all
        return [Outcome(error=error) for _ in asked]
    return [
        outcome.then(partial(_answer, question, len(asked))) for question, outcome in zip(asked, outcomes, strict=True)
    ]


def _answer(question: Question, together: int, results: ByMethod) -> Answer:
    items = [(key, item) for key, several in results.items() for item in several]
    about = about_image(items[0][1])
    about["predictions"] = about["predictions"][: question.top_k]
    _check_size(question, items)
    picture = None
    if question.layout is not None:
        picture = encoded(items[0][1].figure(question.layout), "png", {})
    return Answer(
        about,
        tuple({"key": key, **(about_map(item) if question.summaries else _class(item))} for key, item in items),
        tuple({name: OF_MAP[name](item) for name in question.maps} for _, item in items),
        picture,
        together,
    )


def _check_size(question: Question, items: Sequence[tuple[str, Explanation]]) -> None:
    """Raise OnnxplainError if the maps would be too large. Those over the image are not made before they are read."""
    values = 0
    for name in question.maps:
        for _, item in items:
            values += item.image.width * item.image.height if name == "image" else OF_MAP[name](item).size
    if question.most_values is not None and values > question.most_values:
        raise OnnxplainError(
            f"the maps hold {values} numbers, more than the {question.most_values} that an image may have in this "
            "request; ask for fewer maps, for smaller ones (input or tokens), or about fewer images at once"
        )


def _class(item: Explanation) -> dict[str, Any]:
    return {name: getattr(item, name) for name in ("method", "target", "label", "score", "probability")}


def _predict(explainer: Explainer, question: Question) -> Answer:
    """Predictions alone, from a run that computes the logits only."""
    metadata = explainer.metadata
    logits = explainer.tensors(question.image, passes=())["logits"][0]
    about = {"model": metadata.model, "predictions": predictions(logits, metadata, question.top_k)}
    return Answer(about, (), (), None, 1)


def predictions(logits: NDArray[np.float32], metadata: Metadata, count: int | None) -> list[dict[str, Any]]:
    """The best classes, as `about_image` lists them, of logits [classes]; all for None."""
    best = top_predictions(logits, metadata, count or len(metadata.labels))
    return [{"index": index, "label": label, "probability": share} for index, label, share in best]
