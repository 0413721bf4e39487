"""Errors of the V2 dialect: their codes and statuses, and how they are rendered.

Docker, containerd, podman and skopeo show the message and nothing else, so that says everything. Others add
the detail, and print an object as Go does; it is left out unless a protocol defines it, or it says more.

Source: OCI distribution-spec v1.1, "Error Codes"; statuses of the reference registry where the spec is
silent; distribution, ``registry/handlers/app.go``, for the detail of denied accesses.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import NamedTuple

from flask import Response, g

from dualreg import errors
from dualreg.auth.access import Access, parse_scopes
from dualreg.errors import RangeInvalid, ReferencesMissing, RegistryError
from dualreg.image.names import RepositoryName, UploadId
from dualreg.registry.uploads import Upload
from dualreg.web.responses import allow_header, json_response, passed_status, retry_header
from dualreg.web.v2.locations import bearer_challenge, upload_headers


class Rendering(NamedTuple):
    """The code and HTTP status of an error."""

    code: str
    status: int


V2_ERRORS: Mapping[type[RegistryError], Rendering] = {
    errors.NameInvalid: Rendering("NAME_INVALID", 400),
    errors.TagInvalid: Rendering("MANIFEST_INVALID", 400),
    errors.ImageIdInvalid: Rendering("MANIFEST_UNKNOWN", 404),
    errors.DigestInvalid: Rendering("DIGEST_INVALID", 400),
    errors.DigestMismatch: Rendering("DIGEST_INVALID", 400),
    errors.ChecksumMismatch: Rendering("DIGEST_INVALID", 400),
    errors.SizeMismatch: Rendering("SIZE_INVALID", 400),
    errors.BodyTruncated: Rendering("SIZE_INVALID", 400),
    errors.RangeInvalid: Rendering("BLOB_UPLOAD_INVALID", 416),
    errors.RequestInvalid: Rendering("UNSUPPORTED", 400),
    errors.PageInvalid: Rendering("PAGINATION_NUMBER_INVALID", 400),
    errors.ManifestInvalid: Rendering("MANIFEST_INVALID", 400),
    errors.ManifestUnverified: Rendering("MANIFEST_UNVERIFIED", 400),
    errors.ManifestTooLarge: Rendering("MANIFEST_INVALID", 413),
    errors.ReferencesMissing: Rendering("MANIFEST_BLOB_UNKNOWN", 400),
    errors.ImageInvalid: Rendering("MANIFEST_INVALID", 400),
    errors.ImageExists: Rendering("MANIFEST_INVALID", 409),
    errors.ImageIncomplete: Rendering("MANIFEST_UNKNOWN", 404),
    errors.RepositoryUnknown: Rendering("NAME_UNKNOWN", 404),
    errors.BlobUnknown: Rendering("BLOB_UNKNOWN", 404),
    errors.ManifestUnknown: Rendering("MANIFEST_UNKNOWN", 404),
    errors.TagUnknown: Rendering("MANIFEST_UNKNOWN", 404),
    errors.UploadUnknown: Rendering("BLOB_UPLOAD_UNKNOWN", 404),
    errors.ImageUnknown: Rendering("MANIFEST_UNKNOWN", 404),
    # Not MANIFEST_UNKNOWN, after which Docker looks for the image on V1, and says only that it is not found.
    errors.ImageUnreadable: Rendering("UNSUPPORTED", 406),
    errors.UploadBusy: Rendering("BLOB_UPLOAD_INVALID", 409),
    errors.PreconditionFailed: Rendering("DENIED", 412),
    errors.TooManyTags: Rendering("UNSUPPORTED", 414),
    errors.ListTooLong: Rendering("DENIED", 403),
    errors.BlobInUse: Rendering("UNSUPPORTED", 405),
    errors.ManifestInUse: Rendering("DENIED", 405),
    errors.QuotaExceeded: Rendering("DENIED", 403),
    errors.TagImmutable: Rendering("DENIED", 403),
    errors.Unsigned: Rendering("DENIED", 403),
    errors.NotRestorable: Rendering("MANIFEST_UNKNOWN", 404),
    errors.DeletedForGood: Rendering("MANIFEST_UNKNOWN", 404),
    errors.Unauthenticated: Rendering("UNAUTHORIZED", 401),
    errors.Denied: Rendering("DENIED", 403),
    errors.NotAllowed: Rendering("DENIED", 403),
    errors.KeyUnknown: Rendering("UNKNOWN", 404),
    errors.LoginUnknown: Rendering("UNKNOWN", 404),
    errors.TooManyAttempts: Rendering("TOOMANYREQUESTS", 429),
    errors.SourceBusy: Rendering("TOOMANYREQUESTS", 429),
    errors.ServerBusy: Rendering("TOOMANYREQUESTS", 429),
    errors.ViewsPending: Rendering("TOOMANYREQUESTS", 429),
    errors.LayersPending: Rendering("TOOMANYREQUESTS", 429),
    errors.LoginRefused: Rendering("DENIED", 403),
    errors.IssuerUnavailable: Rendering("TOOMANYREQUESTS", 503),
    errors.TooManyRequests: Rendering("TOOMANYREQUESTS", 429),
    errors.TooManyUploads: Rendering("TOOMANYREQUESTS", 429),
    errors.TooManyStagedBytes: Rendering("TOOMANYREQUESTS", 429),
    errors.ServerStopping: Rendering("TOOMANYREQUESTS", 503),
    errors.Unsupported: Rendering("UNSUPPORTED", 405),
    errors.ReadOnly: Rendering("UNSUPPORTED", 405),
    errors.DiskReserved: Rendering("DENIED", 403),
    errors.DownloadFailed: Rendering("UNKNOWN", 502),
    errors.UpstreamBusy: Rendering("TOOMANYREQUESTS", 503),
    errors.NamespaceUnknown: Rendering("NAME_UNKNOWN", 404),
    errors.RepositoryOwned: Rendering("UNSUPPORTED", 405),
    errors.UpstreamFailed: Rendering("UNKNOWN", 502),
}
#: Codes of statuses that upstream registries answered.
_PASSED_CODES = {403: "DENIED", 404: "NAME_UNKNOWN", 429: "TOOMANYREQUESTS"}


def render(error: RegistryError) -> Response:
    """Return the V2 response to the error: one entry, or one for each missing digest."""
    code, status = V2_ERRORS[type(error)]
    g.refused = isinstance(error, errors.Unsigned)  # for the audit log, although the client is permitted
    if passed := passed_status(error):
        code, status = _PASSED_CODES.get(passed, code), passed
    entries = [_entry(code, str(each), _detail(each)) for each in _separate(error)]
    return json_response({"errors": entries}, status=status, headers=_headers(error))


def _separate(error: RegistryError) -> Iterable[RegistryError]:
    """Return the error as those that get an entry each."""
    if isinstance(error, ReferencesMissing):
        return [ReferencesMissing(digests=[digest]) for digest in error.digests]
    return [error]


def _headers(error: RegistryError) -> dict[str, str]:
    """Return the headers that the status requires."""
    match error:
        case RangeInvalid():
            upload = Upload(RepositoryName(error.repository), UploadId(error.upload), error.offset)
            return upload_headers(upload)
        case errors.Unauthenticated():
            return {"WWW-Authenticate": bearer_challenge(error)}
    if V2_ERRORS[type(error)].status == HTTPStatus.METHOD_NOT_ALLOWED:
        return allow_header()
    return retry_header(error)


def render_status(status: int, message: str, headers: Mapping[str, str]) -> Response:
    """Return the V2 response to a request that no handler takes, or that fails unexpectedly."""
    code = "UNSUPPORTED" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "UNKNOWN"
    entry = _entry(code, message, None)
    return json_response({"errors": [entry]}, status=status, headers=headers)


def _detail(error: RegistryError) -> object:
    """Return what the protocol defines as the error's detail, or what the message has no room for."""
    match error:
        case ReferencesMissing():
            return {"digest": error.digests[0]}
        case errors.Denied():
            return _records([Access.of(error.repository, error.action)])
        case errors.Unauthenticated(scope=str()):
            return _records(parse_scopes([error.scope or ""]))
        case errors.BlobInUse() | errors.ManifestInUse():
            return " ".join((*error.referrers, *error.tags))
    return None


def _records(accesses: Iterable[Access]) -> list[dict[str, str]]:
    """Return accesses as the reference registry does, one entry for each action."""
    return [
        {"Type": access.type, "Class": "", "Name": access.name, "Action": action}
        for access in accesses
        for action in sorted(access.actions)
    ]


def _entry(code: str, message: str, detail: object) -> dict[str, object]:
    return {"code": code, "message": message} | ({"detail": detail} if detail else {})
