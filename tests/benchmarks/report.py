"""The table that people read, and the JSON that machines do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.operations import Operation

DIRECTION = "ratio: dualreg beside the reference registry; above 1, dualreg is better, in every row"
WARNING = "Compare within one run only: absolute figures mean nothing across machines, nor beside other load."
DURABILITY = (
    "Pushes: dualreg fsyncs file, folder and catalog before it answers; the reference 2.x only the file."
)


@dataclass(frozen=True, slots=True)
class Line:
    """An operation with each server's best sample, by the server's name."""

    operation: Operation
    best: Mapping[str, float]

    @property
    def ratio(self) -> float | None:
        """How many times better dualreg is; None without a rival."""
        if not {"dualreg", "reference"} <= self.best.keys():
            return None
        ours, theirs = self.best["dualreg"], self.best["reference"]
        return ours / theirs if self.operation.higher_is_better else theirs / ours


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run."""

    lines: Sequence[Line]
    versions: Mapping[str, str]
    cores: int
    notes: Sequence[str]

    def text(self) -> str:
        """Return the table."""
        columns = ["dualreg", *(["reference", "ratio"] if self._rivalled else [])]
        rows = [["operation", "unit", *columns], *map(self._row, self.lines)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = ["  ".join(_aligned(row, widths)) for row in rows]
        table.insert(1, "  ".join("-" * width for width in widths))
        taking_part = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        facts = [f"{self.cores} cores; {taking_part}", DIRECTION, DURABILITY] if self._rivalled else []
        facts = facts or [f"{self.cores} cores; {taking_part}"]
        return "\n".join([*table, "", *facts, WARNING, *self.notes, ""])

    def json(self) -> dict[str, Any]:
        """Return the same as a JSON object."""
        return {
            "operations": [
                {
                    "operation": line.operation.title,
                    "unit": line.operation.unit,
                    "higher_is_better": line.operation.higher_is_better,
                    **line.best,
                    "ratio": line.ratio,
                }
                for line in self.lines
            ],
            "versions": dict(self.versions),
            "cores": self.cores,
            "notes": [DIRECTION, DURABILITY, WARNING, *self.notes],
        }

    @property
    def _rivalled(self) -> bool:
        return any(line.ratio is not None for line in self.lines)

    def _row(self, line: Line) -> list[str]:
        cells = [line.operation.title, line.operation.unit, _figure(line.best.get("dualreg"))]
        if self._rivalled:
            cells += [_figure(line.best.get("reference")), _figure(line.ratio, digits=2)]
        return cells


def _figure(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Pad a row: words to the left, figures to the right."""
    words = 2
    padded = [text.ljust(width) for text, width in zip(row[:words], widths[:words], strict=True)]
    return padded + [text.rjust(width) for text, width in zip(row[words:], widths[words:], strict=True)]
