"""Reports: what became of each tag and V1 image in a run, according to its journal."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualreg.messages import printable
from dualreg.migrate import journal

#: Columns of tags; *bytes* is how many were read from the source for it.
COLUMNS = ("source", "repository", "tag", "image", "digest", "status", "reason", "run", "bytes")
#: Columns of V1 images, tagged or not; to translate ids in scripts and pipelines into digests.
IMAGE_COLUMNS = ("run", "repository", "image", "layer", "diff_id", "bytes", "verified")


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did.

    Attributes:
        at: When it started; ISO 8601.
        ended: Whether it came to its end, after its last tag or by being stopped.
        unfinished: Whether it left tags out, as it was stopped or killed.
        undone: Whether it was rolled back.
        tags: Each with COLUMNS.
        images: Each with IMAGE_COLUMNS; *verified* if a checksum proves it complete.
    """

    run: str
    at: str
    source: str
    ended: bool
    unfinished: bool
    undone: bool
    tags: tuple[Mapping[str, Any], ...]
    images: tuple[Mapping[str, Any], ...]

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of tags of each status."""
        return Counter(tag["status"] for tag in self.tags)


def tags_csv(reports: Iterable[Report]) -> str:
    """Return the tags of runs as CSV with a header."""
    return _csv(COLUMNS, (tag for report in reports for tag in report.tags))


def images_csv(reports: Iterable[Report]) -> str:
    """Return the V1 images of runs as CSV with a header; each once, as in the last run that imported it."""
    images = {(image["repository"], image["image"]): image for report in reports for image in report.images}
    return _csv(IMAGE_COLUMNS, images.values())


def read_report(folder: Path, run: str) -> Report:
    """Return what a run did.

    Raises:
        ValueError: there is no such run.
    """
    lines = [*journal.read(folder, run)]
    first = lines[0] if lines else {}
    ends = [line for line in lines if line["event"] == "end"]
    return Report(
        run=run,
        at=str(first.get("at", "")),
        source=str(first.get("source", "")),
        ended=bool(ends),
        unfinished=not first.get("on_demand") and all(end.get("stopped") for end in ends),
        undone=bool(lines) and lines[-1]["event"] == journal.UNDONE,
        tags=tuple(_tag(run, line) for line in lines if line["event"] == "tag"),
        images=tuple(_image(run, line) for line in lines if line["event"] == "image"),
    )


def _tag(run: str, line: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: {"run": run, "bytes": 0, **line}[name] for name in COLUMNS}


def _image(run: str, line: Mapping[str, Any]) -> Mapping[str, Any]:
    named = {**line, "run": run, "image": line["id"], "bytes": line["size"]}
    return {name: named[name] for name in IMAGE_COLUMNS}


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: printable(each) if isinstance(each, str) else each for name, each in row.items()}
        for row in rows
    )
    return out.getvalue()
