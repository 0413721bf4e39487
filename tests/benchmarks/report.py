"""The table that people read, and the JSON that machines do."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.rows import Line
from tests.benchmarks.servers import Server

WARNING = "Compare within one run only: absolute figures mean nothing across machines, nor beside other load."
DURABILITY = (
    "Pushes: dualreg fsyncs file, folder and catalog before it answers; the reference 2.x only the file."
)


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run.

    Attributes:
        servers: The columns. In each row, ours are compared with the first of the others that has a figure.
    """

    lines: Sequence[Line]
    servers: Sequence[Server]
    rounds: int
    versions: Mapping[str, str]
    notes: Sequence[str]

    def text(self) -> str:
        """Return the table."""
        heads = [head for server in self.servers for head in self._heads(server)]
        rows = [["row", "unit", *heads], *map(self._row, self.lines)]
        return "\n".join([*table(rows, words=2), "", *self._facts(), ""])

    def json(self) -> dict[str, Any]:
        """Return the same as a JSON object, with all samples."""
        return {
            "rows": [
                {
                    "row": line.row.title,
                    "unit": line.row.unit,
                    "higher_is_better": line.row.higher_is_better,
                    "medians": line.medians,
                    "reference": self._reference(line),
                    "ratios": {server.name: self._ratio(line, server) for server in self._ours},
                    "samples": {name: [*taken] for name, taken in line.samples.items()},
                }
                for line in self.lines
            ],
            "rounds": self.rounds,
            "versions": dict(self.versions),
            "cores": _cores(),
            "notes": self._facts(),
        }

    @property
    def _ours(self) -> list[Server]:
        return [server for server in self.servers if server.ours]

    @property
    def _others(self) -> list[str]:
        return [server.name for server in self.servers if not server.ours]

    def _reference(self, line: Line) -> str | None:
        return next((name for name in self._others if name in line.samples), None)

    def _ratio(self, line: Line, server: Server) -> float | None:
        return line.ratio(server.name, self._reference(line))

    def _heads(self, server: Server) -> list[str]:
        return [server.name, "ratio"] if server.ours and self._others else [server.name]

    def _row(self, line: Line) -> list[str]:
        cells, medians = [line.row.title, line.row.unit], line.medians
        for server in self.servers:
            cells.append(figure(medians.get(server.name)))
            if server.ours and self._others:
                cells.append(figure(self._ratio(line, server), digits=2))
        return cells

    def _facts(self) -> list[str]:
        taking_part = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        facts = [f"{_cores()} cores; {taking_part}", f"medians of {self.rounds} rounds, taken in turns"]
        facts += [f"{each.name}: {each.about}" for each in self.servers if each.about]
        if self._others:
            others = ", else ".join(self._others)
            facts.append(f"ratio: beside {others}; above 1, dualreg is better, in every row")
        refusals = [
            f"{name}, {line.row.title}: {text}" for line in self.lines for name, text in line.refusals.items()
        ]
        return [*facts, DURABILITY, WARNING, *self.notes, *refusals]


def table(rows: Sequence[Sequence[str]], *, words: int) -> list[str]:
    """Return the lines of a table, whose first columns are words and the others figures."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            text.ljust(width) if column < words else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def progress(line: Line) -> str:
    """Return the medians of a row that has just been measured."""
    medians = ", ".join(f"{name} {figure(median)}" for name, median in line.medians.items())
    return f"{line.row.title}, {line.row.unit}: {medians}\n"


def figure(value: float | None, digits: int | None = None) -> str:
    """Return a number with three significant digits, or so many after the point."""
    if value is None:
        return "-"
    if digits is None:
        digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"
