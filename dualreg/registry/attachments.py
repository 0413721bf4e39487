"""Attachments: what clients have pushed about an image, such as signatures, and what is known of it.

They are found in three ways: by the tags that cosign makes of a digest, as referrers, and, in an index that
BuildKit wrote, as entries of their own. All of that may be hostile: how much is read is bounded.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from dualreg.errors import DigestInvalid
from dualreg.image.artifacts import PREDICATE_TYPES, Artifact, Sort, artifact_of, predicate_format
from dualreg.image.digest import Digest
from dualreg.image.layered import Annotated, annotated_layers
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.reports import Report, read_report, report_of
from dualreg.image.signatures import bundle, cosign, dsse, notation
from dualreg.image.signatures.checking import Checking
from dualreg.image.signatures.verdict import Checked, Malformed, Validity, Verdict
from dualreg.registry.finding import Budget, Finder
from dualreg.registry.referrers import Referrers

#: Bytes of the largest document that is read.
_DOCUMENT_LIMIT = 4 << 20
#: Annotations by which BuildKit marks an entry as about another one of the same index.
#: Source: moby/buildkit, docs/attestations/attestation-storage.md.
_REFERENCE_TYPE, _REFERENCE_DIGEST = "vnd.docker.reference.type", "vnd.docker.reference.digest"
_CREATED = "org.opencontainers.image.created"
_TEXT_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Attachment:
    """What somebody has pushed about an image.

    Attributes:
        subject: The manifest that it is about.
        format: What it is written in, as people call it.
        digest: Its own manifest.
        tag: The tag by which it was found; None: it was found as a referrer, or in an index.
        artifact_type: As it is stored, or its media type.
        predicate_type: Of a statement in in-toto's form; empty: it is none.
        created: When it was made or pushed, as RFC 3339.
        size: Of the document, in bytes.
        validity: None: it is not signed itself.
        by: Who signed it; proven if that is valid.
        reason: Why it is not valid.
        tool, contents: What a report says of itself.
    """

    subject: Digest
    sort: Sort
    format: str
    digest: Digest
    tag: str | None = None
    artifact_type: str = ""
    predicate_type: str = ""
    created: str = ""
    size: int | None = None
    validity: Validity | None = None
    by: str = ""
    reason: str = ""
    tool: str = ""
    contents: str = ""


@dataclass(frozen=True, slots=True)
class _Holder:
    """A manifest whose layers are about a subject."""

    subject: Digest
    digest: Digest
    payload: bytes
    artifact_type: str = ""
    predicate_type: str = ""
    tag: str | None = None
    created: str = ""


@dataclass(frozen=True, slots=True)
class Attachments:
    """Finds what is attached to images, and verifies what is signed."""

    finder: Finder
    referrers: Referrers

    def walk(self, repository: RepositoryName, checking: Checking, budget: Budget) -> Iterator[Attachment]:
        """Yield what is attached to a manifest of the repository, by tag or as a referrer.

        Args:
            checking: What checks whether it is about that manifest.
            budget: Is used up by what is read.
        """
        for holder in self._holders(repository, checking.target.digest, budget):
            yield from self._read(repository, holder, checking, budget)

    def of_entry(
        self, repository: RepositoryName, entry: Annotated, checking: Checking, budget: Budget
    ) -> Iterator[Attachment]:
        """Yield what an entry of an index states about another one, as BuildKit attaches it."""
        target = checking.target
        if reference_of(entry) == target.digest:
            row = self.finder.manifest(repository, entry.descriptor.digest)
            if row and (payload := self.finder.payload(row.digest, row.size, budget)):
                yield from self._read(
                    repository, _Holder(target.digest, row.digest, payload), checking, budget
                )

    def _holders(self, repository: RepositoryName, subject: Digest, budget: Budget) -> Iterator[_Holder]:
        for tag in map(Tag, cosign.tags_of(subject)):
            row = self.finder.manifest(repository, tag)
            if row and (payload := self.finder.payload(row.digest, row.size, budget)):
                yield _Holder(subject, row.digest, payload, tag=tag)
        for found in self.referrers.all(repository, subject):
            created = found.annotations.get(_CREATED) or found.pushed_at.isoformat(timespec="seconds")
            stated = _first(found.annotations, PREDICATE_TYPES)
            payload = self.finder.payload(found.digest, found.size, budget)
            yield _Holder(
                subject, found.digest, payload, found.artifact_type, stated, created=created[:_TEXT_LIMIT]
            )

    def _read(
        self, repository: RepositoryName, holder: _Holder, checking: Checking, budget: Budget
    ) -> Iterator[Attachment]:
        layers = annotated_layers(holder.payload)
        if not layers:
            artifact = artifact_of(holder.artifact_type)
            yield _attachment(holder, artifact, None, problem="its content cannot be read")
        for layer in layers:
            document = self.finder.document(repository, layer.descriptor.digest, budget, _DOCUMENT_LIMIT)
            if document is None:
                artifact = artifact_of(holder.artifact_type, layer.descriptor.media_type)
                yield _attachment(holder, artifact, layer, problem="too large to be read, or lost")
            else:
                yield _described(holder, layer, document, checking)


def reference_of(entry: Annotated) -> Digest | None:
    """Return which entry of the same index an entry is about; None: it is an image, or about none."""
    if _REFERENCE_TYPE not in entry.annotations:
        return None
    try:
        return Digest.parse(entry.annotations.get(_REFERENCE_DIGEST, ""))
    except DigestInvalid:
        return None


def _described(holder: _Holder, layer: Annotated, document: bytes, checking: Checking) -> Attachment:
    """Return what is known of a document that was read."""
    found = checking.check(layer, document)
    if found is None:
        return _unsigned(holder, layer, document)
    stated = found.predicate_type
    artifact = predicate_format(stated) if stated else _signed_artifact(layer, found)
    if found.is_signature and layer.descriptor.media_type.startswith(bundle.PREFIX):
        artifact = Artifact(Sort.SIGNATURE, "cosign bundle")
    report = report_of(found.predicate) if found.predicate else None
    return _attachment(holder, artifact, layer, verdict=found.verdict, stated=stated, report=report)


def _signed_artifact(layer: Annotated, found: Checked) -> Artifact:
    media_type = layer.descriptor.media_type
    if media_type in (notation.JWS, notation.COSE):
        return Artifact(Sort.SIGNATURE, "notation")
    is_broken = found.verdict.validity is Validity.INVALID and media_type == cosign.DSSE
    return artifact_of(media_type) if is_broken else Artifact(Sort.SIGNATURE, "cosign")


def _unsigned(holder: _Holder, layer: Annotated, document: bytes) -> Attachment:
    stated = _first(layer.annotations, PREDICATE_TYPES) or holder.predicate_type
    media_type = layer.descriptor.media_type
    report: Report | None = None
    if media_type == dsse.IN_TOTO:
        with suppress(Malformed):
            statement = dsse.Statement.read(document)
            stated, report = statement.predicate_type, report_of(statement.predicate or {})
    else:
        report = read_report(document)
    artifact = predicate_format(stated) if stated else artifact_of(holder.artifact_type, media_type)
    if artifact.sort is Sort.OTHER:
        artifact = artifact_of(media_type, holder.artifact_type)
    return _attachment(holder, artifact, layer, stated=stated, report=report)


def _attachment(
    holder: _Holder,
    artifact: Artifact,
    layer: Annotated | None,
    *,
    verdict: Verdict | None = None,
    problem: str = "",
    stated: str = "",
    report: Report | None = None,
) -> Attachment:
    descriptor = layer.descriptor if layer else None
    return Attachment(
        subject=holder.subject,
        sort=artifact.sort,
        format=artifact.format,
        digest=holder.digest,
        tag=holder.tag,
        artifact_type=(holder.artifact_type or (descriptor.media_type if descriptor else ""))[:_TEXT_LIMIT],
        predicate_type=(stated or holder.predicate_type)[:_TEXT_LIMIT],
        created=holder.created,
        size=descriptor.size if descriptor else None,
        validity=verdict.validity if verdict else None,
        by=verdict.by[:_TEXT_LIMIT] if verdict else "",
        reason=verdict.reason[:_TEXT_LIMIT] if verdict else problem,
        tool=report.tool if report else "",
        contents=report.contents if report else "",
    )


def _first(annotations: Mapping[str, str], names: Iterable[str]) -> str:
    return next((annotations[name] for name in names if annotations.get(name)), "")
