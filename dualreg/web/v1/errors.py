"""Errors of the V1 dialect: their statuses and how they are rendered.

The body is a flat object of text, since old clients cannot read anything else; they show all of it.

Source: docker-registry 0.9, ``toolkit.api_error``; the texts that clients know are exactly its own.
"""

from collections.abc import Mapping
from http import HTTPStatus

from flask import Response, g, request

from dualreg import errors
from dualreg.errors import RegistryError
from dualreg.web.context import settings
from dualreg.web.responses import (
    allow_header,
    empty_response,
    json_response,
    passed_status,
    retry_header,
)

V1_ERRORS: Mapping[type[RegistryError], int] = {
    errors.NameInvalid: 400,
    errors.TagInvalid: 400,
    errors.ImageIdInvalid: 404,
    errors.DigestInvalid: 400,
    errors.DigestMismatch: 400,
    errors.ChecksumMismatch: 400,
    errors.SizeMismatch: 400,
    errors.BodyTruncated: 400,
    errors.RangeInvalid: 416,
    errors.RequestInvalid: 400,
    errors.PageInvalid: 400,
    errors.ManifestInvalid: 400,
    errors.ManifestUnverified: 400,
    errors.ManifestTooLarge: 413,
    errors.ReferencesMissing: 400,
    errors.ImageInvalid: 400,
    errors.ImageExists: 409,
    errors.ImageIncomplete: 400,
    errors.RepositoryUnknown: 404,
    errors.BlobUnknown: 404,
    errors.ManifestUnknown: 404,
    errors.TagUnknown: 404,
    errors.UploadUnknown: 404,
    errors.ImageUnknown: 404,
    errors.ImageUnreadable: 406,
    errors.UploadBusy: 409,
    errors.PreconditionFailed: 412,
    errors.TooManyTags: 413,
    errors.ListTooLong: 403,
    errors.BlobInUse: 405,
    errors.ManifestInUse: 405,
    errors.QuotaExceeded: 403,
    errors.TagImmutable: 403,
    errors.Unsigned: 403,
    errors.NotRestorable: 404,
    errors.DeletedForGood: 404,
    errors.Unauthenticated: 401,
    errors.Denied: 403,
    errors.NotAllowed: 403,
    errors.KeyUnknown: 404,
    errors.LoginUnknown: 404,
    errors.TooManyAttempts: 429,
    errors.SourceBusy: 429,
    errors.ServerBusy: 429,
    errors.ViewsPending: 429,
    errors.LayersPending: 429,
    errors.LoginRefused: 403,
    errors.IssuerUnavailable: 503,
    errors.TooManyRequests: 429,
    errors.TooManyUploads: 429,
    errors.TooManyStagedBytes: 429,
    errors.ServerStopping: 503,
    errors.Unsupported: 405,
    errors.ReadOnly: 405,
    errors.DiskReserved: 403,
    errors.DownloadFailed: 502,
    errors.UpstreamBusy: 503,
    errors.NamespaceUnknown: 404,
    errors.RepositoryOwned: 405,
    errors.UpstreamFailed: 502,
}

#: Texts of docker-registry, for one endpoint or (None) for all. They say nothing of what was asked for, which
#: clients name themselves.
_TEXTS: Mapping[tuple[type[RegistryError], str | None], str] = {
    (errors.ImageExists, None): errors.ImageExists.message,
    (errors.ImageIncomplete, None): errors.ImageIncomplete.message,
    (errors.BlobUnknown, "v1.get_layer"): errors.ImageUnknown.message,
    (errors.ImageUnknown, None): errors.ImageUnknown.message,
    (errors.RepositoryUnknown, None): "Repository not found",
    (errors.RepositoryUnknown, "v1.get_images"): "images not found",
    (errors.TagUnknown, None): errors.TagUnknown.message,
    (errors.TagUnknown, "v1.delete_tag"): "Tag not found: {tag}",
}


def render(error: RegistryError) -> Response:
    """Return the V1 response to the error."""
    status = passed_status(error) or V1_ERRORS[type(error)]
    g.refused = isinstance(error, errors.Unsigned)  # for the audit log, although the client is permitted
    if isinstance(error, errors.RangeInvalid):
        return empty_response(status, {})
    kind = type(error)
    known = _TEXTS.get((kind, request.endpoint)) or _TEXTS.get((kind, None))
    text = known.format_map(error.facts()) if known else str(error)
    if isinstance(error, errors.ImageInvalid | errors.RequestInvalid):
        text = error.explanation()  # which begins with the text of docker-registry
    return render_status(status, text, _headers(error))


def _headers(error: RegistryError) -> dict[str, str]:
    """Return the headers that the status requires."""
    if isinstance(error, errors.Unauthenticated):
        scheme = (
            "Token" if "image" in (request.view_args or {}) else f'Basic realm="{settings().token_service}"'
        )
        return {"WWW-Authenticate": scheme}
    if V1_ERRORS[type(error)] == HTTPStatus.METHOD_NOT_ALLOWED:
        return allow_header()
    return retry_header(error)


def render_status(status: int, message: str, headers: Mapping[str, str]) -> Response:
    """Return a V1 error response."""
    return json_response({"error": message}, status=status, headers=headers)
