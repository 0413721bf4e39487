"""Rules: what an operator chooses of the services' behavior."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from dualreg.registry.children import ManifestRules
from dualreg.registry.signing import SigningPolicies
from dualreg.registry.upload_limits import UploadLimits
from dualreg.registry.visibility import Visibility
from dualreg.waiting import Budget


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator chooses of the services' behavior.

    Attributes:
        upload_ttl: How long an upload may be idle.
        uploads: How many a client may have, and how many bytes.
        manifests: Which manifests are taken.
        visibility: Which tags clients of each generation see.
        write_delay: How long notes of pulls and of V1 clients wait to be written; None: until ``flush``.
        transcoding_patience: How many seconds a request waits for layers that are transcoded in the
            background; None: nothing is done in the background.
        health_interval: For how many seconds the result of a health check is kept.
        signing: Which images must be signed.
        require_room: Called before layers or schema 1 are made and stored; raises OSError if nothing may be.
        budget: The threads that may wait; None: any number.
    """

    upload_ttl: timedelta = timedelta(hours=24)
    uploads: UploadLimits = field(default_factory=UploadLimits)
    manifests: ManifestRules = field(default_factory=ManifestRules)
    visibility: Visibility = field(default_factory=Visibility)
    write_delay: timedelta | None = None
    transcoding_patience: float | None = None
    health_interval: float = 0.0
    require_room: Callable[[], None] = lambda: None
    signing: SigningPolicies = field(default_factory=SigningPolicies)
    budget: Budget | None = None


#: What they are if nothing is chosen.
DEFAULTS = Rules()
