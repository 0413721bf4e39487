"""The schema, one class for each table. A test compares it with the result of ``migrations/``.

repositories
├── repository_blobs ──► blobs          the blobs that the repository may read
│   ├── manifests                       … that are manifests
│   │   ├── manifest_children ──► repository_blobs
│   │   ├── missing_children            children that are not in the repository yet
│   │   ├── tags                        each points at a manifest
│   │   └── manifest_views              what the manifest is to clients of another generation
│   └── v1_images                       … that are the JSON and layer of V1 images
│       └── v1_sent_layers              what other clients sent as the layer
└── uploads                             uploads in progress

transcoded_layers ──► blobs             the gzip editions of layers
quota_usage                             what was counted for quotas
└── quota_links ──► repositories        … of which links

tag_history                             every move and deletion of a tag
webhooks · webhook_states               who is told of them, and how far each is
webhook_queues · webhook_events         the moves that webhooks have not got yet
deleted_repositories · deleted_manifests · deleted_images · deleted_blobs
                                        what was deleted, and can be restored for a while

signing_keys                            keys that sign tokens and generated schema 1 manifests
v1_clients                              V1 clients that were seen, and when
accounts · group_members · secrets      accounts, groups, API keys and refresh tokens
account_subjects · claimed_groups       accounts of people who log in by an issuer, and their groups there
key_uses                                when API keys were last used
permissions                             permission rules
immutable_tags · quotas                 rules of tags that stay as they are, and of how much may be stored
retention_rules                         retention rules
switches                                what operators have switched, within what the settings allow
login_failures · login_successes        counters of failed logins, and where accounts have logged in
forgotten                               what was deleted, and must not be imported on demand again
tasks                                   the last run of each task
daily_figures                           what was pulled, pushed and stored by day
service_state                           what the service notes about itself

Foreign keys to ``repository_blobs`` and ``blobs`` restrict deletion: the database itself refuses to delete
blobs in use. Digests are in wire form, sizes in bytes, times in UTC.
"""

from dualreg.catalog.tables.accounts import (
    Accounts,
    AccountSubjects,
    ClaimedGroups,
    GroupMembers,
    ImmutableTags,
    KeyUses,
    LoginFailures,
    LoginSuccesses,
    Permissions,
    Quotas,
    Secrets,
)
from dualreg.catalog.tables.base import Table
from dualreg.catalog.tables.content import (
    Blobs,
    ManifestChildren,
    Manifests,
    ManifestViews,
    MissingChildren,
    QuotaLinks,
    QuotaUsage,
    Repositories,
    RepositoryBlobs,
    Tags,
    TranscodedLayers,
    Uploads,
    V1Images,
    V1SentLayers,
)
from dualreg.catalog.tables.deleted import (
    DeletedBlobs,
    DeletedImages,
    DeletedManifests,
    DeletedRepositories,
)
from dualreg.catalog.tables.history import TagHistory
from dualreg.catalog.tables.service import (
    DailyFigures,
    Deletions,
    RetentionRules,
    ServiceState,
    SigningKeys,
    Switches,
    Tasks,
    UpstreamCounters,
    V1Clients,
)
from dualreg.catalog.tables.webhooks import WebhookEvents, WebhookQueues, Webhooks, WebhookStates

__all__ = [
    "AccountSubjects",
    "Accounts",
    "Blobs",
    "ClaimedGroups",
    "DailyFigures",
    "DeletedBlobs",
    "DeletedImages",
    "DeletedManifests",
    "DeletedRepositories",
    "Deletions",
    "GroupMembers",
    "ImmutableTags",
    "KeyUses",
    "LoginFailures",
    "LoginSuccesses",
    "ManifestChildren",
    "ManifestViews",
    "Manifests",
    "MissingChildren",
    "Permissions",
    "QuotaLinks",
    "QuotaUsage",
    "Quotas",
    "Repositories",
    "RepositoryBlobs",
    "RetentionRules",
    "Secrets",
    "ServiceState",
    "SigningKeys",
    "Switches",
    "Table",
    "TagHistory",
    "Tags",
    "Tasks",
    "TranscodedLayers",
    "Uploads",
    "UpstreamCounters",
    "V1Clients",
    "V1Images",
    "V1SentLayers",
    "WebhookEvents",
    "WebhookQueues",
    "WebhookStates",
    "Webhooks",
]
