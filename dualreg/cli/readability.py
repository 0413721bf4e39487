"""Which clients can read images: the options that name clients, and what is printed of each tag."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import click

from dualreg.cli.command import Option
from dualreg.cli.options import Command, client_names
from dualreg.cli.output import Columns
from dualreg.image.facts import Facts
from dualreg.image.platform import Platform
from dualreg.image.readers import READERS, Reader
from dualreg.maintenance.judging import DEFAULT_READERS, Judgement, is_artifact, judge
from dualreg.messages import counted

#: A tag that clients cannot read: its cells in a table, its members in JSON, and why.
Judged = tuple[Sequence[str], Mapping[str, object], Sequence[Judgement]]
#: Tags, as JSON has them.
Documents = Sequence[Mapping[str, object]]


class Listing:
    """The tags that clients cannot read, in a table that is printed as they are found, or as JSON.

    Attributes:
        tags, artifacts: How many were looked at, and how many of them are artifacts.
        listed: How many one of the clients cannot read.
        failing: To how many of these this registry makes nothing that all the clients can read.
    """

    def __init__(
        self, *headings: str, readers: Sequence[Reader], unsolved: bool = False, as_json: bool = False
    ) -> None:
        """Print columns with *headings*, and those of judgements, unless *as_json*.

        Args:
            unsolved: Leave out what *readers* can read by tag.
        """
        self._columns = Columns(*headings, "CLIENT", "AS STORED", "BY TAG")
        self._readers, self._unsolved, self._as_json = readers, unsolved, as_json
        self.tags = self.listed = self.failing = self.artifacts = 0

    def add(self, found: Iterable[tuple[Sequence[str], Mapping[str, object], Facts]]) -> Documents:
        """Print the tags that one of the clients cannot read, and return them as JSON has them.

        Args:
            found: Cells and members that say which tag it is, and the facts of its image.
        """
        judged = list[Judged]()
        for cells, members, facts in found:
            self.count(1, int(is_artifact(facts)))
            if unreadable := judge(facts, self._readers, only_unsolved=self._unsolved):
                judged.append((cells, members, unreadable))
        return self.add_judged(judged)

    def count(self, tags: int, artifacts: int) -> None:
        """Count tags that were looked at, some of which are artifacts."""
        self.tags += tags
        self.artifacts += artifacts

    def add_judged(self, judged: Iterable[Judged]) -> Documents:
        """Print tags that one of the clients cannot read, and return them as JSON has them."""
        rows, documents = list[tuple[str, ...]](), list[dict[str, object]]()
        for cells, members, unreadable in judged:
            self.listed += 1
            self.failing += not all(one.by_tag for one in unreadable)
            rows += ((*cells, *one.cells) for one in unreadable)
            documents.append({**members, "unreadable": [one.members() for one in unreadable]})
        if not self._as_json:
            self._columns.add(rows)
        return documents

    def __str__(self) -> str:
        """Return the summary."""
        return (
            f"{counted(self.tags, 'tag')}: {self.listed} not readable by a client as stored,"
            f" {self.failing} not by tag, either; {counted(self.artifacts, 'artifact')}."
        )


def readers_option(*, required: bool, section: str = "Options") -> Callable[[Command], Command]:
    """Return ``--for``, which names clients; unless it is *required*, none are meant without it."""
    return click.option(
        "--for", "readers", cls=Option, section=section, metavar="CLIENT,...",
        default=",".join(DEFAULT_READERS) if required else None, show_default=required, callback=_readers,
        help=f"{'Check' if required else 'Also check'} what these clients can read: {', '.join(READERS)}.",
    )  # fmt: skip


def platform_option(section: str = "Options") -> Callable[[Command], Command]:
    """Return ``--platform``."""
    return click.option(
        "--platform", cls=Option, section=section, metavar="OS/ARCHITECTURE", default="linux/amd64",
        show_default=True, callback=_platform, help="Check the image for this platform.",
    )  # fmt: skip


def _readers(_: click.Context, __: click.Parameter, text: str | None) -> Sequence[Reader]:
    """Return the clients that an option names.

    Raises:
        click.BadParameter: one is unknown.
    """
    return [READERS[name] for name in client_names(text, READERS)] if text else []


def _platform(_: click.Context, __: click.Parameter, text: str) -> Platform:
    try:
        return Platform.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
