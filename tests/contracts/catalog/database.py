"""Transactions, texts and clocks."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from dualreg.catalog.database import Catalog
from dualreg.catalog.tables import (
    Accounts,
    AccountSubjects,
    Blobs,
    ClaimedGroups,
    DailyFigures,
    DeletedBlobs,
    DeletedImages,
    DeletedManifests,
    DeletedRepositories,
    Deletions,
    GroupMembers,
    ImmutableTags,
    KeyUses,
    LoginFailures,
    LoginSuccesses,
    ManifestChildren,
    Manifests,
    ManifestViews,
    MissingChildren,
    Permissions,
    QuotaLinks,
    Quotas,
    QuotaUsage,
    Repositories,
    RepositoryBlobs,
    RetentionRules,
    Secrets,
    ServiceState,
    SigningKeys,
    Switches,
    Table,
    TagHistory,
    Tags,
    Tasks,
    TranscodedLayers,
    Uploads,
    UpstreamCounters,
    V1Clients,
    V1Images,
    V1SentLayers,
    WebhookEvents,
    WebhookQueues,
    Webhooks,
    WebhookStates,
)
from dualreg.image.names import Tag
from tests.conftest import Clock
from tests.contracts.catalog.rows import CONFIG, NAME, count, push


class DatabaseContract:
    """Transactions, texts and clocks."""

    @pytest.mark.parametrize("text", ["\0", "a\0b", "\U0010ffff", "'", "é", "\ufffd"], ids=ascii)
    def test_texts_of_clients_never_fail(self, catalog: Catalog, text: str) -> None:
        """Where a list begins and what is searched for come from clients as they like."""
        with catalog.begin() as tx:
            push(tx, NAME, "v1")
        with catalog.read() as tx:
            assert len(tx.tags.list(NAME, last=text, limit=1) or ()) <= 1
            assert len([*tx.repositories.walk(last=text, limit=1)]) <= 1
            assert tx.repositories.search(text, offset=0, limit=1) == (0, ())
            assert [*tx.referrers.walk(NAME, CONFIG, artifact_type=text, after=None, limit=99)] == []

    def test_a_version_is_that_of_all_that_was_committed(self, catalog: Catalog) -> None:
        """Reads leave it as it is; every commit changes it, those of other processes too."""
        with catalog.begin() as tx:
            push(tx, NAME, "v1")
        other = Catalog(catalog.engine.url.render_as_string(hide_password=False))
        versions = []
        for looking in (catalog, other):
            versions.append(looking.version())
            with catalog.read() as tx, other.read() as reader:
                assert count(tx, Tags) == count(reader, Tags)
            assert looking.version() == versions[-1]
        for writing, looking in ((catalog, other), (other, catalog), (catalog, catalog)):
            before = looking.version()
            with writing.begin() as tx:
                push(tx, NAME, f"v{len(versions)}")
                versions.append(before)
            assert looking.version() not in versions
        before = catalog.version()
        catalog.close()
        other.close()
        assert catalog.version() != before or catalog.engine.dialect.name == "postgresql"

    def test_a_version_that_takes_no_wait_is_the_same(self, catalog: Catalog) -> None:
        """Where there is one: of a file that was looked at before, and by no other thread now."""
        assert catalog.version(wait=False) is None
        looked_at = catalog.version()
        if not catalog.is_local:
            assert catalog.engine.dialect.name == "postgresql"
            assert catalog.version(wait=False) is None
            return
        assert catalog.version(wait=False) == catalog.version() == looked_at
        with catalog.begin() as tx:
            push(tx, NAME, "v1")
        assert catalog.version(wait=False) == catalog.version() != looked_at
        with catalog._versions._lock:  # type: ignore[attr-defined]  # of the one for SQLite
            assert catalog.version(wait=False) is None
        catalog.close()
        assert catalog.version(wait=False) is None

    def test_a_nul_in_a_page_s_beginning_sorts_where_it_should(self, catalog: Catalog) -> None:
        """What follows ``a``, a NUL and more is what follows ``a``, whatever the database makes of NULs."""
        with catalog.begin() as tx:
            push(tx, NAME, "a", "b")
            assert tx.tags.list(NAME, last="a\0b", limit=None) == (Tag("b"),)
            assert tx.tags.list(NAME, last="\0", limit=None) == (Tag("a"), Tag("b"))

    def test_a_block_that_raises_leaves_nothing(self, catalog: Catalog) -> None:
        """Everything of a transaction commits together, or not at all."""

        def fail() -> None:
            with catalog.begin() as tx:
                push(tx, NAME, "v1")
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        with catalog.read() as tx:
            assert tx.repositories.find(NAME) is None
            assert count(tx, Blobs) == 0

    def test_rows_are_dated_by_the_clock(self, catalog: Catalog, clock: Clock) -> None:
        """Instants are the catalog's own clock's, and come back aware and in UTC."""
        with catalog.begin() as tx:
            push(tx)
        with catalog.read() as tx:
            connection = tx.repositories.connection
            for column in (Repositories.created_at, Blobs.created_at, Manifests.pushed_at):
                found = connection.scalars(select(column)).first()
                assert found == clock.instant
                assert found is not None
                assert found.utcoffset() == timedelta()

    def test_every_table_is_in_use(self, catalog: Catalog) -> None:
        """A guard: the contract knows all tables there are."""
        known = {
            Accounts, AccountSubjects, Blobs, ClaimedGroups, DailyFigures, DeletedBlobs, DeletedImages,
            DeletedManifests, DeletedRepositories, Deletions, GroupMembers, ImmutableTags, KeyUses,
            LoginFailures, LoginSuccesses,
            ManifestChildren, Manifests, ManifestViews, MissingChildren, Permissions, QuotaLinks, Quotas,
            QuotaUsage, Repositories, RepositoryBlobs, RetentionRules, Secrets, ServiceState, SigningKeys,
            Switches, TagHistory, Tags, Tasks, TranscodedLayers, Uploads, UpstreamCounters, V1Clients,
            V1Images, V1SentLayers, WebhookEvents, WebhookQueues, Webhooks, WebhookStates,
        }  # fmt: skip
        assert {table.__tablename__ for table in known} == set(Table.metadata.tables)
        with catalog.read() as tx:
            assert {count(tx, table) for table in known - {ServiceState}} == {0}  # which migrations write
