"""Certificates of signers: what they say of them, and whether a chain of them is trusted."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import VerificationError

from dualreg.image.certificate_chains import CHAIN_LIMIT, chain_verifier
from dualreg.image.signatures.verdict import Malformed

#: Bytes of the largest certificate that is read.
_CERTIFICATE_LIMIT = 64 << 10
#: Extensions in which Fulcio writes who logged the signer in: as bytes of text, and as a text in DER.
#: Source: fulcio, docs/oid-info.md.
_ISSUER, _ISSUER_V2 = "1.3.6.1.4.1.57264.1.1", "1.3.6.1.4.1.57264.1.8"
#: Uses that a certificate for signing code must not have.
#: Source: Notary Project, specs/signature-specification.md, "Certificate Requirements".
_FOREIGN_USES = frozenset(
    {
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.EMAIL_PROTECTION,
        ExtendedKeyUsageOID.TIME_STAMPING,
        ExtendedKeyUsageOID.OCSP_SIGNING,
    }
)
_FAULTS = (
    ValueError, TypeError, OverflowError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)  # fmt: skip


def read_certificate(der: bytes) -> x509.Certificate:
    """Return the certificate that *der* encodes.

    Raises:
        Malformed: it is none.
    """
    try:
        if len(der) > _CERTIFICATE_LIMIT:
            raise ValueError("too large")
        return x509.load_der_x509_certificate(der)
    except _FAULTS as error:
        raise Malformed(f"a certificate is broken: {error}") from error


def signer_of(certificate: x509.Certificate) -> str:
    """Return who a certificate says that the signer is, as people read it.

    Of Fulcio's, that is an identity, and who vouched for it.
    """
    names, issuer = _alternative_names(certificate), _login_issuer(certificate)
    if names and issuer:
        return f"{', '.join(names)} by {issuer}"
    with suppress(*_FAULTS):
        if subject := certificate.subject.rfc4514_string():
            return f"certificate {subject}"
    return ", ".join(names)


def _alternative_names(certificate: x509.Certificate) -> list[str]:
    with suppress(x509.ExtensionNotFound, *_FAULTS):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        kinds = (x509.RFC822Name, x509.UniformResourceIdentifier, x509.DNSName)
        return [str(each.value) for each in [*names][:CHAIN_LIMIT] if isinstance(each, kinds)]
    return []


def _login_issuer(certificate: x509.Certificate) -> str:
    with suppress(x509.ExtensionNotFound, *_FAULTS):
        return _extension(certificate, _ISSUER_V2)[2:].decode()  # behind the tag and the length
    with suppress(x509.ExtensionNotFound, *_FAULTS):
        return _extension(certificate, _ISSUER).decode()
    return ""


def _extension(certificate: x509.Certificate, oid: str) -> bytes:
    value = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(oid)).value
    return value.value if isinstance(value, x509.UnrecognizedExtension) else b""


def untrusted(chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], now: datetime) -> str:
    """Return why the first certificate of *chain* may not sign code at *now*; empty: it may.

    Args:
        chain: The signer's certificate, and those that lead from it to a root.
    """
    leaf, *others = chain
    try:
        if problem := _unfit(leaf):
            return problem
        begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        if not begin <= now <= end:
            return f"its certificate is valid from {begin:%Y-%m-%d} to {end:%Y-%m-%d}"
        if leaf not in roots:
            chain_verifier(roots, now).verify(leaf, others)
    except VerificationError:
        return "its certificate was issued by none of the certificates in the settings"
    except _FAULTS as error:
        return f"its certificate cannot be used: {error}"[:200]
    return ""


def _unfit(leaf: x509.Certificate) -> str:
    """Return what keeps a certificate from signing code; empty: nothing."""
    extensions = leaf.extensions
    with suppress(x509.ExtensionNotFound):
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return "its certificate is that of an authority"
    with suppress(x509.ExtensionNotFound):
        uses = frozenset(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        if ExtendedKeyUsageOID.CODE_SIGNING not in uses or uses & _FOREIGN_USES:
            return "its certificate is not for signing code"
    try:
        if extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature:
            return ""
    except x509.ExtensionNotFound:
        pass
    return "its certificate is not for signatures"
