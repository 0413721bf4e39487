"""Which clients can read images: the options that name clients, and what is printed of each tag."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import click

from dualreg.cli.command import Option
from dualreg.cli.options import Command
from dualreg.image.facts import Facts, Obstacle, Platform
from dualreg.image.readers import READERS, Reader, edition, obstacles, unsolved

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
            by_tag = "" if unsolved(missing) else edition(reader, facts)
            found.setdefault((missing, by_tag), []).append(reader.name)
    return [Judgement(tuple(clients), *key) for key, clients in found.items()]


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
    names = [*dict.fromkeys(name.strip() for name in text.split(","))] if text else []
    for name in names:
        if name not in READERS:
            raise click.BadParameter(f'unknown client "{name}"; known are {", ".join(READERS)}')
    return [READERS[name] for name in names]


def _platform(_: click.Context, __: click.Parameter, text: str) -> Platform:
    try:
        return Platform.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
