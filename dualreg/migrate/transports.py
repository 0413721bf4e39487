"""Sorts of sources: which reader, survey, intake and comparison belong together."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from dualreg.migrate.base import Comparison, Importer
from dualreg.migrate.journal import Earlier, Journal
from dualreg.migrate.saved.importer import SavedImporter
from dualreg.migrate.saved.survey import SavedSurvey, survey_saved
from dualreg.migrate.saved.verify import SavedComparison
from dualreg.migrate.scan_options import ScanOptions
from dualreg.migrate.sources.base import ManifestSource, SourceInvalid, V1Source
from dualreg.migrate.sources.docker_archive import SavedImages, open_archive
from dualreg.migrate.sources.oci_layout import OciLayout
from dualreg.migrate.sources.registry_tree import RegistryTree
from dualreg.migrate.sources.v1_config import storage_path
from dualreg.migrate.sources.v1_remote import V1Remote
from dualreg.migrate.sources.v1_tree import V1Tree
from dualreg.migrate.sources.v2_remote import V2Remote
from dualreg.migrate.transfer import LinkMode
from dualreg.migrate.v1.importer import V1Importer
from dualreg.migrate.v1.survey import V1Survey, survey_images
from dualreg.migrate.v1.verify import V1Comparison
from dualreg.migrate.v2.importer import V2Importer
from dualreg.migrate.v2.survey import V2Survey, survey_manifests
from dualreg.migrate.v2.verify import V2Comparison
from dualreg.migrate.verify import Bytes
from dualreg.registry import Registry
from dualreg.remote.client import Client
from dualreg.remote.endpoint import RemoteError

#: What a source's name begins with.
SCHEMES = (
    "v1-tree:", "registry-tree:", "oci-layout:", "docker-archive:", "v1+http://", "v1+https://", "v2+http://",
    "v2+https://",
)  # fmt: skip
#: Any of the surveys.
AnySurvey = V1Survey | V2Survey | SavedSurvey


@dataclass(frozen=True, slots=True)
class RemoteCredentials:
    """How to log in at live registries.

    Attributes:
        ca: File of the authorities that sign their certificates; None: the system's.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    ca: str | None = None

    def wire(self, url: str) -> tuple[Client, str]:
        """Return what speaks to the registry of *url*, and the path in it.

        Raises:
            NoSource: it is no such URL.
        """
        scheme, _, rest = url.partition("+")[2].partition("://")
        host, _, path = rest.partition("/")
        try:
            wire = Client(f"{scheme}://{host}", self.user, self.password, self.ca)
        except RemoteError as error:
            raise SourceInvalid(f"{error}: not HOST[:PORT][/PATH]") from error
        if "@" in host or "?" in rest or "#" in rest:
            raise SourceInvalid(
                f"{scheme}://{host.rpartition('@')[2]}: not HOST[:PORT][/PATH], see also --user"
            )
        return wire, path.strip("/")


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What is needed to read some sources, beside their names.

    Attributes:
        flavor: Of an old registry's configuration.
        environ: What that configuration may name.
        repository: What images are in that name none.
        login: Of live registries.
        asking: How these are asked; files are looked through whole.
    """

    flavor: str = "dev"
    repository: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    login: RemoteCredentials = field(default_factory=RemoteCredentials)
    asking: ScanOptions = field(default_factory=ScanOptions)


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How a run takes in what it finds."""

    way: LinkMode = LinkMode.AUTO
    strict: bool = False


def survey_source(source: str, access: SourceOptions) -> AnySurvey:
    """Return what *source* holds.

    Raises:
        NoSource: there is none of that name.
        OSError: it cannot be read.
    """
    opened = _open(source, access)
    asking = access.asking if isinstance(opened, V1Remote | V2Remote) else ScanOptions()
    if isinstance(opened, SavedImages):
        return survey_saved(opened)
    if isinstance(opened, V1Source):
        return survey_images(opened, asking)
    return survey_manifests(opened, asking)


def open_on_demand(source: str) -> V1Tree | RegistryTree:
    """Return a source that can stay behind a running registry.

    Raises:
        NoSource: there is none, or it cannot.
        OSError: it cannot be read.
    """
    opened = _open(source, SourceOptions())
    if not isinstance(opened, V1Tree | RegistryTree):
        raise SourceInvalid(f"{source} cannot be asked for single tags: only trees can")
    return opened


def importer_of(
    found: AnySurvey, registry: Registry, own: Journal, manner: ImportOptions, stop: Event,
    *, earlier: Earlier | None = None,
) -> Importer:  # fmt: skip
    """Return what takes in the images of *found*, having looked at what earlier runs found out.

    Args:
        earlier: What remembers that from one pass to the next.
    """
    if isinstance(found, V2Survey):
        return V2Importer(registry, found.source, own, manner.way, stop)
    known = (earlier or Earlier(own.path.parent, own.source)).refresh()
    if isinstance(found, SavedSurvey):
        return SavedImporter(registry, found.source, own, known.blobs, stop)
    return V1Importer(
        registry, found.chain, own, manner.way, manner.strict, known.layers, stop, agent=found.agent
    )


def comparison_of(found: AnySurvey, registry: Registry, *, quick: bool) -> Comparison:
    """Return what compares *found* with what is here; *quick*: by sizes only."""
    if isinstance(found, SavedSurvey):
        return SavedComparison(registry, found.source, quick)
    content = None if quick else Bytes(registry.blobs)
    if isinstance(found, V2Survey):
        return V2Comparison(registry, found.source, content)
    return V1Comparison(registry, found, content)


def is_in_place(found: AnySurvey, registry: Registry) -> bool:
    """Tell whether the source is the registry's own store, so that only the catalog is to be filled."""
    source = found.source
    return isinstance(source, RegistryTree) and source.is_of(registry.blobs)


def is_own_store(source: str, registry: Registry) -> bool:
    """Tell whether the source of that name is the registry's own store, as far as it can be read."""
    try:
        found = _open(source, SourceOptions()) if source.startswith("registry-tree:") else None
    except (SourceInvalid, OSError):
        return False
    return isinstance(found, RegistryTree) and found.is_of(registry.blobs)


def _open(source: str, access: SourceOptions) -> V1Source | ManifestSource | SavedImages:
    scheme, _, rest = source.partition(":")
    path = Path(rest)
    if f"{scheme}:" in SCHEMES and not rest:
        raise SourceInvalid(f"{scheme}: names no path, as {scheme}:PATH does")
    match scheme:
        case "v1-tree":
            return V1Tree.open(storage_path(path, access.flavor, access.environ) if path.is_file() else path)
        case "registry-tree":
            return RegistryTree.open(path)
        case "oci-layout":
            return OciLayout.open(path, access.repository)
        case "docker-archive":
            return open_archive(path, access.repository)
        case "v1+http" | "v1+https":
            return V1Remote(*access.login.wire(source), access.asking)
        case "v2+http" | "v2+https":
            return V2Remote(*access.login.wire(source), access.asking)
        case _:
            if Path(source).exists():
                raise SourceInvalid(
                    f"{source} does not say of which sort it is: did you mean {_guess(source)}?"
                )
            raise SourceInvalid(f"{scheme} is no source: {', '.join(SCHEMES)}")


def _guess(path: str) -> str:
    """Return the source that is probably meant by a mere path."""
    if Path(path).is_file() and not path.endswith((".yml", ".yaml")):
        return f"docker-archive:{path}"
    for name in (f"oci-layout:{path}", f"registry-tree:{path}"):
        with suppress(SourceInvalid, OSError):
            _open(name, SourceOptions())
            return name
    return f"v1-tree:{path}"
