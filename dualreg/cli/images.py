"""``dualreg images``: which clients can read the images of this registry."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import click

from dualreg.cli.administration import administration
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import echo, echo_json, minute
from dualreg.cli.progress import interruptible, progress
from dualreg.cli.readability import Judged, Listing, platform_option, readers_option
from dualreg.image.platform import Platform
from dualreg.image.readers import Reader
from dualreg.maintenance.tagged import Selects
from dualreg.migrate import names
from dualreg.operations.inspection import CheckedImages, UnreadableTag

_EXIT_FINDINGS = 1
#: Tags that are checked at a time.
_ROWS = 1000


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
    listing = Listing("TAG", "LAST PULL", readers=readers, unsolved=unsolved, as_json=as_json)
    clients = tuple(each.name for each in readers)
    selecting(patterns)  # a wrong one is one of the command line
    with administration(data, config, alone=True) as admin, interruptible():
        total = admin.images.check(patterns, clients=clients, n=1, total=True).total or 0
        check = partial(
            admin.images.check, patterns, clients=clients, platform=str(platform), unsolved=unsolved
        )
        with progress("tags", total) as advance:
            for page in _pages(check):
                listing.count(page.tags, page.artifacts)
                for document in listing.add_judged(map(_described, page.rows)):
                    if as_json:
                        echo_json(document, indent=None)
                advance(page.looked, 0)
    if not as_json:
        echo(listing)
    if listing.listed:
        raise SystemExit(_EXIT_FINDINGS)


def _pages(check: Callable[..., CheckedImages]) -> Iterator[CheckedImages]:
    """Yield all pages of what cannot be read."""
    after: str | None = ""
    while after is not None:
        page = check(n=_ROWS, after=after)
        yield page
        after = page.next


def _described(found: UnreadableTag) -> Judged:
    """Return what a listing shows of a tag."""
    name = f"{found.repository}:{found.tag}"
    pulled = minute(found.pulled_at) if found.pulled_at else "never"
    members = {"tag": name, "digest": found.digest, "pulled_at": found.pulled_at}
    return (name, pulled), members, found.unreadable


def selecting(patterns: Sequence[str]) -> Selects:
    """Return what selects the tags that one of *patterns* matches, of ``REPOSITORY[:TAG]``; without any, all.

    Raises:
        click.BadParameter: one is invalid.
    """
    try:
        return names.selecting(patterns)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
