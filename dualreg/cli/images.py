"""``dualreg images``: which clients can read the images of this registry."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from dualreg.cli.admin import prepared_registry
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import Columns, counted, echo, echo_json, minute
from dualreg.cli.progress import interruptible, progress
from dualreg.cli.readability import Judgement, is_artifact, judge, platform_option, readers_option
from dualreg.image.facts import Platform
from dualreg.image.readers import Reader
from dualreg.maintenance.image_check import CheckedTag, ImageCheck
from dualreg.migrate.names import Names
from dualreg.patterns import check_pattern

_EXIT_FINDINGS = 1


@click.group()
def images() -> None:
    """Check which clients can read images."""


@images.command()
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@readers_option(required=True)
@platform_option()
@click.option("--unsolved", is_flag=True, help="Show only what clients cannot read by tag, either.")
@json_option
@settings_options
def check(
    patterns: tuple[str, ...], data: Path | None, config: Path | None, *,
    readers: Sequence[Reader], platform: Platform, unsolved: bool, as_json: bool,
) -> None:  # fmt: skip
    """List the tags that clients cannot read, and why.

    A PATTERN selects tags whose REPOSITORY[:TAG] matches. AS STORED is what keeps a client from an image as
    it was pushed, whichever registry serves it. BY TAG is what this registry makes of the image for that
    client; a dash means nothing. Artifacts, such as signatures and charts, are counted, but not listed. With
    --json, each tag is one line.

    Exit status: 0 if the clients can read every image, 1 otherwise.
    """
    names = Names(include=tuple(map(_pattern, patterns)))
    found = _Found(unsolved=unsolved, as_json=as_json)
    with prepared_registry(data, config, alone=True) as (registry, _), interruptible():
        checked = ImageCheck(registry, platform)
        with progress("tags", registry.tags.count()) as advance:
            for tags in checked.run(lambda name, tag: names.selects(name, f"{name}:{tag}"), advance):
                found.add(tags, readers)
    if not as_json:
        echo(found)
    if found.listed:
        raise SystemExit(_EXIT_FINDINGS)


class _Found:
    """What was found so far, which is printed at once."""

    def __init__(self, *, unsolved: bool, as_json: bool) -> None:
        self._unsolved, self._as_json = unsolved, as_json
        self._columns = Columns("TAG", "LAST PULL", "CLIENT", "AS STORED", "BY TAG")
        self.tags = self.listed = self.failing = self.artifacts = 0

    def add(self, tags: Iterable[CheckedTag], readers: Sequence[Reader]) -> None:
        """Print those of *tags* that one of *readers* cannot read."""
        rows = list[tuple[str, ...]]()
        for each in tags:
            self.tags += 1
            if is_artifact(each.facts):
                self.artifacts += 1
                continue
            judged = [one for one in judge(each.facts, readers) if not (self._unsolved and one.by_tag)]
            self.listed += bool(judged)
            self.failing += not all(one.by_tag for one in judged)
            if judged and self._as_json:
                echo_json(_members(each, judged), indent=None)
            rows += ((*_name_and_pull(each), *one.cells) for one in judged)
        if not self._as_json:
            self._columns.add(rows)

    def __str__(self) -> str:
        """Return the summary."""
        return (
            f"{counted(self.tags, 'tag')}: {self.listed} not readable by a client as stored,"
            f" {self.failing} not by tag, either; {counted(self.artifacts, 'artifact')}."
        )


def _name_and_pull(tag: CheckedTag) -> tuple[str, str]:
    pulled = tag.placed.row.pulled_at
    return f"{tag.placed.repository}:{tag.placed.row.name}", minute(pulled) if pulled else "never"


def _members(tag: CheckedTag, judged: Iterable[Judgement]) -> dict[str, object]:
    """Return the line of a tag, as JSON has it."""
    row = tag.placed.row
    return {
        "tag": f"{tag.placed.repository}:{row.name}",
        "digest": row.digest,
        "pulled_at": row.pulled_at,
        "unreadable": [one.members() for one in judged],
    }


def _pattern(text: str) -> str:
    """Return a pattern of names.

    Raises:
        click.BadParameter: it is invalid.
    """
    try:
        return check_pattern(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
