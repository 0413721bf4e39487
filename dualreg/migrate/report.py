"""Report: what became of every tag in a run, out of its journal."""

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualreg.migrate import journal

#: Columns of the map from V1 ids to digests, by which pipelines can be changed.
COLUMNS = ("source", "repository", "tag", "image", "digest", "status", "reason")


@dataclass(frozen=True, slots=True)
class Report:
    """A run, told.

    Attributes:
        tags: Each with COLUMNS.
        layers: How many images were taken in, and how many of them something proved whole.
    """

    run: str
    source: str
    ended: bool
    tags: tuple[Mapping[str, Any], ...]
    layers: tuple[int, int]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many tags there are of each status."""
        return Counter(tag["status"] for tag in self.tags)

    def csv(self) -> str:
        """Return the tags as CSV, with a heading."""
        out = io.StringIO()
        writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.tags)
        return out.getvalue()


def report(folder: Path, run: str) -> Report:
    """Return what a run did.

    Raises:
        ValueError: there is no such run.
    """
    lines = [*journal.read(folder, run)]
    images = {line["id"]: line["verified"] for line in lines if line["event"] == "image"}
    return Report(
        run=run,
        source=str(lines[0].get("source", "")) if lines else "",
        ended=any(line["event"] == "end" for line in lines),
        tags=tuple({name: line[name] for name in COLUMNS} for line in lines if line["event"] == "tag"),
        layers=(len(images), sum(images.values())),
    )
