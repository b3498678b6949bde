"""What the export gate found, as data: one line for each thing compared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..runtime import OnnxplainError


@dataclass(frozen=True)
class Check:
    """One line of the report: ``value`` was measured, ``limit`` is what was asked."""

    output: str
    check: str
    value: float
    limit: float
    passed: bool


@dataclass(frozen=True)
class Report:
    """What the gate found. error is relative to the output's greatest absolute value; notes say what was left out."""

    rows: tuple[Check, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the file may be kept."""
        return all(row.passed for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the artifact's metadata."""
        return {"passed": self.passed, "checks": [asdict(row) for row in self.rows], "notes": list(self.notes)}


class GateError(OnnxplainError):
    """The file written does not do what the model does; ``report`` says in what."""

    def __init__(self, report: Report) -> None:
        failed = "; ".join(
            f"{row.output} {row.check}: {row.value:.2g} against {row.limit:.2g}"
            for row in report.rows
            if not row.passed
        )
        super().__init__(f"the exported graph does not equal the model, nothing was written ({failed})")
        self.report = report
