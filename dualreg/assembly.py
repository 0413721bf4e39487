"""Assembly: builds registry and authority from settings; the one place that chooses implementations."""

import logging
import shlex
from contextlib import AbstractContextManager, closing, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path

from dualreg.auth.accounts import Accounts
from dualreg.auth.attempts import Attempts, Limits
from dualreg.auth.authority import Authority
from dualreg.auth.directories import CatalogDirectory, Directory, HtpasswdDirectory
from dualreg.auth.key_sources import FileKeys, KeySource, UrlKeys
from dualreg.auth.keyring import Keyring
from dualreg.auth.logins import Logins
from dualreg.auth.passwords import Passwords
from dualreg.auth.permissions import FileRules, RuleLookup, catalog_rules
from dualreg.auth.sealed import NAME, Sealed, SealedInvalid
from dualreg.auth.tokens import Verifier
from dualreg.auth.workloads import Workloads, parse_workload_rules
from dualreg.catalog.database import Catalog
from dualreg.catalog.integrity import file_of, find_damage, move_aside
from dualreg.catalog.notes import UNFINISHED, Note
from dualreg.catalog.upgrade import revision, upgrade
from dualreg.errors import CatalogUnreachable
from dualreg.migrate.transports import is_own_store
from dualreg.proxies import upstream_of
from dualreg.registry import Registry
from dualreg.registry.children import ManifestRules
from dualreg.registry.collections import Collections
from dualreg.registry.marks import FileMark, FixedMark, Mark, Marker, Marks, NoteMark
from dualreg.registry.rules import Rules
from dualreg.registry.signing import SigningPolicies, SigningPolicy
from dualreg.registry.state import Retention, State
from dualreg.registry.upload_limits import UploadLimits
from dualreg.registry.upstream import NoUpstream, Upstream
from dualreg.registry.visibility import Visibility
from dualreg.registry.writes import Writes, disk_of
from dualreg.settings import Settings
from dualreg.settings.values import parse_min_free, parse_upload_limits
from dualreg.storage import Store, open_store
from dualreg.storage.base import PrivateFiles, keeps
from dualreg.storage.links import Links
from dualreg.storage.names import Names
from dualreg.stores import folder_of
from dualreg.waiting import Budget

_log = logging.getLogger(__name__)
#: How long notes of pulls and of V1 clients wait before they are written to the catalog.
_WRITE_DELAY = timedelta(seconds=10)
#: What clients are told that push to a follower.
_FOLLOWER = "it follows another one; push to that"
#: Seconds that a request waits for layers that are transcoded, and that the result of a health check is kept.
_PATIENCE, _HEALTH_INTERVAL = 3.0, 3.0


def prepare(settings: Settings, *, rebuild: bool = False) -> None:
    """Make the catalog ready to serve, and create the key that signs tokens if there is none.

    An SQLite catalog is created and upgraded; any other one must have been upgraded by its operator.

    Args:
        rebuild: Accept a catalog without content beside a store with tags: it is about to be imported.

    Raises:
        CatalogUnreachable: the database cannot be opened, is malformed, does not have the schema of this
            version, is empty although the store is not, is older than the store, or was not rebuilt
            completely.
        ValueError: the URL of the database is invalid.
    """
    _check_sound(settings)
    catalog, store = open_catalog(settings), open_store(*settings.store_urls)
    try:
        if catalog.engine.dialect.name == "sqlite":
            upgrade(catalog)
        found = revision(catalog)
        is_new = found.found is None and not (rebuild or settings.follow)
        if is_new and not Names(store).is_empty():
            raise _lost(settings, "the catalog is empty, but the store is not")
        if not found.is_usable:
            raise CatalogUnreachable(f"the catalog is at revision {found.found}; {found.advice}")
        _check_complete(catalog)
        _check_kind(settings, catalog)
        if not (rebuild or settings.follow):
            _check_not_lost(settings, catalog, store)
        _settle_access(settings, Sealed(catalog, store))
        Keyring(catalog).active()
        if not settings.follow and build_registry(catalog, store, settings).complete():
            _log.warning(
                "an older version wrote the store; run `dualreg db upgrade` to complete its link files"
            )
    except SealedInvalid as error:
        raise CatalogUnreachable(f"{error}; remove it to have it written anew from the catalog") from error
    finally:
        catalog.close()


def _check_sound(settings: Settings) -> None:
    """Check that the catalog is not malformed; that of a follower is moved away, and made anew.

    Raises:
        CatalogUnreachable: it is.
    """
    if damage := find_damage(settings.database_url):
        if not settings.follow:
            raise _lost(settings, f"the catalog is malformed: {damage}")
        aside = move_aside(settings.database_url)
        _log.warning("the catalog was malformed (%s); it is now %s", damage, aside)


def _check_complete(catalog: Catalog) -> None:
    """Raise CatalogUnreachable if a restore from a backup, or a copy to this database, was not finished."""
    for note in (Note.RESTORE, Note.COPY):
        with catalog.read() as tx:
            unfinished = tx.notes.read(note) is not None
        if unfinished:
            raise CatalogUnreachable(
                f"the last {note} was interrupted; run the same `dualreg {UNFINISHED[note]}` again"
            )


def _check_kind(settings: Settings, catalog: Catalog) -> None:
    """Note that the catalog is a follower's, if it is to be one and has no content.

    Raises:
        CatalogUnreachable: a follower would remove the content of a registry, or it is the reverse.
    """
    with catalog.read() as tx:
        is_empty, is_follower = not tx.repositories.any(), tx.notes.read(Note.FOLLOWED) is not None
    if is_follower and not settings.follow:
        raise CatalogUnreachable("this is the catalog of a follower; give the setting follow, as for it")
    if settings.follow and not is_follower:
        if not is_empty or not Names(open_store(settings.data.absolute().as_uri())).is_empty():
            raise CatalogUnreachable(
                f"{settings.data.absolute()} is a registry; a follower needs a data directory for itself"
            )
        with catalog.begin() as tx:
            tx.notes.write(Note.FOLLOWED, "")


def _check_not_lost(settings: Settings, catalog: Catalog, store: Store) -> None:
    """Raise CatalogUnreachable if the store knows of content or accounts that the catalog has lost.

    Requests never read the store's names: the registry would serve nothing, and look as if all were lost.
    What a legacy source has that is this store is imported on demand. Blobs alone are no content: the first
    push to an empty registry leaves their link files if the process dies before it commits.
    """
    with catalog.read() as tx:
        is_empty, unfinished = not tx.repositories.any(), tx.notes.read(Note.REBUILD) is not None
    if unfinished:
        raise _lost(settings, "the last rebuild of the catalog was interrupted")
    if is_empty and Names(store).has_images() and not _imports_itself(settings, store):
        raise _lost(settings, "the catalog is empty, but the store is not")
    collections = Collections(catalog, store)
    if is_empty:
        collections.adopt()
    elif collections.is_catalog_older():
        what = "the catalog is older than the store: garbage was collected since this copy of it was made"
        raise _lost(settings, what, "--replace")


def _settle_access(settings: Settings, sealed: Sealed) -> None:
    """Have the same accounts, permissions and keys in the catalog and in their copy in the store.

    A follower takes over those that it needs.

    Raises:
        CatalogUnreachable: the copy is newer than those in the catalog.
        SealedInvalid: it cannot be read.
    """
    if settings.follow:
        if settings.auth != "none":
            follow_access(sealed.catalog, sealed.files)
        return
    sealed.restore()
    if sealed.is_ahead():
        raise CatalogUnreachable(
            f"the catalog is older than {NAME} in the store, the copy of accounts, permissions and keys;\n"
            "restore a newer catalog, or remove the file to keep what the catalog has"
        )
    sealed.catch_up()


def follow_access(catalog: Catalog, files: PrivateFiles) -> bool:
    """Take over accounts, permissions and keys from a copy that is followed; return whether any changed.

    Raises:
        CatalogUnreachable: they cannot be read.
    """
    try:
        return Sealed(catalog, files).mirror()
    except SealedInvalid as error:
        raise CatalogUnreachable(str(error)) from error


def _imports_itself(settings: Settings, store: Store) -> bool:
    return bool(settings.legacy_source) and is_own_store(settings.legacy_source, partial(keeps, store))


def _lost(settings: Settings, what: str, *options: str) -> CatalogUnreachable:
    """Return the error of a catalog that must be made anew, with the command that does so."""
    command = ["dualreg", "db", "rebuild", *options, "--data", f"{settings.data.absolute()}"]
    return CatalogUnreachable(
        f"{what}\nRestore the catalog from a backup, or make it anew from the store in"
        f" {settings.store_folder}:  {shlex.join(command)}"
    )


def open_catalog(settings: Settings, *, serving: bool = False) -> Catalog:
    """Return the catalog, with a connection for each thread of a worker, or as many as PostgreSQL may have.

    Its changes of accounts, permissions and keys are copied to the store.

    Args:
        serving: For requests, which do not wait for long; the statements of a command take what they need.
    """
    catalog = Catalog(
        settings.database_url,
        pool_size=settings.threads if file_of(settings.database_url) else settings.database_connections,
        few_pages=not serving,
        timeout=settings.database_timeout.total_seconds() if serving else None,
    )
    if not settings.follow:
        catalog.on_access_change = Sealed(catalog, open_store(*settings.store_urls)).write
    return catalog


def open_registry(settings: Settings, *, alone: bool = False, serving: bool = False) -> Registry:
    """Return the registry that *settings* describe; its catalog must have been prepared.

    Args:
        alone: Without upstream, even if *settings* name one.
        serving: As ``open_catalog``.
    """
    catalog, store = open_catalog(settings, serving=serving), open_store(*settings.store_urls)
    catalog.read_clock()
    upstream, budget = None, Budget(settings.threads)
    if (settings.legacy_source or settings.upstreams) and not alone:
        require, own = writes_of(settings, catalog).require_import, build_registry(catalog, store, settings)
        upstream = upstream_of(settings, own, require, budget)
    build = partial(build_registry, catalog, store, settings, write_delay=_WRITE_DELAY)
    registry = build(patience=_PATIENCE if serving else None, upstream=upstream, budget=budget)
    return registry.requiring(signing_policies(settings)) if serving and settings.signatures else registry


def build_registry(
    catalog: Catalog,
    store: Store,
    settings: Settings | None = None,
    *,
    write_delay: timedelta | None = None,
    patience: float | None = None,
    upstream: Upstream | None = None,
    budget: Budget | None = None,
) -> Registry:
    """Return a registry over *catalog* and *store*, with the rules that *settings* choose.

    Args:
        settings: None: the defaults.
        write_delay, patience, budget: As in ``Rules``, for requests that wait.
        upstream: Where content is loaded from that this registry does not have; None: nowhere.
    """
    settings = settings or Settings()
    rules = Rules(
        settings.upload_ttl,
        upload_limits(settings),
        manifest_rules(settings),
        Visibility.parse(settings.bridge),
        write_delay,
        patience,
        _HEALTH_INTERVAL if write_delay else 0.0,
        # A follower adds to its own store only.
        (lambda: None) if settings.follow else writes_of(settings, catalog).require_import,
        budget=budget,
    )
    times = settings.gc_grace, settings.gc_untagged, settings.history_keep, settings.undelete_grace
    state = State(catalog, store, Links(store), upstream or NoUpstream(), Retention(*times))
    registry = Registry.build(state, rules)
    return registry.without_links() if settings.follow else registry


def writes_of(settings: Settings, catalog: Catalog | None = None) -> Writes:
    """Return what says whether content may be added or changed now, for all processes with *settings*.

    Args:
        catalog: Theirs, if it is open; None: it is opened when it is needed.
    """
    root = settings.store_folder
    file = file_of(settings.database_url)
    folders = {root, file.parent} if file else {root}

    def opened() -> AbstractContextManager[Catalog]:
        return nullcontext(catalog) if catalog else closing(open_catalog(settings))

    places = map(folder_of, settings.store_urls)
    marks: list[Marker] = [FileMark(place) if place else NoteMark(opened) for place in places]
    if settings.follow:
        marks = [FixedMark(Mark(_FOLLOWER, ""))]
    return Writes(folders, parse_min_free(settings.min_free), Marks(marks) if marks[1:] else marks[0])


def upload_limits(settings: Settings) -> UploadLimits:
    """Return the limits of uploads; shares are those of the disk of the store."""
    shares, disk = parse_upload_limits(settings.upload_limits), disk_of(settings.store_folder)
    size = disk.f_blocks * disk.f_frsize
    return UploadLimits(shares.open or None, shares.bytes(size) or None, shares.total(size) or None)


def signing_policies(settings: Settings) -> SigningPolicies:
    """Return by which keys signatures are verified, and what is refused without one.

    Raises:
        ValueError: a file that *settings* name cannot be read, or has no usable key or certificate.
    """
    return SigningPolicies(
        tuple(
            SigningPolicy.read(
                name, each.repositories, each.keys, each.certificates, mode=each.mode, on=each.on
            )
            for name, each in settings.signatures.items()
        )
    )


def manifest_rules(settings: Settings) -> ManifestRules:
    """Return which manifests are taken, as *settings* say."""
    return ManifestRules(settings.sparse_indexes, settings.strict_manifests)


def authority_of(registry: Registry, settings: Settings) -> Authority:
    """Return the authority over *registry*, as ``build_authority``."""
    return build_authority(settings, registry.state.catalog)


def catalog_of(registry: Registry) -> Catalog:
    """Return the catalog of *registry*, for background work beside it."""
    return registry.state.catalog


def accounts_of(registry: Registry) -> Accounts:
    """Return the accounts that are kept in the catalog of *registry*."""
    return Accounts(registry.state.catalog, Passwords())


def build_authority(settings: Settings, catalog: Catalog) -> Authority:
    """Return what authenticates and authorizes requests, as *settings* say.

    Raises:
        ValueError: a file that they name cannot be read, or a rule is invalid.
    """
    return Authority(
        mode=settings.auth,
        service=settings.token_service,
        lifetime=settings.token_ttl,
        leeway=settings.token_leeway,
        keyring=Keyring(catalog),
        rules=_permission_rules(settings, catalog),
        logins=_logins(settings, catalog),
        issuer=_issuer(settings, catalog) if settings.auth == "token" else None,
        workloads=_workloads(settings, catalog) if settings.oidc_issuer else None,
        now=catalog.now,
    )


def _permission_rules(settings: Settings, catalog: Catalog) -> RuleLookup:
    """Return the lookup of permission rules, in the file that *settings* name, else in *catalog*.

    Raises:
        ValueError: the file cannot be read, or a rule in it is invalid.
    """
    return FileRules(settings.permissions) if settings.permissions else catalog_rules(catalog)


def _logins(settings: Settings, catalog: Catalog) -> Logins | None:
    directory: Directory = CatalogDirectory(catalog)
    if settings.auth == "htpasswd" and settings.htpasswd:
        directory = HtpasswdDirectory(settings.htpasswd, catalog)
    elif settings.auth != "accounts":
        return None
    attempts = Attempts(catalog, Limits.parse(settings.login_limits))
    return Logins(catalog, directory, Passwords(), attempts)


def _issuer(settings: Settings, catalog: Catalog) -> Verifier:
    source = settings.token_keys
    keys = UrlKeys(source) if source.startswith(("http://", "https://")) else FileKeys(Path(source))
    return _verifier(settings, catalog, settings.token_issuer, settings.token_service, keys)


def _workloads(settings: Settings, catalog: Catalog) -> Workloads:
    issuer = settings.oidc_issuer
    audience = settings.oidc_audience or settings.token_service
    verifier = _verifier(settings, catalog, issuer, audience, UrlKeys.of_issuer(issuer))
    return Workloads(verifier, parse_workload_rules(settings.oidc_rules))


def _verifier(settings: Settings, catalog: Catalog, issuer: str, audience: str, keys: KeySource) -> Verifier:
    algorithms = frozenset(name.strip() for name in settings.token_algorithms.split(","))
    return Verifier(issuer, audience, keys, algorithms, settings.token_leeway, catalog.now)
