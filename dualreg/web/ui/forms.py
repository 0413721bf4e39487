"""Forms: one that is refused is shown again on its page, with the reason, and with what was typed."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from flask import Response, current_app, g, request

from dualreg.errors import (
    Denied,
    LoginRefused,
    NotAllowed,
    RegistryError,
    RequestInvalid,
    Unauthenticated,
)
from dualreg.web import browser

_MARK = "dualreg_form_page"
#: What pages never repeat.
_UNREPEATED = frozenset({"password", "old", "new", "again", "token"})
#: Errors of those who may not even see a form.
_FORBIDDEN = (Denied, NotAllowed, Unauthenticated)
#: Errors whose reason is a sentence; those of others need the message before it.
_REASONED = (LoginRefused, NotAllowed, RequestInvalid, Unauthenticated)
View = TypeVar("View", bound=Callable[[], Response])


class Refusal(NamedTuple):
    """A form that was refused.

    Attributes:
        view: The one that its form is sent to; empty: no form was refused.
        reason: Why, in a sentence without its full stop.
        given: What was typed and chosen, by the name of the field.
    """

    view: str = ""
    reason: str = ""
    given: Mapping[str, Sequence[str]] = MappingProxyType({})

    def typed(self, view: str, name: str, default: str = "") -> str:
        """Return what is in a field of a view's form: what was typed, or if it was not refused, *default*."""
        return next(iter(self.given.get(name, ())), "") if self.view == view else default

    def ticked(self, view: str, name: str, value: str) -> bool:
        """Return whether a box of a view's form is ticked; all are, unless it was refused without."""
        return value in self.given.get(name, ()) if self.view == view else True


def refused_on(page: Callable[[], Response]) -> Callable[[View], View]:
    """Declare the page that has the form which a view takes: there it is shown again if it is refused."""

    def mark(view: View) -> View:
        setattr(view, _MARK, page)
        return view

    return mark


def accept_form() -> None:
    """Note that the request is one of ours, and not refused before its view.

    What pages of others have typed into a form of ours must not be shown as if somebody here had.
    """
    g.takes_form = True


def refusal() -> Refusal:
    """Return the form of the request, if it was refused."""
    found: Refusal = g.get("refusal", Refusal())
    return found


def show_again(error: RegistryError) -> Response | None:
    """Return the page of the form that was refused; None: it was none, or its page is refused, too."""
    endpoint = request.endpoint or ""
    show = getattr(current_app.view_functions.get(endpoint), _MARK, None)
    is_search = request.method == "GET"
    if show is None or "takes_form" not in g or (is_search and isinstance(error, _FORBIDDEN)):
        return None
    given = request.args.to_dict(flat=False) if is_search else browser.form_lists()
    typed = {name: values for name, values in given.items() if name not in _UNREPEATED}
    reason = (isinstance(error, _REASONED) and error.reason) or str(error)
    g.refusal = Refusal(endpoint.removeprefix("ui."), reason, typed)
    try:
        return show()  # type: ignore[no-any-return]  # an attribute set by refused_on()
    except RegistryError:
        g.pop("refusal")
        return None
