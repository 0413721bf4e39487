"""``dualreg image``: one image, in words."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from dualreg.cli.administration import administration
from dualreg.cli.options import Command, json_option, settings_options
from dualreg.cli.output import Columns, echo, echo_json, members, minute, sized, table
from dualreg.cli.paging import listed, print_pages
from dualreg.cli.readability import platform_option
from dualreg.image.artifacts import Sort
from dualreg.image.description import Description, Step
from dualreg.image.digest import Digest
from dualreg.image.entries import Kind
from dualreg.image.layer_changes import Change
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.platform import Platform
from dualreg.image.signatures.verdict import Validity
from dualreg.messages import counted
from dualreg.operations.layers import LayerEntry, LayerPage
from dualreg.operations.session import Listing
from dualreg.registry.attachments import Attachment
from dualreg.registry.differences import ComparedLayer, ComparedSetting, Side
from dualreg.registry.faces import FacePair
from dualreg.registry.inspection import Entry, Image, Inspected, LayerSharing

#: Characters of a command, and of a digest or an ID, in tables.
_COMMAND, _SHORT = 90, 12
_FILE_HEADINGS = ("PERMISSIONS", "OWNER", "SIZE", "MODIFIED", "NAME")


@click.group()
def image() -> None:
    """Show an image."""


@image.command()
@click.argument("reference", metavar="REPOSITORY[:TAG|@DIGEST]")
@platform_option()
@json_option
@settings_options
def show(
    reference: str, data: Path | None, config: Path | None, *, platform: Platform, as_json: bool
) -> None:
    """Show what an image is, how it was built, and what is attached to it.

    The tag is latest unless one is given. Of an index, the image for --platform is shown. Signatures, bills
    of materials, attestations and the reports of scanners are shown as clients pushed them. Signatures are
    verified by the keys in the settings for the repository. Of each layer, it says how many images have it.
    """
    with administration(data, config, alone=True) as admin:
        repository, wanted = _parse(reference)
        found = admin.images.show(repository, str(wanted), platform=str(platform))
    if as_json:
        echo_json(found)
    else:
        _print(found, platform)


@image.command()
@click.argument("reference", metavar="REPOSITORY[:TAG|@DIGEST]")
@click.argument("other", metavar="TAG|DIGEST")
@platform_option()
@json_option
@settings_options
def compare(
    reference: str, other: str, data: Path | None, config: Path | None, *, platform: Platform, as_json: bool
) -> None:
    """Compare an image with another one of its repository: their layers, and what their configs say.

    Of an index, the image for --platform is compared. `dualreg image diff` lists what a layer changes.
    """
    with administration(data, config, alone=True) as admin:
        repository, wanted = _parse(reference)
        found = admin.images.compare(repository, str(wanted), other, platform=str(platform))
    if as_json:
        echo_json(found)
        return
    _facts("", [("first", str(found.first)), ("second", str(found.second))])
    apart = [each for each in found.layers if each.side is not Side.BOTH]
    shared = len(found.layers) - len(apart)
    echo(
        f"{counted(shared, 'layer')} in both ({sized(found.bytes)}); "
        f"{sized(found.first_bytes)} only in the first, {sized(found.second_bytes)} only in the second."
    )
    for headings, rows in (
        (("ONLY IN", "SIZE", "LAYER", "COMMAND"), [*map(_layer_row, apart)]),
        (("CONFIG", "FIRST", "SECOND"), [*map(_setting_row, found.settings)]),
    ):
        if rows:
            echo("")
            table(headings, rows)


@image.command()
@click.argument("reference", metavar="REPOSITORY[:TAG]")
@json_option
@settings_options
def faces(reference: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Show a tag as V1 clients and as others see it.

    The tag is latest unless one is given. Each V1 image stands opposite its layer in the manifest; of an
    index, in that for linux/amd64. V1 images that are not derived yet are derived when a V1 client first
    reads the tags of the repository.
    """
    with administration(data, config, alone=True) as admin:
        found = admin.images.faces(*_parse_tagged(reference))
    if as_json:
        echo_json(found)
        return
    _facts("", [("digest", str(found.digest)), ("media type", found.media_type)])
    echo(found.provenance)
    echo(found.visibility)
    if found.pairs:
        echo("")
        table(("V1 IMAGE", "LAYER", "SIZE", "COMMAND"), [*map(_face_row, found.pairs)])


def _layer_options(command: Command) -> Command:
    """Let a command take an image, one of its layers, and a path in it."""
    for option in (
        settings_options,
        json_option,
        platform_option(),
        click.option(
            "--layer",
            default="",
            metavar="DIGEST",
            help="Show this layer: its digest, or the beginning of that.",
        ),
        click.argument("path", default=""),
        click.argument("reference", metavar="REPOSITORY[:TAG|@DIGEST]"),
    ):
        command = option(command)
    return command


@image.command()
@_layer_options
def files(reference: str, data: Path | None, config: Path | None, *, as_json: bool, **asked: Any) -> None:  # noqa: ANN401 -- options
    """List the files of a layer, or those at PATH and below it.

    The tag is latest unless one is given, and the layer is the last one; `dualreg image show` lists the
    layers. What a layer removes from the layers below it is listed, too. Of a layer that is too large, the
    first files are listed. Names are escaped. With --json, each file is one line.
    """
    with administration(data, config, alone=True) as admin:
        read = _reader(admin.layers.files, reference, **asked)
        last = _print_layer(read, Columns(*_FILE_HEADINGS), _file_row, as_json=as_json)
    if not as_json:
        echo(f"{counted(last.total, 'entry', 'entries')}.")


@image.command()
@_layer_options
def diff(reference: str, data: Path | None, config: Path | None, *, as_json: bool, **asked: Any) -> None:  # noqa: ANN401 -- options
    """List what a layer adds, changes and removes, all of it or at PATH and below it.

    The layer is compared with those below it in the same image; it is the last one unless --layer is given.
    A file that it has counts as changed, whatever its content is; a directory only if its permissions or
    owner are. Names are escaped. With --json, each file is one line.
    """
    with administration(data, config, alone=True) as admin:
        read = _reader(admin.layers.changes, reference, **asked)
        last = _print_layer(read, Columns("CHANGE", *_FILE_HEADINGS), _change_row, as_json=as_json)
    if not as_json and not last.incomplete:
        echo(", ".join(f"{last.counts.get(each, 0)} {each}" for each in Change) + ".")


def _reader(
    read: Callable[..., LayerPage], reference: str, *, platform: Platform, **asked: str
) -> Callable[..., LayerPage]:
    """Return what reads pages of the layer that is named by REFERENCE and options."""
    repository, wanted = _parse(reference)
    return partial(read, repository, str(wanted), platform=str(platform), **asked)


def _print_layer(
    read: Callable[..., LayerPage],
    columns: Columns,
    cells: Callable[[LayerEntry], Sequence[str]],
    *,
    as_json: bool,
) -> LayerPage:
    """Print entries of a layer as they are read; return the last page."""
    pages = list[LayerPage]()

    def following(n: int, after: str | None) -> Listing[LayerEntry]:
        page = read(n=n, after=after or "")
        if not pages and not as_json:
            echo(f"Layer {page.position} of {page.layers}: {page.layer}")
        pages[:] = [page]
        return Listing(page.rows, page.next)

    print_pages(listed(following), columns, cells, members, as_json=as_json)
    (last,) = pages
    if last.incomplete:
        echo(last.incomplete, err=as_json)
    return last


def _file_row(entry: LayerEntry) -> Sequence[str]:
    if not entry.permissions:
        removed = "what is below " if entry.kind is Kind.OPAQUE else ""
        return "-", "-", "-", "-", f"removes {removed}{entry.path}"
    name = f"{entry.path} -> {entry.target}" if entry.target else entry.path
    at = minute(entry.modified_at) if entry.modified_at else "-"
    return entry.permissions, f"{entry.uid}:{entry.gid}", sized(entry.size), at, name


def _change_row(entry: LayerEntry) -> Sequence[str]:
    return str(entry.change), *_file_row(entry)


def _layer_row(each: ComparedLayer) -> tuple[str, ...]:
    size = "?" if each.size is None else sized(each.size)
    return str(each.side), size, _short(each.layer), _cut(each.created_by)


def _setting_row(each: ComparedSetting) -> tuple[str, ...]:
    return each.name, _cut(each.first) or "-", _cut(each.second) or "-"


def _face_row(pair: FacePair) -> tuple[str, str, str, str]:
    size = "?" if pair.size is None else sized(pair.size)
    image = pair.image[:_SHORT] if pair.image else "-"
    layer = (_short(pair.layer), size) if pair.layer else ("-", "-")
    return image, *layer, _cut(pair.created_by)


def _parse(reference: str) -> tuple[RepositoryName, Tag | Digest]:
    """Return the repository, and the tag or digest in it.

    Raises:
        RegistryError: the reference is malformed.
    """
    name, at, digest = reference.rpartition("@")
    if at:
        return RepositoryName.parse(name), Digest.parse(digest)
    return _parse_tagged(reference)


def _parse_tagged(reference: str) -> tuple[RepositoryName, Tag]:
    """Return the repository, and the tag in it; raises as ``_parse``."""
    name, colon, tag = reference.rpartition(":")
    return RepositoryName.parse(name if colon else reference), Tag.parse(tag if colon else "latest")


def _print(found: Inspected, platform: Platform) -> None:
    _facts("", [("digest", str(found.digest)), ("media type", found.media_type), *_of_manifest(found)])
    if found.entries:
        echo("")
        table(("PLATFORM", "SIZE", "DIGEST"), [_entry_row(each) for each in found.entries])
        _more(found, "entries")
    if found.image:
        _print_image(found.image)
    elif found.entries:
        echo(f"The repository has no image for {platform}; give another --platform.")
    echo("")
    if not found.attachments:
        echo("Nothing is attached to it.")
    for each in found.attachments:
        about = "" if each.subject == found.digest else f", about {_short(each.subject)}"
        echo(_attachment(each) + about)
    _more(found, "attachments")


def _of_manifest(found: Inspected) -> Iterator[tuple[str, str]]:
    yield "artifact type", found.artifact_type
    more = ", …" if "tags" in found.more else ""
    yield "tags", ", ".join(found.tags) + more if found.tags else "none"
    yield from ((f"annotation {name}", text) for name, text in found.annotations.items())


def _more(found: Inspected, what: str) -> None:
    if what in found.more:
        echo(f"There are more {what}; only the first ones are shown.")


def _entry_row(entry: Entry) -> tuple[str, str, str]:
    name = entry.platform or "-"
    if entry.about:
        name = f"(attached to {_short(entry.about)})"
    return name, "missing" if entry.size is None else sized(entry.size), str(entry.digest)


def _print_image(image: Image) -> None:
    echo("")
    steps = image.steps
    layers = sum(step.layer is not None for step in steps)
    facts = [("image", str(image.digest)), ("size", f"{sized(image.size)} in {counted(layers, 'layer')}")]
    if image.description:
        facts += _of_config(image.description)
    if image.v1_image:
        how = "pushed by V1 clients" if image.pushed_chain else "as V1 clients see it"
        facts.append(("V1 image", f"{image.v1_image}, {how}"))
    _facts("", facts)
    if steps:
        echo("")
        uses = {each.layer: each for each in image.sharing}
        rows = [_step_row(step, uses.get(step.layer) if step.layer else None) for step in steps]
        table(("CREATED", "SIZE", "LAYER", "IMAGES", "V1 IMAGES", "COMMAND"), rows)


def _of_config(found: Description) -> Iterator[tuple[str, str]]:
    yield "platform", found.platform
    yield "created", found.created
    yield "author", found.author
    yield "entrypoint", _words(found.entrypoint)
    yield "command", _words(found.command)
    yield "user", found.user
    yield "working directory", found.working_dir
    yield from (("environment", each) for each in found.environment)
    yield "ports", _words(found.ports)
    yield "volumes", _words(found.volumes)
    yield "stop signal", found.stop_signal
    yield from ((f"label {name}", text) for name, text in found.labels.items())


def _step_row(step: Step, use: LayerSharing | None) -> tuple[str, ...]:
    size = "?" if step.size is None else sized(step.size)
    name = step.image[:_SHORT] if step.image else _short(step.layer) if step.layer else "-"
    more = "+" if use and use.more else ""
    counts = (f"{use.images}{more}", f"{use.v1_images}{more}") if use else ("-", "-")
    return step.created[:10] or "-", size if step.layer else "-", name, *counts, _cut(step.created_by)


def _cut(command: str) -> str:
    """Return a command in one line of a table."""
    text = " ".join(command.split())
    return (text if len(text) <= _COMMAND else f"{text[: _COMMAND - 1]}…") or "-"


def _attachment(found: Attachment) -> str:
    """Return one line about an attachment."""
    name = found.format if found.sort is Sort.OTHER else f"{found.sort} ({found.format})"
    parts = [f"{name[0].upper()}{name[1:]}"]
    if found.predicate_type and found.sort is not Sort.SIGNATURE:
        parts.append(found.predicate_type)
    parts += filter(None, (found.contents, found.tool and f"made by {found.tool}"))
    if found.validity is Validity.VALID:
        parts.append(f"valid, signed by {found.by}")
    elif found.validity:
        by = f", says to be by {found.by}" if found.by else ""
        parts.append(f"{str(found.validity).upper()}{by}: {found.reason}")
    elif found.reason:
        parts.append(found.reason)
    parts.append(f"in {found.tag}" if found.tag else f"in {found.digest}")
    return "; ".join(parts)


def _facts(indent: str, facts: list[tuple[str, str]]) -> None:
    """Print names with values, but for empty ones."""
    shown = [(name, value) for name, value in facts if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        echo(f"{indent}{name.ljust(width)}  {value}")


def _words(words: tuple[str, ...]) -> str:
    return " ".join(words)


def _short(digest: Digest) -> str:
    return digest.hex[:_SHORT]
