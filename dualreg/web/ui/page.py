"""Page: how all pages are written, and what each of them begins and ends with.

Source: Content Security Policy 3; Web Content Accessibility Guidelines 2.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flask import Response, g, render_template, url_for

from dualreg import __version__
from dualreg.auth.access import ANONYMOUS, Action, Grant
from dualreg.errors import (
    Denied,
    ManifestUnknown,
    RegistryError,
    RepositoryUnknown,
    TagUnknown,
    TooManyAttempts,
    Unauthenticated,
)
from dualreg.image.names import RepositoryName
from dualreg.registry.v1_mode import V1Mode
from dualreg.web.address import own_path, shown_host
from dualreg.web.browser import form_token, prepare_form, session
from dualreg.web.context import authority, registry, settings
from dualreg.web.credentials import grant
from dualreg.web.responses import retry_header
from dualreg.web.ui.assets import asset
from dualreg.web.ui.forms import Refusal, refusal, show_again
from dualreg.web.ui.navigation import Link, links, section
from dualreg.web.v2.errors import V2_ERRORS

#: What pages may load, which is what this server has, and where their forms may lead.
_POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
#: Errors of what does not exist, as far as the account may know.
_ABSENT = (RepositoryUnknown, ManifestUnknown, TagUnknown)


@dataclass(frozen=True, slots=True)
class Crumb:
    """A step of the way to a page: its title, and its address; empty: it is the page."""

    title: str
    href: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page has around its own content.

    Attributes:
        title: That of the page.
        account: Who has logged in; empty: nobody.
        logs_in: Whether somebody could.
        token: What forms contain.
        links: To the pages that all pages link to.
        crumbs: The way to the page.
        section: Links to the pages beside it; empty: there are none.
        refusal: Which form was refused, and what was typed into it.
    """

    title: str
    host: str
    account: str
    logs_in: bool
    token: str
    links: Sequence[Link]
    crumbs: Sequence[Crumb]
    section: Sequence[Link]
    refusal: Refusal
    version: str = __version__


def page(
    name: str, title: str, crumbs: Sequence[Crumb] = (), *, status: int = 200, **values: object
) -> Response:
    """Return the page of a template.

    Args:
        name: The template, without ``.html``.
        crumbs: The way to the page.
        values: What the template shows, besides ``frame``, ``url`` and ``asset``.
    """
    identity = session()
    frame = Frame(
        title,
        shown_host(),
        identity.account if identity else "",
        authority().logins is not None,
        form_token(),
        links(),
        crumbs,
        section(),
        refusal(),
    )
    text = render_template(f"ui/{name}.html", frame=frame, url=url, asset=asset, **values)
    response = Response(text, status, content_type="text/html; charset=utf-8")
    prepare_form(response)
    return response


def url(endpoint: str, **query: object) -> str:
    """Return the address of a page: of a view of this package, with its parameters."""
    return own_path() + url_for(f"ui.{endpoint}", **query)  # type: ignore[arg-type]  # any text


class Pages(NamedTuple):
    """The addresses of the first and the next page of a list; empty: there is none, or it is this one."""

    first: str
    following: str


def pages(endpoint: str, after: str | None, following: str | None, **chosen: object) -> Pages:
    """Return what a page of a list links to.

    Args:
        after: Where the page begins; empty or None: it is the first one.
        following: Where the next one begins; empty or None: there is none.
        chosen: The other parameters of the list; those that are empty are left out.
    """
    chosen = {name: value for name, value in chosen.items() if value}
    return Pages(
        url(endpoint, **chosen) if after else "",
        url(endpoint, **chosen, after=following) if following else "",
    )


def v1_mode() -> V1Mode:
    """Return how much of the V1 API is served; what was switched longer ago than a second counts."""
    return registry().v1_switch.mode(settings().v1)


def may_change() -> bool:
    """Return whether these pages may change something for who asks for them."""
    return settings().ui == "on" and session() is not None


def may(repository: RepositoryName, action: Action) -> bool:
    """Return whether these pages may act on a repository for who asks for them."""
    return may_change() and grant().allows(repository, action)


def deletable(repository: RepositoryName) -> bool:
    """Return whether pages offer to delete tags of a repository."""
    return settings().delete and may(repository, Action.DELETE)


def seal(response: Response) -> Response:
    """Forbid to store a page, to frame it, and to load anything of others for it."""
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["Content-Security-Policy"] = _POLICY
    # Browsers leave out where a form comes from if they may not say it at all.
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    return response


def render_error(error: RegistryError) -> Response:
    """Return the page that says what went wrong: that of the form that was refused, if it was one.

    What one may not see looks as if it did not exist.
    """
    g.locked_out = isinstance(error, TooManyAttempts)  # for the audit log
    if "grant" not in g:  # it was refused before that was found out: the page is nobody's
        g.grant = Grant(ANONYMOUS, ())
    response = show_again(error)
    if response is None and (isinstance(error, _ABSENT) or _hides(error)):
        return not_found()
    if response is None:
        message, explanation = error.message, error.explanation()
        response = page("error", "Not possible", message=message, explanation=explanation)
    response.status_code = V2_ERRORS[type(error)].status
    response.headers.update(retry_header(error))
    return response


def not_found(missing: str = "") -> Response:
    """Return the page of what does not exist."""
    del missing
    message = "This does not exist, or you may not see it"
    return page("error", "Not found", status=404, message=message, explanation="")


def _hides(error: RegistryError) -> bool:
    """Return whether an error is about what one may not even see."""
    return isinstance(error, (Denied, Unauthenticated)) and not _may_pull()


def _may_pull() -> bool:
    repository, _ = g.get("requested", (None, None))
    return bool(repository) and g.grant.allows(repository, Action.PULL)
