"""What the export gate found, as data: one line for each thing compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from onnxplain.contract import OnnxplainError
from onnxplain.contract.outputs import OUTPUTS


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        output: What was compared.
        check: How.
        value: What was measured.
        limit: What it may be at most.
        passed: Whether it is.
    """

    output: str
    check: str
    value: float
    limit: float
    passed: bool


@dataclass(frozen=True)
class Report:
    """What the gate found.

    Attributes:
        rows: One for each thing compared; errors are relative to the output's greatest absolute value, and what int8
            changes is the norm of the difference relative to that of the exact one.
        notes: What was left out, and why.
        resolution: By method, how far the file is off in its maps; no reason to refuse a file.
    """

    rows: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    resolution: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the file may be kept."""
        return all(row.passed for row in self.rows)

    @property
    def wrong_passes(self) -> set[str]:
        """The passes that failed outputs are of; "attention" stands for the logits as well."""
        wrong: set[str] = set()
        passes = [OUTPUTS[row.output].passes if row.output in OUTPUTS else ("attention",) for row in self._failed()]
        for names in sorted(passes, key=len):  # what is of several passes tells nothing where one of them is wrong
            if wrong.isdisjoint(names):
                wrong.add(names[-1])
        return wrong

    def failures(self, name: str | None = None) -> str:
        """What failed, in words: of this pass, or all."""
        rows = [row for row in self._failed() if name is None or name in OUTPUTS[row.output].passes]
        return "; ".join(f"{row.output} {row.check}: {row.value:.2g} against {row.limit:.2g}" for row in rows)

    def _failed(self) -> list[Check]:
        return [row for row in self.rows if not row.passed]

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the artifact's metadata."""
        return {"passed": self.passed, "checks": [asdict(row) for row in self.rows], "notes": list(self.notes)}


class GateError(OnnxplainError):
    """The file written does not do what the model does.

    Attributes:
        report: Says in what.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(f"the exported graph does not equal the model, nothing was written ({report.failures()})")
        self.report = report
