"""Rules: what a registry does, in one service per noun, called by both dialects.

Services work on one ``State`` (catalog, blob store, link files, upstream), which only this package touches.
Every method of a service opens its own short transaction, and no bytes move inside one. Permissions are
checked by the callers; how bytes and rows are kept is up to ``storage`` and ``catalog``.
"""

from collections.abc import Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

from dualreg.errors import RepositoryOwned
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry.activity import Clients, Pulls
from dualreg.registry.attachments import Attachments
from dualreg.registry.blobs import Blobs
from dualreg.registry.bridge import Bridge
from dualreg.registry.chains import Chains
from dualreg.registry.children import ManifestRules
from dualreg.registry.collections import Collections
from dualreg.registry.derived import Derived
from dualreg.registry.document_cache import DocumentCache
from dualreg.registry.editions import Editions
from dualreg.registry.faces import Comparison
from dualreg.registry.farewell import Farewells
from dualreg.registry.figures import Figures
from dualreg.registry.finding import Finder
from dualreg.registry.garbage import Garbage
from dualreg.registry.growth import Growth
from dualreg.registry.health import Health
from dualreg.registry.history import History
from dualreg.registry.immutability import Immutability
from dualreg.registry.imports import Imports
from dualreg.registry.incoming import Incoming
from dualreg.registry.index_entries import IndexEntries
from dualreg.registry.inflating import InflatingSlots
from dualreg.registry.inspection import Inspection
from dualreg.registry.integrity import Integrity
from dualreg.registry.kept import Kept
from dualreg.registry.keys import Keys
from dualreg.registry.layer_files import LayerFiles
from dualreg.registry.layers import Layers
from dualreg.registry.leases import Leases
from dualreg.registry.linking import Linking
from dualreg.registry.listings import Listings
from dualreg.registry.loaded import Loaded
from dualreg.registry.manifests import Manifests
from dualreg.registry.negotiation import Negotiation
from dualreg.registry.observing import Observe, observe, trace
from dualreg.registry.outbox import Outbox
from dualreg.registry.platform_editions import PlatformEditions
from dualreg.registry.quotas import Quotas
from dualreg.registry.referrers import Referrers
from dualreg.registry.repositories import Repositories
from dualreg.registry.retention import TagRetention
from dualreg.registry.rules import DEFAULTS, Rules
from dualreg.registry.schema1_editions import Schema1Editions
from dualreg.registry.signatures import Signatures
from dualreg.registry.signing import SigningPolicies
from dualreg.registry.state import State
from dualreg.registry.sweep import Sweep
from dualreg.registry.tag_details import TagDetails
from dualreg.registry.tags import Tags
from dualreg.registry.tasks import Tasks
from dualreg.registry.traffic import Traffic
from dualreg.registry.transcoding import Transcoding
from dualreg.registry.undelete import Undelete
from dualreg.registry.uploads import Uploads
from dualreg.registry.upstream import Freshness
from dualreg.registry.usage import Usage
from dualreg.registry.uses import Uses
from dualreg.registry.v1_images import V1Images
from dualreg.registry.v1_layers import V1Layers
from dualreg.registry.v1_mode import V1Switch
from dualreg.registry.v1_mounts import V1Mounts
from dualreg.registry.v1_repairs import V1Repairs
from dualreg.registry.v1_sent import SentLayers
from dualreg.registry.v1_views import V1Views
from dualreg.registry.webhooks import Webhooks


@dataclass(frozen=True, slots=True)
class Registry:
    """Everything a registry does, by noun.

    Attributes:
        state: What all services work on; only this package and ``assembly`` may touch it.
    """

    state: State
    rules: Rules

    documents: DocumentCache
    integrity: Integrity
    repositories: Repositories
    tags: Tags
    manifests: Manifests
    blobs: Blobs
    uploads: Uploads
    incoming: Incoming
    v1_images: V1Images
    v1_mounts: V1Mounts
    listings: Listings
    layer_files: LayerFiles
    bridge: Bridge
    derived: Derived
    negotiation: Negotiation
    clients: Clients
    health: Health
    linking: Linking
    v1_switch: V1Switch

    @classmethod
    def build(cls, state: State, rules: Rules = DEFAULTS) -> Self:
        """Return the services joined over *state*."""
        documents = DocumentCache(state.store, integrity := Integrity(state))
        finder = Finder(state, documents, Blobs(state, integrity))
        uploads = Uploads(state, integrity, rules.upload_ttl, rules.uploads)
        signatures = Signatures(finder, rules.signing)
        manifests = Manifests(state, documents, integrity, signatures, rules.manifests, rules.visibility)
        inflating, repairs = InflatingSlots(), V1Repairs(state, documents, integrity, uploads)
        v1_images = V1Images(state, documents, uploads, repairs, SentLayers(state, documents, inflating))
        patience, room = rules.transcoding_patience, rules.require_room
        transcoding = Transcoding(state, uploads, patience, room, rules.budget)
        layers, v1_layers = Layers(state.store, uploads, transcoding, inflating), V1Layers(transcoding)
        views = V1Views(state, manifests, chains := Chains(manifests, layers, v1_layers), v1_images)
        bridge = Bridge(state, uploads, manifests, v1_images, chains, views, rules.visibility)
        platforms = PlatformEditions(editions := Editions(manifests, IndexEntries(manifests), transcoding))
        schema1 = Schema1Editions(manifests, bridge, editions, Keys(state.catalog), room)
        integrity.restore = (derived := Derived(state, bridge, editions, platforms, schema1)).restore
        return cls(
            state=state,
            rules=rules,
            documents=documents,
            integrity=integrity,
            repositories=Repositories(state),
            tags=Tags(state, Pulls(state.catalog, rules.write_delay), rules.visibility),
            manifests=manifests,
            blobs=finder.blobs,
            uploads=uploads,
            incoming=Incoming(state, integrity, Leases(state, rules.upload_ttl, rules.uploads)),
            v1_images=v1_images,
            v1_mounts=V1Mounts(state, documents, repairs),
            listings=Listings(state, inflating),
            layer_files=LayerFiles(state),
            bridge=bridge,
            derived=derived,
            negotiation=Negotiation(manifests, bridge, editions, platforms, schema1),
            clients=Clients(state.catalog, rules.write_delay),
            health=Health(state, rules.health_interval),
            linking=Linking(state, v1_images),
            v1_switch=V1Switch(state.catalog),
        )

    @property
    def signatures(self) -> Signatures:
        """What refuses images without a signature."""
        return self.manifests.signatures

    @property
    def editions(self) -> Editions:
        """What makes editions of images."""
        return self.negotiation.editions

    @property
    def transcoding(self) -> Transcoding:
        """What makes the gzip editions of layers."""
        return self.bridge.chains.layers.transcoding

    @property
    def v1_layers(self) -> V1Layers:
        """What finds the layers of V1 images."""
        return self.bridge.chains.v1_layers

    @property
    def referrers(self) -> Referrers:
        """What lists the referrers of manifests."""
        return Referrers(self.state)

    @property
    def collections(self) -> Collections:
        """What counts garbage collections."""
        return Collections(self.state.catalog, self.state.store)

    @property
    def history(self) -> History:
        """What knows what tags pointed at."""
        return History(self.state, self.manifests, self.undelete)

    @property
    def undelete(self) -> Undelete:
        """What restores deleted manifests."""
        return Undelete(self.state, self.documents, self.manifests, self.v1_images)

    @property
    def uses(self) -> Uses:
        """What finds out what uses a blob."""
        return Uses(self.state)

    @property
    def usage(self) -> Usage:
        """What measures repositories and namespaces."""
        return Usage(self.state)

    @property
    def tag_details(self) -> TagDetails:
        """What finds platforms, signatures and other tags of images."""
        return TagDetails(self.state, self.documents)

    @property
    def figures(self) -> Figures:
        """What finds out how much there is."""
        return Figures(self.state.catalog, self.collections)

    @property
    def growth(self) -> Growth:
        """What knows how much was pulled, pushed and stored by day."""
        return Growth(self.state.catalog)

    @property
    def garbage(self) -> Garbage:
        """What deletes garbage."""
        return Garbage(self.state)

    @property
    def sweep(self) -> Sweep:
        """What finds garbage that was never noted."""
        return Sweep(self.state)

    @property
    def imports(self) -> Imports:
        """What records many new tags at once."""
        return Imports(self.state, self.rules.manifests)

    @property
    def immutability(self) -> Immutability:
        """What manages the rules of immutable tags."""
        return Immutability(self.state)

    @property
    def inspection(self) -> Inspection:
        """What describes an image."""
        return Inspection(self.bridge, Attachments(self.manifests.signatures.finder, self.referrers))

    @property
    def comparison(self) -> Comparison:
        """What compares both faces of a tag."""
        return Comparison(self.inspection)

    @property
    def farewells(self) -> Farewells:
        """What knows how far the move away from V1 has come."""
        return Farewells(self.state.catalog)

    @property
    def quotas(self) -> Quotas:
        """What limits how much is stored."""
        return Quotas(self.state)

    @property
    def kept(self) -> Kept:
        """What deletes images of upstreams again."""
        return Kept(self.state, self.manifests)

    @property
    def retention(self) -> TagRetention:
        """What deletes the tags that no retention rule keeps."""
        return TagRetention(self.state)

    @property
    def task_runs(self) -> Tasks:
        """What records runs of tasks."""
        return Tasks(self.state.catalog)

    @property
    def webhooks(self) -> Webhooks:
        """What manages webhooks."""
        return Webhooks(self.state.catalog)

    def outbox(self, give_up: timedelta) -> Outbox:
        """Return what waits for webhooks, for as long as *give_up*."""
        return Outbox(self.state.catalog, give_up)

    def traffic(self, delay: timedelta | None = None) -> Traffic:
        """Return what counts for upstreams, and writes that *delay* later; None: only on ``flush``."""
        return Traffic(self.state.catalog, delay)

    @property
    def loaded(self) -> Loaded:
        """What is known of manifests that come from upstream."""
        return Loaded(self.state, self.documents)

    def over(self, state: State) -> Self:
        """Return a registry with the same rules, every service of which works on *state*."""
        return self.build(state, self.rules)

    def taking(self, manifests: ManifestRules) -> Self:
        """Return this registry with other rules of which manifests it takes."""
        return self.build(self.state, replace(self.rules, manifests=manifests))

    def requiring(self, signing: SigningPolicies) -> Self:
        """Return this registry with policies of which images must be signed."""
        return self.build(self.state, replace(self.rules, signing=signing))

    def without_links(self) -> Self:
        """Return this registry with link files left as they are: only rows and bytes change."""
        return self.over(self.state.without_links())

    @contextmanager
    def trial(self) -> Iterator[Self]:
        """Yield a registry for the block whose changes to the catalog are rolled back at its end.

        It leaves link files alone. Bytes are the real ones: the block must neither store nor delete any. On
        SQLite, other writers wait until the block ends.
        """
        with self.state.trial() as state:
            yield self.over(state)

    def named(self, namespace: str, name: str) -> str | None:
        """Return the repository that is *name* of the registry *namespace*; None: that is unknown."""
        return self.state.upstream.named(namespace, name)

    def freshness(self, repository: RepositoryName, reference: Tag | Digest) -> Freshness | None:
        """Return what is known of a tag that comes from upstream, and was just looked up; None: of others."""
        return self.state.upstream.freshness(repository, reference)

    def staleness(
        self,
        repository: RepositoryName,
        *,
        tags: Collection[Tag] | None = (),
        subject: Digest | None = None,
    ) -> str:
        """Return why a list that was just made may be older than what is upstream; empty: it is not.

        Args:
            tags: Those that are listed with what they point at; None: all that are here.
            subject: The manifest whose referrers are listed, instead of the tags.
        """
        upstream = self.state.upstream
        if not upstream.covers(repository):
            return ""
        listed = self.tags.list_all(repository) if tags is None else tags
        known = (upstream.freshness(repository, tag) for tag in listed)
        return upstream.stale_list(repository, subject) or next(
            (each.stale for each in known if each and each.stale), ""
        )

    def require_own(self, repository: RepositoryName) -> None:
        """Check that clients may push to a repository.

        Raises:
            RepositoryOwned: its content comes from upstream.
        """
        if owner := self.state.upstream.owner(repository):
            raise RepositoryOwned(name=repository, upstream=owner)

    def complete(self) -> bool:
        """Count for quotas that were not counted; return whether the store lacks link files."""
        self.quotas.count_missing()
        return self.linking.is_due()

    def now(self) -> datetime:
        """Return the time by the clock that dates every row; aware, in UTC."""
        return self.state.catalog.now()

    def version(self, *, wait: bool = True) -> Hashable | None:
        """Return what is another value after each change of any row, by any process.

        Args:
            wait: Whether to wait for threads and the database; otherwise None is returned instead.
        """
        return self.state.catalog.version(wait=wait)

    def is_local(self) -> bool:
        """Return whether rows and bytes are looked up without asking another machine or process."""
        return self.state.catalog.is_local and self.state.store.is_local()

    def observe(self, drivers: Sequence[str], transaction: Observe, operation: Observe) -> None:
        """Report what catalog and store do; see ``observing.observe``."""
        observe(self.state, drivers, transaction, operation)

    def trace(self, drivers: Sequence[str]) -> None:
        """Have spans of what catalog and store do; see ``observing.trace``."""
        trace(self.state, drivers)

    def close(self) -> None:
        """Write deferred notes, and close every connection to the catalog.

        The registry must not be used any longer; nothing of it runs in the background from then on.
        """
        self.transcoding.close()
        self.tags.pulls.close()
        self.clients.close()
        self.state.upstream.close()
        self.state.catalog.close()
