"""Rules: what both dialects can do, one service a noun.

Permission is the edge's business, bytes and rows the layers' below.
"""

from dataclasses import dataclass

from dualreg.registry.activity import Clients
from dualreg.registry.blobs import Blobs
from dualreg.registry.bridge import Bridge
from dualreg.registry.health import Health
from dualreg.registry.manifests import Manifests
from dualreg.registry.negotiation import Negotiation
from dualreg.registry.referrers import Referrers
from dualreg.registry.repositories import Repositories
from dualreg.registry.state import State
from dualreg.registry.tags import Tags
from dualreg.registry.uploads import Uploads
from dualreg.registry.v1_images import Listings, V1Images


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
    negotiation: Negotiation
    clients: Clients
    health: Health
