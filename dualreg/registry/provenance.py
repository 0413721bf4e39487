"""Provenance: where a manifest comes from."""

from dataclasses import dataclass
from datetime import datetime

from dualreg.catalog.rows import Origin
from dualreg.image.names import ImageId


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a manifest comes from, if not from the client that pushes it now.

    Attributes:
        v1_view: The V1 image that it was made from; V1 clients continue to see that.
        pushed_at: When it was first pushed, if it is new to the repository; None: now.
        upstream: URL of the registry that it was loaded from, where its children are, too.
    """

    v1_view: ImageId | None = None
    pushed_at: datetime | None = None
    upstream: str | None = None

    @property
    def origin(self) -> Origin:
        """The generation whose clients see it as what they pushed."""
        return Origin.V1 if self.v1_view else Origin.V2


PUSHED_NOW = Provenance()
