"""Signatures: refuses images without one that a policy requires, or warns of them.

An image is signed if its manifest is, by a key of the policy. What a signed index lists is, too, and so are
the editions that this registry makes of a signed image. What is stated about an image, such as the signatures
themselves, needs none: clients must get it to verify anything.
"""

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from threading import Lock
from typing import NamedTuple

from cachetools import LRUCache

from dualreg.catalog.rows import ManifestRow
from dualreg.errors import ManifestInvalid, Unsigned
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.layered import annotated_layers
from dualreg.image.manifest import Manifest, stored_contents
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.signatures import bundle, cosign, notation
from dualreg.image.signatures.checking import Checking
from dualreg.image.signatures.trust import Trust
from dualreg.image.signatures.verdict import Checked, Target, Validity
from dualreg.registry.finding import Budget, Finder
from dualreg.registry.provenance import Provenance
from dualreg.registry.signing import Mode, On, SigningPolicies, SigningPolicy

_log = logging.getLogger(__name__)

#: Images of which a process remembers whether they are signed, and for how long it does if they are: so long
#: after a signature was deleted, an image may still be pulled. That one is not is true until rows change.
_REMEMBERED, _AGE = 10_000, timedelta(minutes=1)
#: Bytes of the largest document that may be a signature, and of all that are read to find one.
_DOCUMENT_LIMIT, _BUDGET = 1 << 20, 16 << 20
#: Referrers that are looked at, of each type of signatures; and manifests that may vouch for one.
_REFERRERS_LIMIT, _VOUCHERS_LIMIT = 200, 20
#: Types of referrers that may be signatures; GitHub's have that of their empty config.
_TYPES = (
    notation.ARTIFACT,
    bundle.ARTIFACT,
    "application/vnd.oci.empty.v1+json",
)
#: Layers of what cosign attaches by a tag, which has the config of an image.
_STATEMENTS = frozenset({cosign.SIMPLE_SIGNING, cosign.DSSE})
#: What the media types of layers of images contain. containerd runs these whatever the type of the config is,
#: unless that has no ``diff_ids``, as the empty one with which tools attach files.
#: Source: containerd, ``image.go`` (Unpack, getLayers).
_RUNNABLE = (".tar", ".layer.")
#: Of the config with which tools attach files: ``{}``.
_EMPTY = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
_NONE_FOUND = "it is not signed"


class Ruling(NamedTuple):
    """What policies say of a request that is allowed.

    Attributes:
        applies: Whether there is a policy for it.
        warnings: What the client is warned of.
        until: When that may change without a change of rows; None: never.
    """

    applies: bool = False
    warnings: tuple[str, ...] = ()
    until: datetime | None = None


class _Verdict(NamedTuple):
    """Whether an image is signed, as a policy requires; if not, why.

    Attributes:
        until: When it must be looked at again; None: when rows have changed.
    """

    is_signed: bool
    reason: str = ""
    until: datetime | None = None


class _Remembered(NamedTuple):
    """What was found at a version of the catalog, by some keys."""

    version: Hashable
    trust: Trust
    verdict: _Verdict


@dataclass(frozen=True, slots=True)
class Signatures:
    """Decides whether images may be pulled, and tags pointed at them."""

    finder: Finder
    policies: SigningPolicies = field(default_factory=SigningPolicies)
    _known: LRUCache[tuple[str, RepositoryName, str], _Remembered] = field(
        default_factory=lambda: LRUCache(_REMEMBERED)
    )
    _lock: Lock = field(default_factory=Lock)

    def covers_pulls(self, repository: RepositoryName) -> bool:
        """Return whether there is a policy about pulls from a repository."""
        return bool(self.policies.of(repository, On.PULL))

    def check_pull(self, repository: RepositoryName, row: ManifestRow) -> Ruling:
        """Return what policies say of the pull of a manifest, by tag or digest.

        Raises:
            Unsigned: one refuses it.
        """
        return self._rule(On.PULL, repository, row.digest, lambda: self._target(row))

    def check_image(self, repository: RepositoryName, image: ImageId) -> Ruling:
        """Return what policies say of the pull of a V1 image: that of a manifest which is seen as it.

        Raises:
            Unsigned: one refuses it.
        """
        if not self.covers_pulls(repository):
            return Ruling()
        refused = Unsigned(repository=repository, digest=image, policy="", reason=_NONE_FOUND)
        policies = self.policies.of(repository, On.PULL)
        for row in self._seen_as(repository, image):
            try:
                return self.check_pull(repository, row)
            except Unsigned as error:
                refused = error
        if refused.policy or any(each.mode is Mode.REFUSE for each in policies):
            raise refused
        return Ruling(applies=True)

    def check_push(
        self,
        repository: RepositoryName,
        references: Iterable[Tag | Digest],
        manifest: Manifest,
        provenance: Provenance,
    ) -> Ruling:
        """Return what policies say of the tags among *references*, which are about to point at a manifest.

        What another registry says of its tags is no push; the pull of such an image is looked at.

        Raises:
            Unsigned: one refuses it.
        """
        if provenance.upstream or not any(isinstance(each, Tag) for each in references):
            return Ruling()
        target = Target(manifest.media_type, manifest.digest, manifest.payload)
        return self._rule(On.PUSH, repository, target.digest, lambda: target)

    def check_retag(self, repository: RepositoryName, digest: Digest) -> Ruling:
        """Return the same of a tag that is about to point at a manifest of the repository.

        Raises:
            Unsigned: one refuses it.
        """
        if not self.policies.of(repository, On.PUSH):
            return Ruling()
        row = self.finder.manifest(repository, digest)
        return self._rule(On.PUSH, repository, digest, lambda: self._target(row)) if row else Ruling()

    def _rule(
        self, on: On, repository: RepositoryName, digest: Digest, target: Callable[[], Target]
    ) -> Ruling:
        warnings, until = list[str](), list[datetime]()
        policies = self.policies.of(repository, on)
        for policy in policies:
            found = self._verdict(policy, repository, digest, target)
            until += [found.until] if found.until else []
            if found.is_signed:
                continue
            facts = {"repository": repository, "digest": str(digest), "policy": policy.name}
            error = Unsigned(**facts, reason=found.reason)
            if policy.mode is Mode.REFUSE:
                raise error
            warnings.append(str(error))
        return Ruling(bool(policies), tuple(warnings), min(until, default=None))

    def _verdict(
        self, policy: SigningPolicy, repository: RepositoryName, digest: Digest, target: Callable[[], Target]
    ) -> _Verdict:
        """Return whether a manifest is signed; a former answer while it is known to be true."""
        key, catalog = (policy.name, repository, str(digest)), self.finder.state.catalog
        trust, now = policy.trust(), catalog.now()
        with self._lock:
            known = self._known.get(key)
        if known and known.trust is not trust:
            known = None
        if known and known.verdict.until and now < known.verdict.until:
            return known.verdict
        version = catalog.version(wait=True)
        if known and known.version == version and not known.verdict.is_signed:
            return known.verdict
        verdict = self._search(trust, repository, target(), now)
        if not verdict.is_signed and (known is None or known.verdict != verdict):
            _log.warning("%s@%s: %s (policy %s)", repository, digest, verdict.reason, policy.name)
        if verdict.is_signed:
            # What is answered by it must not be repeated for longer, though no further rows change.
            end = now + _AGE
            verdict = verdict._replace(until=min(verdict.until or end, end))
        with self._lock:
            self._known[key] = _Remembered(version, trust, verdict)
        return verdict

    def _search(self, trust: Trust, repository: RepositoryName, target: Target, now: datetime) -> _Verdict:
        """Return whether a manifest, or one that vouches for it, is signed."""
        budget = Budget(_BUDGET)
        if self._is_statement(repository, target, budget):
            return _Verdict(is_signed=True)
        reasons = list[str]()
        for each in islice(self._with_vouchers(repository, target, budget), _VOUCHERS_LIMIT):
            checking = Checking(each, trust, now)
            for found in self._checked(repository, checking, budget):
                if found.verdict.validity is Validity.VALID:
                    return _Verdict(is_signed=True, until=found.verdict.until)
                reasons.append(found.verdict.reason)
        if not reasons:
            return _Verdict(is_signed=False, reason=_NONE_FOUND)
        more = f", and {len(reasons) - 1} more" if reasons[1:] else ""
        return _Verdict(is_signed=False, reason=f"its signature is not valid: {reasons[0]}{more}")

    def _checked(self, repository: RepositoryName, checking: Checking, budget: Budget) -> Iterator[Checked]:
        """Yield what is known of the signatures of a manifest."""
        for payload in self._holders(repository, checking.target.digest, budget):
            for layer in annotated_layers(payload):
                digest = layer.descriptor.digest
                document = self.finder.document(repository, digest, budget, _DOCUMENT_LIMIT)
                found = checking.check(layer, document) if document is not None else None
                if found and found.is_signature:
                    yield found

    def _holders(self, repository: RepositoryName, subject: Digest, budget: Budget) -> Iterator[bytes]:
        """Yield the manifests whose layers may be signatures of a manifest."""
        for tag in cosign.tags_of(subject)[:1]:
            row = self.finder.manifest(repository, Tag(tag))
            if row:
                yield self.finder.payload(row.digest, row.size, budget)
        state = self.finder.state
        state.upstream.load_referrers(repository, subject)
        for artifact_type in _TYPES:
            with state.catalog.read() as tx:
                found = [
                    *tx.referrers.walk(
                        repository, subject, artifact_type=artifact_type, after=None, limit=_REFERRERS_LIMIT
                    )
                ]
            for referrer in found:
                yield self.finder.payload(referrer.digest, referrer.size, budget)

    def _with_vouchers(self, repository: RepositoryName, target: Target, budget: Budget) -> Iterator[Target]:
        """Yield a manifest, then those that vouch for it, the nearest first; of these, the last pushed."""
        yield target
        seen, nearest = {target.digest}, [target.digest]
        while nearest and len(seen) <= _VOUCHERS_LIMIT:
            above = [row for row in self._vouchers(repository, nearest) if row.digest not in seen]
            nearest = [*dict.fromkeys(row.digest for row in above)]
            seen.update(nearest)
            yield from (self._target(row, budget) for row in above)

    def _vouchers(self, repository: RepositoryName, digests: list[Digest]) -> list[ManifestRow]:
        with self.finder.state.catalog.read() as tx:
            row = tx.repositories.find(repository)
            found = tx.uses.vouching(row.id, digests[:_VOUCHERS_LIMIT], _VOUCHERS_LIMIT) if row else ()
            rows = tx.manifests.find_all(repository, found)
            return [rows[digest] for digest in found]

    def _seen_as(self, repository: RepositoryName, image: ImageId) -> list[ManifestRow]:
        """Return the manifests that V1 clients see as an image."""
        with self.finder.state.catalog.read() as tx:
            row = tx.repositories.find(repository)
            uses = tx.uses.above(row.id, [image]) if row else ()
            found = (Digest.parse(use.above) for use in uses if ":" in use.above)
            return [*tx.manifests.find_all(repository, [*islice(found, _VOUCHERS_LIMIT)]).values()]

    def _target(self, row: ManifestRow, budget: Budget | None = None) -> Target:
        payload = self.finder.payload(row.digest, row.size, budget or Budget())
        return Target(row.media_type, row.digest, payload)

    def _is_statement(self, repository: RepositoryName, target: Target, budget: Budget) -> bool:
        """Return whether a manifest states something about another one, and no client can run it.

        Clients run what has the config of an image, or a vague one; so does what cosign attaches by a tag.
        There, each layer must be JSON, which is neither a tar nor compressed. With another config, none may
        be that of an image.
        """
        try:
            contents = stored_contents(target.media_type, target.payload)
        except (ValueError, ManifestInvalid):
            return False
        if target.media_type in (media_types.OCI_ARTIFACT, media_types.ORAS_ARTIFACT):
            return contents.subject is not None
        if target.media_type != media_types.OCI_MANIFEST:
            return False
        (config,) = (each.descriptor for each in contents.children if each.role is Role.CONFIG)
        layers = [each.descriptor for each in contents.children if each.role is Role.LAYER]
        if config.media_type not in media_types.IMAGE_CONFIGS | media_types.VAGUE_CONFIGS:
            runs = any(part in each.media_type for part in _RUNNABLE for each in layers)
            return contents.subject is not None and (str(config.digest) == _EMPTY or not runs)
        return bool(layers) and all(
            layer.media_type in _STATEMENTS
            and cosign.is_statement(
                self.finder.document(repository, layer.digest, budget, _DOCUMENT_LIMIT) or b""
            )
            for layer in layers
        )
