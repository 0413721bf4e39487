"""Amount: how many bytes a run will have to read, so that it can be said how long it will take."""

from collections.abc import Container, Iterable, Iterator

from dualreg.errors import RegistryError
from dualreg.image.digest import Digest
from dualreg.migrate.journal import Earlier
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.saved.survey import SavedSurvey
from dualreg.migrate.transports import AnySurvey
from dualreg.migrate.v1.survey import V1Survey
from dualreg.migrate.v2.survey import V2Survey
from dualreg.registry import Registry


def to_read(found: AnySurvey, entries: Iterable[Entry], registry: Registry, earlier: Earlier) -> int:
    """Return the bytes of what *entries* name, as far as nobody has read them yet.

    Args:
        earlier: What earlier runs read.
    """
    if isinstance(found, SavedSurvey):
        return sum(layer.size for diff_id, layer in found.layers.items() if diff_id not in earlier.blobs)
    if isinstance(found, V2Survey):
        return sum(_of_blobs(found, entries, registry))
    return sum(_of_layers(found, entries, earlier.layers))


def needed(found: AnySurvey, entries: Iterable[Entry]) -> int:
    """Return the bytes of all that the *entries* to be taken in name, each once: what a copy needs."""
    entries = [entry for entry in entries if entry.action is PlanAction.IMPORT]
    if isinstance(found, SavedSurvey):
        return found.blob_bytes
    if isinstance(found, V2Survey):
        return sum(found.blobs[digest][0] for digest in _blobs(found, entries))
    return sum(_of_layers(found, entries, ()))


def _of_layers(found: V1Survey, entries: Iterable[Entry], known: Container[str]) -> Iterator[int]:
    seen = set[str]()
    for entry in entries:
        wanted: str | None = entry.image
        while wanted is not None and wanted not in seen and wanted in found.images:
            seen.add(wanted)
            if wanted not in known:
                yield found.images[wanted].layer.size
            wanted = found.images[wanted].parent


def _of_blobs(found: V2Survey, entries: Iterable[Entry], registry: Registry) -> Iterator[int]:
    for digest in registry.blobs.absent(_blobs(found, entries)):
        yield found.blobs[digest][0]


def _blobs(found: V2Survey, entries: Iterable[Entry]) -> Iterator[Digest]:
    seen = set[Digest]()
    for entry in entries:
        try:
            top = Digest.parse(entry.image)
        except RegistryError:  # nonsense in a plan, of which the run will say so
            continue
        for manifest in found.below(entry.repository, top):
            fresh = {*found.known[entry.repository, manifest].blobs} & found.blobs.keys() - seen
            seen |= fresh
            yield from fresh
