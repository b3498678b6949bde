"""The results of an evaluation in a file, one JSON line for each image, so that an evaluation can be continued."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxplain.contract.errors import OnnxplainError

from .results import ImageResult, Measured

FILE = "results.jsonl"

DAMAGES = (ValueError, KeyError, TypeError, AttributeError)
"""What a line raises that is no JSON, or not of the right structure."""


class Store:
    """Results by the image's name, in a file or in memory alone. The first line of the file says what was run."""

    def __init__(self, folder: Path | None, run: Mapping[str, Any]) -> None:
        """Open the file, with what an earlier evaluation of the same has left there.

        Args:
            folder: Where the file is, or will be; None for memory alone.
            run: What is run; it decides whether earlier results are of the same evaluation.

        Raises:
            OnnxplainError: If the file is of another evaluation, or cannot be read or written.
        """
        self.images: dict[str, ImageResult] = {}
        self.costs: dict[str, float] = {}
        self.errors: dict[str, str] = {}
        self._path = folder / FILE if folder is not None else None
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._read(self._path, json.loads(json.dumps(run)))
        except OSError as error:
            raise OnnxplainError(f"{self._path}: {error.strerror}") from None

    def add(self, result: ImageResult) -> None:
        """Keep the result of one image."""
        self.images[result.name] = result
        self.errors.pop(result.name, None)
        fields = vars(result) | {"measured": [list(each) for each in result.measured]}
        self._write(fields)

    def add_costs(self, costs: Mapping[str, float]) -> None:
        """Keep what each method costs."""
        self.costs = dict(costs)
        self._write({"costs": self.costs})

    def _read(self, path: Path, run: dict[str, Any]) -> None:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        if lines and not lines[-1].endswith(b"\n"):  # the process was killed while it wrote
            lines.pop()
        if lines:
            self._continue(path, run, lines)
        if self.images:
            with path.open("r+b") as file:
                file.truncate(sum(map(len, lines)))
        else:  # nothing is lost
            self.costs = {}
            path.write_text(json.dumps({"run": run}) + "\n")

    def _continue(self, path: Path, run: dict[str, Any], lines: Sequence[bytes]) -> None:
        """Take the results in these lines of the file; raises OnnxplainError if they are of another evaluation."""
        try:
            earlier = dict(json.loads(lines[0])["run"])
            digest = earlier["digest"]
        except DAMAGES:
            raise OnnxplainError(
                f"{path} does not hold results of an evaluation; give another folder, or delete it"
            ) from None
        for number, line in enumerate(lines[1:], 2):
            try:
                fields = json.loads(line)
                is_earlier = "picture" in fields  # what `name` was called
                if not is_earlier:
                    self._take(fields)
            except DAMAGES:
                raise OnnxplainError(
                    f"line {number} of {path} is damaged; delete that line, and what it held is computed again, "
                    "or give another folder"
                ) from None
            if is_earlier:
                raise OnnxplainError(f"{path} is of an earlier version; give another folder, or delete it")
        if not self.images:
            return
        if digest is None:
            raise OnnxplainError(
                f"{path} holds results of an evaluation whose model is in memory, which may be another one "
                "by now; give another folder, or delete it"
            )
        differing = [name for name in run.keys() | earlier.keys() if run.get(name) != earlier.get(name)]
        if differing:
            raise OnnxplainError(
                f"{path} holds results of another evaluation, with other {' and '.join(sorted(differing))}; "
                "give another folder, or delete it"
            )

    def _take(self, fields: dict[str, Any]) -> None:
        if "costs" in fields:
            self.costs = {name: float(cost) for name, cost in fields["costs"].items()}
            return
        measured = tuple(
            Measured(int(target), method, metric, tuple(map(float, parts)))
            for target, method, metric, parts in fields.pop("measured")
        )
        result = ImageResult(**fields, measured=measured)
        self.images[result.name] = result

    def _write(self, fields: Mapping[str, Any]) -> None:
        if self._path is None:
            return
        try:
            with self._path.open("a") as file:  # for each line, as closing writes all of it
                file.write(json.dumps(fields, allow_nan=False) + "\n")
        except OSError as error:
            raise OnnxplainError(f"{self._path}: {error.strerror}") from None
