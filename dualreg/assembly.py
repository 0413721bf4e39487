"""Assembly: settings become a running registry. The one place where parts are chosen and joined."""

from datetime import timedelta

from dualreg.catalog.database import Catalog
from dualreg.catalog.upgrade import revision, upgrade
from dualreg.errors import CatalogUnreachable
from dualreg.registry import Registry
from dualreg.registry.blobs import Blobs
from dualreg.registry.bridge import Bridge
from dualreg.registry.clients import Clients
from dualreg.registry.editions import Editions
from dualreg.registry.health import Health
from dualreg.registry.keys import Keys
from dualreg.registry.manifests import Manifests
from dualreg.registry.payloads import Payloads
from dualreg.registry.pulls import Pulls
from dualreg.registry.referrers import Referrers
from dualreg.registry.repositories import Repositories
from dualreg.registry.state import State
from dualreg.registry.tags import Tags
from dualreg.registry.uploads import Uploads
from dualreg.registry.v1_images import V1Images
from dualreg.registry.visibility import Visibility
from dualreg.settings import Settings
from dualreg.storage import Store, open_store
from dualreg.storage.links import Links

#: How much later the catalog learns of pulls, and of V1 clients.
_NOTE_DELAY = timedelta(seconds=10)


def prepare(settings: Settings) -> None:
    """Make the catalog ready to serve: an SQLite one is upgraded; another must have been, by its operator.

    Raises:
        CatalogUnreachable: the database cannot be opened, or is at another revision than this version wants.
    """
    catalog = open_catalog(settings)
    try:
        if catalog.engine.dialect.name == "sqlite":
            upgrade(catalog)
            return
        found, wanted = revision(catalog)
        if found != wanted:
            raise CatalogUnreachable(
                f"the catalog is at revision {found}, not {wanted}: run `dualreg db upgrade`"
            )
    finally:
        catalog.close()


def open_catalog(settings: Settings) -> Catalog:
    """Return the catalog, with a connection for every thread of a worker."""
    return Catalog(settings.database_url, pool_size=settings.threads)


def open_registry(settings: Settings) -> Registry:
    """Return the registry that *settings* describe; its catalog must have been prepared."""
    catalog, store = open_catalog(settings), open_store(settings.store_url)
    return build_registry(catalog, store, settings, note_delay=_NOTE_DELAY)


def build_registry(
    catalog: Catalog,
    store: Store,
    settings: Settings | None = None,
    *,
    note_delay: timedelta | None = None,
) -> Registry:
    """Join the services over *catalog* and *store*, with the rules that *settings* choose.

    Args:
        note_delay: See ``Pulls`` and ``Clients``; without one, they are written when that is asked for.
    """
    settings = settings or Settings()
    state = State(catalog, store, Links(store))
    payloads = Payloads(store)
    visibility = Visibility.parse(settings.bridge)
    uploads = Uploads(state, settings.upload_ttl)
    manifests = Manifests(state, payloads, settings.sparse_indexes, visibility)
    v1_images = V1Images(state, payloads, uploads)
    bridge = Bridge(state, uploads, manifests, v1_images, visibility)
    return Registry(
        repositories=Repositories(state),
        tags=Tags(state, Pulls(catalog, note_delay), visibility),
        manifests=manifests,
        blobs=Blobs(state),
        uploads=uploads,
        v1_images=v1_images,
        referrers=Referrers(state),
        bridge=bridge,
        editions=Editions(manifests, bridge, Keys(catalog)),
        clients=Clients(catalog, note_delay),
        health=Health(state),
    )
