"""Which clients can read images: the options that name clients, and what is printed of each tag."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import click

from dualreg.cli.command import Option
from dualreg.cli.options import Command, client_names
from dualreg.cli.output import Columns, counted
from dualreg.image import media_types
from dualreg.image.editions import Family
from dualreg.image.facts import V1_IMAGE, Facts, Obstacle
from dualreg.image.platform import Platform
from dualreg.image.readers import READERS, Reader, obstacles, unsolved
from dualreg.registry.accept import Accept, Agent
from dualreg.registry.editions import Form, Nature, suitable

#: Tags, as JSON has them.
Documents = Sequence[Mapping[str, object]]
#: Clients of every generation, if none are named.
_DEFAULT = "containerd-2.1,docker-20.10,docker-1.13,docker-1.9,v1"


class Judgement(NamedTuple):
    """What clients cannot read of an image, and what they get instead.

    Attributes:
        clients: Those for which the rest is the same.
        obstacles: What keeps them from the image as it is stored.
        by_tag: What this registry makes of it for them; empty: they cannot read it by tag, either.
    """

    clients: tuple[str, ...]
    obstacles: tuple[Obstacle, ...]
    by_tag: str

    @property
    def cells(self) -> tuple[str, str, str]:
        """What a table has of it."""
        return ", ".join(self.clients), ", ".join(self.obstacles), self.by_tag or "-"

    def members(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {**self._asdict(), "by_tag": self.by_tag or None}


def is_artifact(facts: Facts) -> bool:
    """Return whether a tag is an artifact, which is no image for any client."""
    return Obstacle.ARTIFACT in facts.obstacles


def judge(facts: Facts, readers: Iterable[Reader]) -> list[Judgement]:
    """Return what the *readers* that cannot read an image miss, those together that miss the same."""
    found = dict[tuple[tuple[Obstacle, ...], str], list[str]]()
    for reader in readers:
        if missing := obstacles(reader, facts):
            by_tag = "" if unsolved(missing) else _by_tag(reader, facts)
            found.setdefault((missing, by_tag), []).append(reader.name)
    return [Judgement(tuple(clients), *key) for key, clients in found.items()]


def _by_tag(reader: Reader, facts: Facts) -> str:
    """Return what a reader gets by tag, as the table of ``registry.editions`` says; empty: as stored."""
    if V1_IMAGE in reader.manifests:
        return "V1 image"
    media_type, image = (
        media_types.DOCKER_MANIFEST if each == V1_IMAGE else each  # of which V1 images are made
        for each in (facts.media_type, facts.image_type)
    )
    nature = Nature(media_type, frozenset({Family.of(image)}), facts.has_zstd)
    form = suitable(Accept(reader.manifests, agent=Agent(zstd=reader.zstd)), nature)
    texts = {Form.SCHEMA1: "schema 1", Form.SCHEMA2: "schema 2", Form.OCI: "OCI"}
    if form is Form.SCHEMA2 and media_type in media_types.INDEXES:
        texts[form] = "manifest list"
    gzip = "gzip layers" if facts.has_zstd and form in (Form.GZIP, Form.SCHEMA2, Form.OCI) else ""
    return ", ".join(filter(None, (texts.get(form), gzip)))


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
        rows, documents = list[tuple[str, ...]](), list[dict[str, object]]()
        for cells, members, facts in found:
            self.tags += 1
            self.artifacts += is_artifact(facts)
            if judged := self._judge(facts):
                self.listed += 1
                self.failing += not all(one.by_tag for one in judged)
                rows += ((*cells, *one.cells) for one in judged)
                documents.append({**members, "unreadable": [one.members() for one in judged]})
        if not self._as_json:
            self._columns.add(rows)
        return documents

    def _judge(self, facts: Facts) -> list[Judgement]:
        if is_artifact(facts):
            return []
        return [one for one in judge(facts, self._readers) if not (self._unsolved and one.by_tag)]

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
        default=_DEFAULT if required else None, show_default=required, callback=_readers,
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
