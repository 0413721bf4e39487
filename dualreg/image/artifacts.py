"""Artifacts about an image, in words: what the manifest of a referrer, or one of its layers, is.

Media types alone decide that, with the predicate type of what is stated in in-toto's form. Tools often write
none of their own, so that parts of a type count, too.
"""

import re
from enum import StrEnum
from typing import NamedTuple

from dualreg.image import media_types
from dualreg.image.signatures import bundle


class Sort(StrEnum):
    """What an artifact is to an image."""

    SIGNATURE = "signature"
    SBOM = "SBOM"
    ATTESTATION = "attestation"
    SCAN = "scan report"
    OTHER = "artifact"


class Artifact(NamedTuple):
    """What an artifact is, and in which format, as people call it."""

    sort: Sort
    format: str


#: What media types, artifact types and predicate types that match mean; the first counts.
#: Source: IANA's media types; in-toto attestation, ``spec/predicates``; cosign, specs/SBOM_SPEC.md and
#: specs/COSIGN_PREDICATE_SPEC.md; Notary Project; SARIF 2.1.0; trivy, grype and Harbor for reports.
_KNOWN = (
    (r"vnd\.dev\.cosign\.simplesigning", Artifact(Sort.SIGNATURE, "cosign")),
    (r"https://sigstore\.dev/cosign/sign/", Artifact(Sort.SIGNATURE, "cosign")),
    (r"vnd\.cncf\.notary\.signature", Artifact(Sort.SIGNATURE, "notation")),
    (r"spdx", Artifact(Sort.SBOM, "SPDX")),
    (r"cyclonedx", Artifact(Sort.SBOM, "CycloneDX")),
    (r"syft", Artifact(Sort.SBOM, "Syft")),
    (r"https://slsa\.dev/provenance/", Artifact(Sort.ATTESTATION, "SLSA provenance")),
    (r"https://slsa\.dev/verification_summary/", Artifact(Sort.ATTESTATION, "SLSA verification summary")),
    (r"openvex|csaf", Artifact(Sort.ATTESTATION, "VEX")),
    (r"sarif", Artifact(Sort.SCAN, "SARIF")),
    (r"trivy", Artifact(Sort.SCAN, "Trivy")),
    (r"grype", Artifact(Sort.SCAN, "Grype")),
    (r"vuln|scanner\.adapter", Artifact(Sort.SCAN, "vulnerabilities")),
    (r"vnd\.dev\.sigstore\.bundle", Artifact(Sort.ATTESTATION, "sigstore bundle")),
    (r"vnd\.dsse\.envelope|vnd\.in-toto", Artifact(Sort.ATTESTATION, "in-toto")),
    (r"sbom|\bbom\b", Artifact(Sort.SBOM, "unknown format")),
)
#: What the documents say of themselves in annotations.
#: Source: moby/buildkit, docs/attestations/attestation-storage.md.
PREDICATE_TYPES = ("in-toto.io/predicate-type", "predicateType", bundle.PREDICATE_TYPE)
_SHOWN = 200


def artifact_of(*types: str) -> Artifact:
    """Return what an artifact is, given its types, the one that says most first; empty ones are ignored."""
    for text in filter(None, types):
        for pattern, found in _KNOWN:
            if re.search(pattern, text[:_SHOWN], re.IGNORECASE):
                return found
    return Artifact(Sort.OTHER, next(filter(None, types), media_types.OCTET_STREAM)[:_SHOWN])


def predicate_format(predicate_type: str) -> Artifact:
    """Return what a statement of this predicate type is; an unknown one is an attestation of that type."""
    found = artifact_of(predicate_type)
    return Artifact(Sort.ATTESTATION, found.format) if found.sort is Sort.OTHER else found
