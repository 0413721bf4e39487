"""The schema, one class a table; ``migrations/`` is compared with it by a test.

repositories
├── repository_blobs ──► blobs          this repository may read these bytes
│   ├── manifests                       … which are a manifest
│   │   ├── manifest_children ──► repository_blobs
│   │   ├── missing_children            … and will, if they come
│   │   ├── tags                        always point at a manifest
│   │   └── manifest_views              this manifest, seen by clients of that era, is …
│   └── v1_images                       … which are a V1 image's JSON, and its layer
└── uploads                             bytes still arriving

signing_keys                            what generated schema 1 manifests and tokens are signed with
v1_clients                              who still came over V1, and when
accounts · group_members · secrets      who can log in, and with which keys
permissions                             who may do what with which repositories
login_failures                          who may not try again for a while
forgotten                               what was deleted here, and is not taken in again from elsewhere

The arrows towards ``repository_blobs`` and ``blobs`` restrict: the database itself refuses to forget bytes
that anything names. Digests are in wire form, sizes in bytes, instants in UTC.
"""

from dualreg.catalog.tables.accounts import Accounts, GroupMembers, LoginFailures, Permissions, Secrets
from dualreg.catalog.tables.base import Table
from dualreg.catalog.tables.content import (
    Blobs,
    ManifestChildren,
    Manifests,
    ManifestViews,
    MissingChildren,
    Repositories,
    RepositoryBlobs,
    Tags,
    Uploads,
    V1Images,
)
from dualreg.catalog.tables.service import Forgotten, SigningKeys, V1Clients

__all__ = [
    "Accounts",
    "Blobs",
    "Forgotten",
    "GroupMembers",
    "LoginFailures",
    "ManifestChildren",
    "ManifestViews",
    "Manifests",
    "MissingChildren",
    "Permissions",
    "Repositories",
    "RepositoryBlobs",
    "Secrets",
    "SigningKeys",
    "Table",
    "Tags",
    "Uploads",
    "V1Clients",
    "V1Images",
]
