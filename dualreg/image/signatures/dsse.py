"""DSSE: the envelope in which statements about images are signed; and in-toto, the form of these statements.

Source: DSSE, ``protocol.md`` and ``envelope.md``; in-toto attestation 1.0, ``statement.md``.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from dualreg.image.documents import parse_object
from dualreg.image.signatures.trust import Trust, TrustedKey, decode, decode_signature
from dualreg.image.signatures.verdict import Malformed

#: The type of payloads that are in-toto statements.
IN_TOTO = "application/vnd.in-toto+json"
#: Signatures of one envelope that are looked at: verification takes time.
_SIGNATURES_LIMIT = 16
#: Subjects of one statement that are looked at.
_SUBJECTS_LIMIT = 10_000


class Envelope(NamedTuple):
    """A signed payload."""

    payload_type: str
    payload: bytes
    signatures: tuple[bytes, ...]

    @classmethod
    def read(cls, document: object) -> "Envelope":
        """Return the envelope that a JSON object is.

        Raises:
            Malformed: it is none.
        """
        if not isinstance(document, dict) or not isinstance(document.get("payloadType"), str):
            raise Malformed("the envelope has no payloadType")
        given = document.get("signatures")
        if not isinstance(given, list) or not 0 < len(given) <= _SIGNATURES_LIMIT:
            raise Malformed(f"the envelope has not 1 to {_SIGNATURES_LIMIT} signatures")
        signatures = [decode_signature(each.get("sig")) for each in given if isinstance(each, dict)]
        return cls(document["payloadType"], decode(document.get("payload"), "the payload"), tuple(signatures))

    def signer(self, trust: Trust) -> TrustedKey | None:
        """Return the key that signed it; None: it is none of those that are trusted."""
        data = self.signed_bytes
        return next(filter(None, (trust.signer(each, data) for each in self.signatures)), None)

    @property
    def signed_bytes(self) -> bytes:
        """What the signatures are of."""
        kind = self.payload_type.encode()
        return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(self.payload), self.payload)


class Statement(NamedTuple):
    """What an in-toto statement says, and about which digests in hex, by algorithm."""

    predicate_type: str
    subjects: frozenset[tuple[str, str]]
    predicate: Mapping[str, Any] | None

    @classmethod
    def in_envelope(cls, envelope: Envelope) -> "Statement":
        """Return the statement in an envelope.

        Raises:
            Malformed: it has none.
        """
        if envelope.payload_type != IN_TOTO:
            raise Malformed("the payload is not an in-toto statement")
        return cls.read(envelope.payload)

    @classmethod
    def read(cls, payload: bytes) -> "Statement":
        """Return the statement that *payload* encodes.

        Raises:
            Malformed: it is none.
        """
        try:
            document = parse_object(payload)
        except ValueError as error:
            raise Malformed(f"the statement is {error}") from error
        kind, subjects = document.get("predicateType"), document.get("subject")
        if not isinstance(kind, str) or not isinstance(subjects, list) or len(subjects) > _SUBJECTS_LIMIT:
            raise Malformed("the payload is not an in-toto statement")
        digests = [each.get("digest") for each in subjects if isinstance(each, dict)]
        named = {
            (algorithm, hex_)
            for each in digests
            if isinstance(each, dict)
            for algorithm, hex_ in each.items()
            if isinstance(hex_, str)
        }
        predicate = document.get("predicate")
        return cls(kind, frozenset(named), predicate if isinstance(predicate, dict) else None)
