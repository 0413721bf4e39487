"""Errors of bytes in transit: digests, sizes and uploads."""

from dualreg.errors.base import RegistryError, shown


class DigestInvalid(RegistryError):
    """A digest that cannot be parsed, or whose algorithm is not offered.

    Attributes:
        digest: The malformed digest.
        algorithm: The algorithm, if only that was given.
    """

    message = "invalid digest"
    digest: str | None = None
    algorithm: str | None = None

    def explanation(self) -> str:
        """Name what was given, and what is expected."""
        if self.digest is None:
            return f"algorithm {shown(self.algorithm)}: use sha256 or sha512"
        return f"{shown(self.digest)}: expected sha256: and 64, or sha512: and 128 lower-case hex digits"


class DigestMismatch(RegistryError):
    """The bytes do not hash to the digest they were pushed under.

    Attributes:
        digest: The digest that the client gives.
        actual: That of the bytes that arrived.
    """

    message = "provided digest did not match uploaded content"
    details = "expected {digest}, received {actual}"
    digest: str
    actual: str


class ChecksumMismatch(RegistryError):
    """The V1 payload checksum is not that of the JSON and layer received.

    Attributes:
        expected: The checksum of what was received.
        stated: The checksum that the client gives; None: none, and its layer differs from the image's.
    """

    message = "Checksum mismatch"
    id: str
    expected: str
    stated: str | None = None

    def explanation(self) -> str:
        """Name both checksums."""
        stated = f", the client states {self.stated}" if self.stated else ""
        return f"image {self.id} has {self.expected}{stated}"


class SizeMismatch(RegistryError):
    """The number of bytes differs from what was declared.

    Attributes:
        promised: The length that Content-Range gives, in bytes.
        declared: The Content-Length, in bytes.
        received: The length of the body, in bytes.
        digest: The blob that a manifest gives a wrong size for.
        stored: The size of that blob, in bytes.
        stated: Its size according to the manifest, in bytes.
    """

    message = "provided length did not match content length"
    promised: int | None = None
    declared: int | None = None
    received: int | None = None
    digest: str | None = None
    stored: int | None = None
    stated: int | None = None

    def explanation(self) -> str:
        """Name both lengths."""
        if self.digest is not None:
            stated = "states no size of it" if self.stated is None else f"states {self.stated}"
            return f"{self.digest} has {self.stored} bytes, but the manifest {stated}"
        other = "Content-Length is" if self.received is None else "the body has"
        length = self.declared if self.received is None else self.received
        return f"Content-Range names {self.promised} bytes, {other} {length}"


class BodyTruncated(RegistryError):
    """The connection ended before the body did.

    Attributes:
        received: Bytes that arrived.
        declared: Bytes that Content-Length promised; None for a chunked body.
    """

    message = "the request body ended early"
    received: int
    declared: int | None = None

    def explanation(self) -> str:
        """Say how much is missing."""
        of = "" if self.declared is None else f" of {self.declared}"
        return f"received {self.received}{of} bytes"


class ServerStopping(BodyTruncated):
    """The server stops before the body has arrived; the rest can be sent in *retry_after* seconds."""

    message = "the server is stopping"
    retry_after: int


class DiskReserved(BodyTruncated):
    """What is left of the disk is reserved by the setting ``min_free``; what has arrived counts."""

    message = "the disk of this registry is nearly full"
    received: int = 0

    def explanation(self) -> str:
        """Say who can do what about it."""
        return "pushes are refused until the operator deletes content or makes room (setting min_free)"


class RangeInvalid(RegistryError):
    """A chunk that does not start at the upload's next offset.

    Attributes:
        repository: The repository of the upload.
        upload: The upload's ID.
        offset: Bytes received so far: where the client has to resume.
    """

    message = "the chunk does not start where the upload ends"
    details = "the next byte of upload {upload} is {offset}: continue from there"
    repository: str
    upload: str
    offset: int


class TooManyUploads(RegistryError):
    """The client has as many open uploads as the setting ``upload_limits`` allows."""

    message = "too many open uploads"
    details = "one client may have {limit}: finish or cancel some, or retry in {retry_after} seconds"
    limit: int
    retry_after: int


class TooManyStagedBytes(BodyTruncated):
    """Open uploads have as many bytes as the setting ``upload_limits`` allows; what has arrived counts.

    Attributes:
        holder: Whose uploads count: one client's, or those of all clients.
    """

    message = "too many bytes in open uploads"
    received: int = 0
    holder: str
    limit: int
    retry_after: int

    def explanation(self) -> str:
        """Name the limit, and what to do."""
        todo = f"finish or cancel uploads, or retry in {self.retry_after} seconds"
        return f"{self.holder} may have {self.limit} bytes: {todo}"


class DownloadFailed(RegistryError):
    """The upstream registry does not send a blob, or sends other bytes; the next request tries again."""

    message = "the upstream registry failed to send this blob"
    details = "{digest}: {reason}"
    digest: str
    reason: str


class UploadUnknown(RegistryError):
    """No such upload in this repository: finished, cancelled, expired, or never started."""

    message = "blob upload unknown to registry"
    details = "{upload} is finished, cancelled or expired: start a new upload"
    upload: str


class UploadBusy(RegistryError):
    """Another request is writing this upload, or the V1 image *id*; retry in *retry_after* seconds."""

    message = "another request is writing this upload"
    retry_after: int
    upload: str | None = None
    id: str | None = None

    def explanation(self) -> str:
        """Name it, and when to retry."""
        name = f"image {self.id}" if self.upload is None else self.upload
        return f"{name}: retry in {self.retry_after} seconds"
