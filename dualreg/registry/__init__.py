"""Rules: what both dialects can do, one service a noun.

Permission is the edge's business, bytes and rows the layers' below.
"""

from dataclasses import dataclass

from dualreg.registry.blobs import Blobs
from dualreg.registry.bridge import Bridge
from dualreg.registry.clients import Clients
from dualreg.registry.editions import Editions
from dualreg.registry.health import Health
from dualreg.registry.listings import Listings
from dualreg.registry.manifests import Manifests
from dualreg.registry.referrers import Referrers
from dualreg.registry.repositories import Repositories
from dualreg.registry.state import State
from dualreg.registry.tags import Tags
from dualreg.registry.uploads import Uploads
from dualreg.registry.v1_images import V1Images


@dataclass(frozen=True, slots=True)
class Registry:
    """Everything a registry does, by noun; a record, without methods of its own."""

    state: State

    repositories: Repositories
    tags: Tags
    manifests: Manifests
    blobs: Blobs
    uploads: Uploads
    v1_images: V1Images
    listings: Listings
    referrers: Referrers
    bridge: Bridge
    editions: Editions
    clients: Clients
    health: Health
