"""Openers of the transports: how each location is surveyed, served on demand, or exported to."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from dualreg.errors import NameInvalid
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.migrate.base import Survey
from dualreg.migrate.on_demand.trees import OnDemandRegistryTree, OnDemandTree, OnDemandV1Tree
from dualreg.migrate.saved.survey import survey_saved
from dualreg.migrate.scan_options import ScanOptions
from dualreg.migrate.sources.archive import Archive
from dualreg.migrate.sources.base import SourceInvalid
from dualreg.migrate.sources.docker_archive import SavedChains, SavedImages
from dualreg.migrate.sources.oci_layout import OciLayout
from dualreg.migrate.sources.registry_tree import RegistryTree
from dualreg.migrate.sources.v1_config import storage_path
from dualreg.migrate.sources.v1_remote import V1Remote
from dualreg.migrate.sources.v1_tree import V1Tree
from dualreg.migrate.sources.v2_remote import V2Remote
from dualreg.migrate.targets.base import Target, TargetInvalid
from dualreg.migrate.targets.docker_archive import DockerArchiveTarget
from dualreg.migrate.targets.oci_layout import OciLayoutTarget
from dualreg.migrate.targets.registry_tree import RegistryTreeTarget
from dualreg.migrate.targets.remote import RemoteTarget
from dualreg.migrate.targets.static_tree import StaticTreeTarget
from dualreg.migrate.targets.tar_file import TarFile
from dualreg.migrate.targets.volumes import VolumesTarget
from dualreg.migrate.transfer import LinkMode
from dualreg.migrate.v1.survey import survey_images
from dualreg.migrate.v2.survey import survey_manifests
from dualreg.registry import Registry
from dualreg.registry.children import ManifestRules
from dualreg.remote.client import Client
from dualreg.remote.endpoint import RemoteError
from dualreg.storage.base import Keeps
from dualreg.transports import Location, LocationInvalid, Use, parse_location


@dataclass(frozen=True, slots=True)
class RemoteCredentials:
    """How to log in to a remote registry.

    Attributes:
        ca: File of the certificate authorities to trust; None: those of the system.
        token_servers, redirect_hosts: See ``Client``.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    ca: str | None = None
    token_servers: Collection[str] = ()
    redirect_hosts: Collection[str] = ()

    def client(self, url: str, *, repeat_failed: bool = True) -> Client:
        """Return a client of the registry at *url*, which has no path.

        Args:
            repeat_failed: As of ``Client``.

        Raises:
            RemoteError: the URL is invalid.
        """
        return Client(
            url,
            self.user,
            self.password,
            self.ca,
            self.token_servers,
            self.redirect_hosts,
            repeat_failed=repeat_failed,
        )

    def connect(self, location: Location, use: Use) -> tuple[Client, str]:
        """Return a client of the registry at *location*, and the path in the URL, without slashes around it.

        Raises:
            LocationInvalid: the URL is invalid.
        """
        scheme, _, rest = location.url.partition("://")
        host, _, path = rest.partition("/")
        expected = f"expected {location.transport.uses[use]}"
        try:
            client = self.client(f"{scheme}://{host}")
        except RemoteError as error:
            raise LocationInvalid(f"{error}; {expected}") from error
        if "@" in host or "?" in rest or "#" in rest:
            bare = f"{scheme}://{host.rpartition('@')[2]}"
            raise LocationInvalid(f'invalid URL "{bare}": not only host and path; {expected}, and see --user')
        return client, path.strip("/")


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How to read a source.

    Attributes:
        flavor: Which section of a docker-registry configuration to use.
        repository: The repository of images that name none.
        environ: The environment variables that such a configuration may refer to.
        credentials: For a remote registry.
        scan: How to query a remote registry; files are always read completely.
        rules: Which manifests this registry takes.
    """

    flavor: str = "dev"
    repository: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    credentials: RemoteCredentials = field(default_factory=RemoteCredentials)
    scan: ScanOptions = field(default_factory=ScanOptions)
    rules: ManifestRules = field(default_factory=ManifestRules)


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """How to write to a target.

    Attributes:
        repositories: Those of the tags to be exported.
        stop: Set to end early.
        link: How a registry-tree gets its blobs.
        deep: Whether to read the blobs that are at the target already, instead of comparing their sizes.
        credentials: For a remote registry.
        volume: The size of a volume in bytes, at most; 0: any size.
        have: Blobs that are left out of volumes.
    """

    registry: Registry
    repositories: Sequence[str]
    stop: Event
    link: LinkMode = LinkMode.AUTO
    deep: bool = False
    credentials: RemoteCredentials = field(default_factory=RemoteCredentials)
    volume: int = 0
    have: Collection[Digest] = ()


def survey_source(source: str, options: SourceOptions) -> Survey:
    """Return what *source* contains.

    Raises:
        SourceInvalid: there is no such source, or it is not what its transport says.
        OSError: it cannot be read.
    """
    try:
        location = parse_location(source, Use.SOURCE)
        return SURVEYS[location.transport.name](location, options)
    except LocationInvalid as error:
        hint = f"; did you mean {_guess(source)}?" if Path(source).exists() else ""
        raise SourceInvalid(f"{error}{hint}") from error


def open_on_demand(source: str) -> OnDemandTree:
    """Return a source that can stay behind a running registry.

    Raises:
        SourceInvalid: there is no such source, or it cannot be used so.
        OSError: it cannot be read.
    """
    try:
        location = parse_location(source, Use.ON_DEMAND)
    except LocationInvalid as error:
        raise SourceInvalid(str(error)) from error
    return ON_DEMAND[location.transport.name](location)


def open_target(target: str, options: TargetOptions) -> Target:
    """Return a target, to be closed by the caller.

    Raises:
        TargetInvalid: there is no such target, or it cannot be used.
    """
    try:
        location = parse_location(target, Use.TARGET)
        return TARGETS[location.transport.name](location, options)
    except LocationInvalid as error:
        raise TargetInvalid(str(error)) from error


def shortens_library(source: str) -> bool:
    """Return whether clients of *source* call ``library/x`` just ``x``, judging by its transport."""
    with suppress(LocationInvalid):
        return parse_location(source, Use.SOURCE).transport.generation == "v1"
    return False


def is_own_store(source: str, keeps: Keeps) -> bool:
    """Return whether *source* is the store that *keeps* is of; False if it cannot be read."""
    with suppress(SourceInvalid, OSError):
        return open_on_demand(source).is_store(keeps)
    return False


def _survey_v1_tree(location: Location, options: SourceOptions) -> Survey:
    return survey_images(V1Tree.open(_v1_storage(location, options)))


def _v1_storage(location: Location, options: SourceOptions) -> Path:
    """Return the storage at *location*, or the one that the configuration file there names."""
    path = Path(location.rest)
    return storage_path(path, options.flavor, options.environ) if path.is_file() else path


def _open_on_demand_v1_tree(location: Location) -> OnDemandTree:
    return OnDemandV1Tree.open(_v1_storage(location, SourceOptions()))


def _open_on_demand_registry_tree(location: Location) -> OnDemandTree:
    return OnDemandRegistryTree.open(Path(location.rest))


def _survey_registry_tree(location: Location, options: SourceOptions) -> Survey:
    return survey_manifests(RegistryTree.open(Path(location.rest)), rules=options.rules)


def _survey_oci_layout(location: Location, options: SourceOptions) -> Survey:
    layout = OciLayout.open(Path(location.rest), options.repository)
    return survey_manifests(layout, rules=options.rules)


def _survey_volumes(location: Location, options: SourceOptions) -> Survey:
    layout = OciLayout.open(Path(location.rest), options.repository, volumes=True)
    return survey_manifests(layout, rules=options.rules)


def _survey_docker_archive(location: Location, options: SourceOptions) -> Survey:
    path = Path(location.rest)
    archive = Archive.open(path)
    repository = options.repository or path.name.partition(".")[0]
    if SavedImages.MANIFEST in archive.members:
        return survey_saved(SavedImages.open(archive, repository))
    return survey_images(SavedChains.open(archive, repository, path))


def _survey_v1_remote(location: Location, options: SourceOptions) -> Survey:
    client, repository = options.credentials.connect(location, Use.SOURCE)
    return survey_images(V1Remote(client, repository, options.scan), options.scan)


def _survey_v2_remote(location: Location, options: SourceOptions) -> Survey:
    client, repository = options.credentials.connect(location, Use.SOURCE)
    remote = V2Remote(client, repository, options.scan)
    return survey_manifests(remote, options.scan, rules=options.rules)


def _open_registry_tree(location: Location, options: TargetOptions) -> Target:
    return RegistryTreeTarget(Path(location.rest), options.link, options.registry.blobs, deep=options.deep)


def _open_oci_layout(location: Location, options: TargetOptions) -> Target:
    return OciLayoutTarget(Path(location.rest), options.repositories, deep=options.deep)


def _open_volumes(location: Location, options: TargetOptions) -> Target:
    path = Path(location.rest)
    return VolumesTarget(path, options.repositories, limit=options.volume, have=options.have)


def _open_docker_archive(location: Location, options: TargetOptions) -> Target:
    path = None if location.rest == "-" else Path(location.rest)
    return DockerArchiveTarget(TarFile(path, sys.stdout.buffer), options.registry, options.stop)


def _open_static_tree(location: Location, options: TargetOptions) -> Target:
    return StaticTreeTarget(Path(location.rest), options.registry, deep=options.deep)


def _open_v2_remote(location: Location, options: TargetOptions) -> Target:
    client, prefix = options.credentials.connect(location, Use.TARGET)
    try:
        return RemoteTarget(client, RepositoryName.parse(prefix) if prefix else "")
    except NameInvalid as error:
        raise TargetInvalid(f'invalid repository prefix "{prefix}"') from error


#: The openers, by name of the transport.
SURVEYS: Mapping[str, Callable[[Location, SourceOptions], Survey]] = {
    "v1-tree": _survey_v1_tree,
    "registry-tree": _survey_registry_tree,
    "oci-layout": _survey_oci_layout,
    "volumes": _survey_volumes,
    "docker-archive": _survey_docker_archive,
    "v1": _survey_v1_remote,
    "v2": _survey_v2_remote,
}
ON_DEMAND: Mapping[str, Callable[[Location], OnDemandTree]] = {
    "v1-tree": _open_on_demand_v1_tree,
    "registry-tree": _open_on_demand_registry_tree,
}
TARGETS: Mapping[str, Callable[[Location, TargetOptions], Target]] = {
    "registry-tree": _open_registry_tree,
    "oci-layout": _open_oci_layout,
    "volumes": _open_volumes,
    "docker-archive": _open_docker_archive,
    "static-tree": _open_static_tree,
    "v2": _open_v2_remote,
}


def _guess(path: str) -> str:
    """Return the source that is probably meant by a path alone."""
    if Path(path).is_file() and not path.endswith((".yml", ".yaml")):
        return f"docker-archive:{path}"
    with suppress(SourceInvalid, OSError):
        OciLayout.open(Path(path), "")
        return f"oci-layout:{path}"
    with suppress(SourceInvalid, OSError):
        RegistryTree.open(Path(path))
        return f"registry-tree:{path}"
    return f"v1-tree:{path}"
