"""Checking: what is known of any document that may be signed, whatever its form."""

from dataclasses import dataclass
from datetime import datetime

from dualreg.image.layered import Annotated
from dualreg.image.signatures import bundle, cosign, notation
from dualreg.image.signatures.trust import Trust
from dualreg.image.signatures.verdict import Checked, Target


@dataclass(frozen=True, slots=True)
class Checking:
    """Checks documents that should be about one manifest.

    Attributes:
        now: When certificates must be valid; aware.
    """

    target: Target
    trust: Trust
    now: datetime

    def check(self, layer: Annotated, document: bytes) -> Checked | None:
        """Return what is known of the content of *layer*, if it is signed; None: it is not signed itself."""
        media_type = layer.descriptor.media_type
        if media_type == cosign.SIMPLE_SIGNING:
            return cosign.check_simple(document, layer.annotations, self.target, self.trust)
        if media_type == cosign.DSSE:
            return cosign.check_attestation(document, layer.annotations, self.target, self.trust)
        if media_type.startswith(bundle.PREFIX):
            return bundle.check_bundle(document, self.target, self.trust)
        if media_type == notation.JWS:
            return notation.check_notation(document, self.target, self.trust, self.now)
        return notation.check_cose() if media_type == notation.COSE else None
