"""Errors of requests: names, parameters, permissions and limits."""

from dualreg.errors.base import RegistryError, shown

#: The details of errors that end by themselves.
_RETRY = "retry in {retry_after} seconds"


class NameInvalid(RegistryError):
    """A repository name outside the grammar, or longer than 255 characters."""

    message = "invalid repository name"
    details = (
        "{name}: use at most 255 of a-z, 0-9, ., _, - and /, with a letter or digit around each separator"
    )
    name: str


class TagInvalid(RegistryError):
    """A tag outside ``[A-Za-z0-9_][A-Za-z0-9._-]{0,127}``."""

    message = "invalid tag name"
    details = "{tag}: use at most 128 of A-Z, a-z, 0-9, _, . and -, not starting with . or -"
    tag: str


class ImageIdInvalid(RegistryError):
    """A V1 image ID that is not 64 (or, in the oldest images, 16) lower-case hex digits."""

    message = "Invalid image ID"
    id: str


class RequestInvalid(RegistryError):
    """A malformed body, header or parameter; *service* or *scope* of a token, if that is what is wrong."""

    message = "Invalid data"
    reason: str
    service: str | None = None
    scope: str | None = None


class PageInvalid(RegistryError):
    """A page with an invalid size (``n``), start (``after``), prefix, order (``sort``) or time."""

    message = "invalid page requested"
    n: str | None = None
    after: str | None = None
    prefix: str | None = None
    sort: str | None = None
    before: str | None = None
    since: str | None = None

    def explanation(self) -> str:
        """Name the parameter, and what is expected of it."""
        expected = {
            "n": "a decimal number",
            "after": "what the Link header of the page before gave",
            "prefix": "the beginning of a tag",
            "sort": "name or -pushed",
            "before": "an RFC 3339 time",
            "since": "an RFC 3339 time",
        }
        return ", ".join(
            f"{name}={shown(value)} is not {expected[name]}" for name, value in self.facts().items()
        )


class TooManyTags(RegistryError):
    """More tags in one request than the limit."""

    message = "too many tags"
    details = "one request sets at most {limit}"
    limit: int


class ListTooLong(RegistryError):
    """A list without pages that has more than *limit* entries.

    Attributes:
        what: What it lists.
    """

    message = "the list is too long"
    details = "{repository} has more than {limit} {what}: use Docker 1.6 or newer, which needs no list"
    repository: str
    limit: int
    what: str


class ViewsPending(RegistryError):
    """More images have to be derived for V1 clients than one request does; retry in *retry_after* seconds."""

    message = "the images of this repository are being prepared for V1 clients"
    details = _RETRY
    retry_after: int


class LayersPending(RegistryError):
    """Layers have to be compressed anew for this client first; retry in *retry_after* seconds."""

    message = "the layers of this image are being prepared for clients that cannot read zstd"
    details = _RETRY
    retry_after: int


class SourceBusy(RegistryError):
    """The maximum number of images is being imported on demand; retry in *retry_after* seconds."""

    message = "too many images are being imported on demand"
    details = _RETRY
    retry_after: int


class ServerBusy(RegistryError):
    """All threads that such requests may take are busy; retry in *retry_after* seconds."""

    message = "the server is busy with other requests"
    details = _RETRY
    retry_after: int


class UpstreamBusy(ServerBusy):
    """As many clients wait for other registries as may; retry in *retry_after* seconds.

    Docker gives up a pull after a 429, but repeats what is answered with 503.
    Source: moby, ``distribution/errors.go``, ``retryOnError``.
    """

    message = "the server is busy with what other registries send"


class Unauthenticated(RegistryError):
    """The client is anonymous where it may not be, its credentials are wrong, or its token covers too little.

    Attributes:
        scope: What a token has to cover.
        error: The error code of RFC 6750, if a token was sent.
        lacks: What the token that was sent does not cover.
        account: Whose token that is; empty: an anonymous client's.
    """

    message = "Requires authorization"
    reason: str | None = None
    scope: str | None = None
    error: str | None = None
    lacks: str | None = None
    account: str | None = None

    def explanation(self) -> str:
        """Say why the credentials do not do, or that some are needed."""
        if self.lacks:
            owner = f"the token of {shown(self.account)}" if self.account else "the anonymous token"
            return f"{owner} lacks {self.lacks}: log in as an account that has it, for scope {self.scope}"
        if self.reason:
            return self.reason
        return f"log in, or send a token with the scope {self.scope}" if self.scope else "log in"


class Denied(RegistryError):
    """The client is authenticated and lacks the permission."""

    message = "requested access to the resource is denied"
    details = "{account} lacks {action} on repository {repository}"
    account: str
    repository: str
    action: str


class NotAllowed(RegistryError):
    """An account asks for what it may not change, for *reason*."""

    message = "not allowed"
    reason: str


class KeyUnknown(RegistryError):
    """An account has no such API key."""

    message = "unknown key"
    details = "you have no key {id}; GET /api/v1/me/keys lists them"
    id: str


class LoginUnknown(RegistryError):
    """An account has no such refresh token, or session of a browser."""

    message = "unknown login"
    details = "you have no login {id}; GET /api/v1/me/logins lists them"
    id: str


class LoginRefused(RegistryError):
    """A login by an issuer comes to nothing, for *reason*."""

    message = "you are not logged in"
    reason: str


class IssuerUnavailable(RegistryError):
    """An issuer does not answer, or not as it should; retry in *retry_after* seconds. The log says why."""

    message = "the issuer by which you log in does not answer, or not as it should"
    details = _RETRY
    retry_after: int = 30


class TooManyAttempts(RegistryError):
    """Too many logins failed; retry in *retry_after* seconds."""

    message = "too many failed logins"
    details = _RETRY
    retry_after: int


class TooManyRequests(RegistryError):
    """The client sends more requests than ``request_limit`` allows; retry in *retry_after* seconds."""

    message = "too many requests"
    details = _RETRY
    retry_after: int


class Unsupported(RegistryError):
    """An operation that is disabled (by *setting*) or not offered (for *account*)."""

    message = "The operation is unsupported"
    setting: str | None = None
    account: str | None = None

    def explanation(self) -> str:
        """Name the setting that disables it, or who can do it instead."""
        if self.setting:
            return f"this registry is configured with {self.setting} = false"
        if self.account:
            return f"ask the operator of this registry to change account {shown(self.account)}"
        return ""


class ReadOnly(RegistryError):
    """The operator has made the registry read-only, for *reason*."""

    message = "this registry is read-only"
    reason: str


class NamespaceUnknown(RegistryError):
    """A client wants what another registry has, and no upstream is that registry."""

    message = "unknown namespace"
    details = "no upstream of this registry is {namespace} (setting upstreams)"
    namespace: str


class RepositoryOwned(RegistryError):
    """A push to a repository whose content comes from another registry, or the reverse.

    Attributes:
        upstream: The URL of that registry; None: clients have pushed to the repository.
    """

    message = "the content of this repository comes from elsewhere"
    name: str
    upstream: str | None = None

    def explanation(self) -> str:
        """Name where it comes from, and what to do."""
        if self.upstream is None:
            return f"clients have pushed to {self.name}, so it is not loaded from upstream"
        return f"{self.name} holds what {self.upstream} has: push there, or under another name"


class UpstreamFailed(RegistryError):
    """The registry that a repository comes from does not give what this one lacks.

    Attributes:
        upstream: Its URL.
        status: What it answered; 503 if there was no answer.
        reason: Its own words, or why there is no answer.
        retry_after: In how many seconds it may be asked again, if that is known.
    """

    message = "the upstream registry failed"
    upstream: str
    status: int
    reason: str
    retry_after: int | None = None

    def explanation(self) -> str:
        """Name the registry, and say what it said."""
        return f"{self.upstream}: {shown(self.reason)} ({self.status})"
