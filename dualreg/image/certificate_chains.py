"""Chains of certificates: whether one leads to a root that is trusted, whatever it is for."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

#: Certificates of the longest chain that is verified.
CHAIN_LIMIT = 8


def chain_verifier(roots: Sequence[x509.Certificate], now: datetime) -> Any:  # noqa: ANN401 -- cryptography's
    """Return a verifier of chains to *roots* that ignores what the leaf may be used for.

    Raises:
        VerificationError: there are no roots.
    """
    if not roots:
        raise VerificationError
    policy = PolicyBuilder().store(Store([*roots])).time(now).max_chain_depth(CHAIN_LIMIT)
    anything = ExtensionPolicy.permit_all()
    return policy.extension_policies(ca_policy=_authorities(), ee_policy=anything).build_client_verifier()


def _authorities() -> ExtensionPolicy:
    """Return what is required of certificates that issue others: basic constraints that allow it."""
    policy = ExtensionPolicy.permit_all()
    return policy.require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _check_authority)


def _check_authority(_: object, __: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("not the certificate of an authority")
