"""Files with texts for the command line: labels, prompts, templates."""

import json
import os
import re
from pathlib import Path
from typing import Any, TypeGuard

from onnxplain.contract.errors import OnnxplainError

LABELS = 'one per line, or as JSON a list, {"0": "cat", …} or {"cat": 0, …}'


class Pairs(list[tuple[Any, Any]]):
    """A JSON object as its pairs, since keys may occur twice."""


def read_values(what: str, given: list[str]) -> list[str]:
    """The values of an option; if its only value is a file, the texts in that."""
    is_there = os.path.exists(given[0]) and not os.path.isdir(given[0])  # noqa: PTH110, PTH112
    if len(given) > 1 or not (is_there or given[0].endswith((".txt", ".json"))):
        return given
    return read_texts(what, Path(given[0]))


def read_texts(what: str, path: Path) -> list[str]:
    """The lines of a file, or the strings of its JSON list; raises OnnxplainError if there are none."""
    found = _read(what, path, "[", "one per line, or a JSON list")
    if not _are_texts(found):
        raise OnnxplainError(
            f"{what} in {path} must be text, none of them empty: one per line, or a JSON list of strings"
        )
    return found


def read_labels(path: Path) -> list[str]:
    """Labels from a file: its lines, or the strings of its JSON list, or of a JSON object by their class index."""
    found = _read("labels", path, "[{", LABELS)
    if isinstance(found, Pairs):
        found = _by_index(path, found)
    if not _are_texts(found):
        raise OnnxplainError(f"labels in {path} must be text, none of them empty: {LABELS}")
    return found


def _are_texts(found: Any) -> TypeGuard[list[str]]:
    return bool(found) and all(isinstance(item, str) and item for item in found)


def _read(what: str, path: Path, json_begins: str, valid: str) -> Any:
    """The lines of a text file, or its JSON if it begins as that."""
    from onnxplain.runtime.files import check_file

    check_file(path, f"a file with {what}", f"there is no file {path} with {what}; give {valid}")
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
        if text.startswith(tuple(json_begins)):
            return json.loads(text, object_pairs_hook=Pairs)
        return [line.strip() for line in text.splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OnnxplainError(f"cannot read {what} from {path}: {reason}; give {valid}") from None


def _by_index(path: Path, pairs: Pairs) -> list[Any]:
    """The labels of {"0": "cat", …} or {"cat": 0, …} in the order of their indices, which count from 0."""
    if all(isinstance(value, int) and not isinstance(value, bool) for _, value in pairs):
        pairs = Pairs((value, key) for key, value in pairs)
    labels: dict[int, Any] = {}
    for key, label in pairs:
        index = int(key) if re.fullmatch(r"\d{1,9}", str(key), re.ASCII) else -1
        if index < 0:
            raise OnnxplainError(f"labels in {path} must have class indices, got {key!r}; give {LABELS}")
        if index in labels:
            raise OnnxplainError(f"labels in {path} have the class index {index} twice; give each class one label")
        labels[index] = label
    missing = [str(index) for index in range(len(labels)) if index not in labels]
    if missing:
        raise OnnxplainError(
            f"labels in {path} go up to the class index {max(labels)} and have none for {missing[0]}; add it"
        )
    return [labels[index] for index in range(len(labels))]
