"""``dualreg images``: which clients can read the images of this registry."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from dualreg.cli.admin import prepared_registry
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import echo, echo_json, minute
from dualreg.cli.progress import interruptible, progress
from dualreg.cli.readability import Listing, platform_option, readers_option
from dualreg.image.facts import Facts
from dualreg.image.platform import Platform
from dualreg.image.readers import Reader
from dualreg.maintenance.image_check import CheckedTag, ImageCheck
from dualreg.maintenance.tagged import Selects
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
    selects = selecting(patterns)
    listing = Listing("TAG", "LAST PULL", readers=readers, unsolved=unsolved, as_json=as_json)
    with prepared_registry(data, config, alone=True) as (registry, _), interruptible():
        checked = ImageCheck(registry, platform)
        with progress("tags", registry.tags.count()) as advance:
            for tags in checked.run(selects, advance):
                documents = listing.add(map(_described, tags))
                for document in documents if as_json else ():
                    echo_json(document, indent=None)
    if not as_json:
        echo(listing)
    if listing.listed:
        raise SystemExit(_EXIT_FINDINGS)


def _described(tag: CheckedTag) -> tuple[Sequence[str], Mapping[str, object], Facts]:
    """Return what a listing shows of a tag."""
    row, name = tag.placed.row, f"{tag.placed.repository}:{tag.placed.row.name}"
    pulled = minute(row.pulled_at) if row.pulled_at else "never"
    return (name, pulled), {"tag": name, "digest": row.digest, "pulled_at": row.pulled_at}, tag.facts


def selecting(patterns: Sequence[str]) -> Selects:
    """Return what selects the tags that one of *patterns* matches, of ``REPOSITORY[:TAG]``; without any, all.

    Raises:
        click.BadParameter: one is invalid.
    """
    try:
        names = Names(include=tuple(map(check_pattern, patterns)))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return lambda repository, tag: names.selects(repository, f"{repository}:{tag}")
