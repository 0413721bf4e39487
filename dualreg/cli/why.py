"""``dualreg why``: what keeps a blob, and when what nothing keeps is deleted."""

from collections.abc import Iterator
from pathlib import Path

import click

from dualreg.cli.administration import administration
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import echo, echo_json, minute
from dualreg.errors import DigestInvalid
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.messages import counted
from dualreg.registry.uses import Explanation, Holder, Kept, UsePath


@click.command()
@click.argument("reference", metavar="DIGEST|REPOSITORY:TAG|REPOSITORY@DIGEST")
@json_option
@settings_options
def why(reference: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Show what keeps a blob or manifest.

    For each repository that has it, or the given one, the shortest paths to it from tags are shown. If there
    are none, they are those from manifests and V1 images without a tag. With a blob that nothing uses, the
    time is shown until which it is kept.
    """
    with administration(data, config, alone=True) as admin:
        repository, what = _parse(reference)
        found = admin.images.why(what, repository)
    if as_json:
        echo_json(_members(found))
    else:
        for line in _lines(found):
            echo(line)


def _parse(reference: str) -> tuple[RepositoryName | None, str]:
    """Return the repository, if one is given, and the digest or the tag.

    Raises:
        RegistryError: the reference is malformed.
    """
    name, at, digest = reference.rpartition("@")
    if at:
        return RepositoryName.parse(name), str(Digest.parse(digest))
    try:
        return None, str(Digest.parse(reference))
    except DigestInvalid:
        name, colon, tag = reference.rpartition(":")
        if not colon:
            what = f"{reference} is not a digest, REPOSITORY:TAG or REPOSITORY@DIGEST"
            raise click.ClickException(what) from None
    return RepositoryName.parse(name), str(Tag.parse(tag))


def _members(found: Explanation) -> dict[str, object]:
    """Return the explanation as JSON has it."""
    repositories = [
        {**each._asdict(), "paths": [_path_members(path) for path in each.paths]}
        for each in found.repositories
    ]
    return {**found._asdict(), "repositories": repositories}


def _path_members(path: UsePath) -> dict[str, object]:
    return {**path._asdict(), "steps": [step._asdict() for step in path.steps]}


def _lines(found: Explanation) -> Iterator[str]:
    yield f"{found.digest}: {found.size} bytes"
    if not found.repositories:
        kept = f"kept until {minute(found.until)}" if found.until else _NOT_NOTED
        yield f"No repository has it; {kept}."
    for holder in found.repositories:
        yield f"{holder.repository}:"
        yield from (f"  {line}" for line in _of_repository(holder))
    if found.more:
        yield f"and {found.more} more {'repository' if found.more == 1 else 'repositories'}"


_NOT_NOTED = "not noted yet: run `dualreg gc --full`"


def _of_repository(holder: Holder) -> Iterator[str]:
    for path in holder.paths:
        line = " > ".join(f"{step.kind} {step.name}" for step in path.steps)
        match path.kept:
            case Kept.TAG:
                yield line
            case Kept.UNTAGGED:
                yield f"{line} (no tag; kept, as gc_untagged says)"
            case Kept.GRACE if path.until:
                yield f"{line} (unused; kept until {minute(path.until)})"
            case _:
                yield f"{line} (unused; {_NOT_NOTED})"
    if holder.more:
        noun = "tag" if holder.paths[0].kept is Kept.TAG else "path"
        yield f"and {counted(holder.more, noun).replace(' ', ' more ', 1)}"
