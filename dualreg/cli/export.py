"""``dualreg export``: what this registry keeps becomes another's."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import click

from dualreg.cli.failures import Fatal, MigrateCommand
from dualreg.cli.migrate.options import chosen_names, glob_options, jobs_option, login, login_options
from dualreg.cli.migrate.output import FINDINGS, NOTHING, counted_outcomes
from dualreg.cli.migrate.passes import stoppable
from dualreg.cli.options import prepared_registry, settings_options
from dualreg.cli.progress import progress
from dualreg.errors import NameInvalid
from dualreg.image.names import RepositoryName
from dualreg.migrate.export import Export, leaving
from dualreg.migrate.plan import Entry
from dualreg.migrate.run import Outcome, Status
from dualreg.migrate.sources.base import SourceInvalid
from dualreg.migrate.targets.base import Target, TargetInvalid
from dualreg.migrate.targets.docker_archive import DockerArchiveTarget
from dualreg.migrate.targets.oci_layout import OciLayoutTarget
from dualreg.migrate.targets.registry_tree import RegistryTreeTarget
from dualreg.migrate.targets.remote import RemoteTarget
from dualreg.migrate.targets.static_tree import StaticTreeTarget
from dualreg.migrate.targets.tar_file import TarFile
from dualreg.migrate.transfer import LinkMode
from dualreg.registry import Registry

#: What a target's name begins with.
_SCHEMES = "registry-tree:PATH, oci-layout:PATH, docker-archive:FILE, static-tree:PATH, v2+http(s)://HOST"
#: What to do with each when it is there.
_NEXT = {
    "registry-tree": "docker-registry serve, with rootdirectory: {}",
    "oci-layout": "skopeo copy oci:{}:NAME docker://HOST/NAME",
    "docker-archive": "docker load --input {}",
    "static-tree": "nginx, with include {}/nginx.conf",
    "v2+http": "pull from http:{}",
    "v2+https": "pull from https:{}",
}


@click.command(cls=MigrateCommand)
@click.argument("target")
@settings_options
@glob_options
@login_options
@click.option("--link", type=click.Choice([str(way) for way in LinkMode]), default="auto", show_default=True,
              help="For registry-tree: hard shares files with this registry; auto shares blocks where the"
              " file system can; copy copies.")  # fmt: skip
@click.option(
    "--deep", is_flag=True, help="Read blobs that are at the target, instead of going by their sizes."
)
@jobs_option
@click.option("--dry-run", is_flag=True, help="Only say what would leave.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(
    target: str, data: Path | None, config: Path | None, *, jobs: int, dry_run: bool, as_json: bool,
    **chosen: Any,  # noqa: ANN401 -- whatever options there are
) -> None:  # fmt: skip
    """Bring tags, with all that they name and all that is about them, to TARGET.

    TARGET is registry-tree:PATH, what the reference registry serves from; oci-layout:PATH;
    docker-archive:FILE (- is the standard output), what docker load reads; static-tree:PATH, what a plain
    web server can serve pulls from; or v2+http(s)://HOST[/PREFIX], another registry. What is there already
    is not sent again. Ends as `migrate run` does.
    """
    with prepared_registry(data, config, alone=True) as (registry, _), stoppable() as stop:
        entries = [*leaving(registry, chosen_names(chosen))]
        if not entries:
            raise Fatal("no tag here is chosen; nothing was written")
        try:
            opened = _open(target, registry, entries, chosen, stop)
            if dry_run:
                click.echo("\n".join(entry.name for entry in entries))
                click.echo(f"{len(entries)} tags would leave.")
                return
            with progress("tags", len(entries)) as advance:
                outcomes = Export(
                    registry, opened, stop, lambda outcome: advance(1, outcome.read)
                ).export_all(entries, jobs)
        except (TargetInvalid, SourceInvalid, OSError) as error:
            raise Fatal(str(error)) from error
    _tell(target, outcomes, as_json=as_json, aside=_is_read_along(opened))


def _open(
    target: str, registry: Registry, entries: Sequence[Entry], chosen: Mapping[str, Any], stop: Event
) -> Target:
    scheme, _, rest = target.partition(":")
    path, deep = Path(rest), bool(chosen["deep"])
    if not rest:
        raise TargetInvalid(f"{target} is no target: {_SCHEMES}")
    match scheme:
        case "registry-tree":
            return RegistryTreeTarget(path, LinkMode(chosen["link"]), registry.blobs, deep=deep)
        case "oci-layout":
            return OciLayoutTarget(path, [entry.repository for entry in entries], deep=deep)
        case "docker-archive":
            file = TarFile(None if rest == "-" else path, sys.stdout.buffer)
            click.get_current_context().call_on_close(file.discard)
            return DockerArchiveTarget(file, registry, stop)
        case "static-tree":
            return StaticTreeTarget(path, registry, deep=deep)
        case "v2+http" | "v2+https":
            wire, prefix = login(chosen).wire(target)
            return RemoteTarget(wire, _prefix(prefix))
        case _:
            raise TargetInvalid(f"{target} is no target: {_SCHEMES}")


def _prefix(path: str) -> str:
    """Return what names of repositories begin with at another registry.

    Raises:
        NoTarget: no name can.
    """
    try:
        return RepositoryName.parse(path) if path else ""
    except NameInvalid as error:
        raise TargetInvalid(f"{path}: no name of a repository can begin so") from error


def _is_read_along(target: Target) -> bool:
    """Tell whether somebody reads what is written, perhaps where else we would print."""
    return isinstance(target, DockerArchiveTarget) and not target.file.is_file


def _tell(target: str, outcomes: Sequence[Outcome], *, as_json: bool, aside: bool) -> None:
    """Print how it went, *aside*: as errors are; end with what it comes to."""
    counts = Counter(outcome.status for outcome in outcomes)
    there = counts[Status.DONE] + counts[Status.SAME]
    if as_json:
        tags = [
            {"tag": each.entry.name, "status": each.status, "reason": each.reason, "digest": each.digest}
            for each in outcomes
        ]
        click.echo(json.dumps({"counts": counts, "tags": tags}, indent=2), err=aside)
    else:
        for outcome in outcomes:
            if outcome.reason:
                click.echo(f"{outcome.entry.name}: {outcome.status}: {outcome.reason}", err=aside)
        click.echo(counted_outcomes(outcomes), err=aside)
        scheme, _, rest = target.partition(":")
        if there:
            click.echo(f"Next:  {_NEXT[scheme].format(rest)}", err=aside)
    if counts[Status.FAILED] + counts[Status.STOPPED]:
        raise SystemExit(FINDINGS if there else NOTHING)
