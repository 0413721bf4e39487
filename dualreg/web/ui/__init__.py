"""The web UI, under ``/ui``: pages for people, which show and do what the operations offer.

A module has the pages of one noun, and its templates are named after the pages. A view calls operations
(``web/administration.py``) for the account of the session, and gives a template what it shows. Nothing here
decides who may do what, and every page works without scripts
([decision 68](../../../docs/adr/0068-the-web-ui-is-pages-of-the-same-process.md)).
"""

from flask import Blueprint, g, request

from dualreg.acting import Api, act_as
from dualreg.errors import NotAllowed, RegistryError
from dualreg.web.browser import is_own_form, session
from dualreg.web.context import authority
from dualreg.web.credentials import counted
from dualreg.web.responses import READS
from dualreg.web.ui import (
    access,
    account,
    accounts,
    all_keys,
    assets,
    audit,
    comparison,
    faces,
    farewell,
    formats,
    groups,
    home,
    images,
    layers,
    login,
    migrations,
    operations,
    repositories,
    tags,
    tasks,
    texts,
    ticked,
    usage,
    webhooks,
)
from dualreg.web.ui.forms import accept_form
from dualreg.web.ui.page import may_change, not_found, render_error, seal

#: Endpoints whose forms change nothing of the registry.
_LOGINS = ("ui.post_login", "ui.post_logout")


def create_blueprint() -> Blueprint:
    """Return the blueprint of ``/ui``."""
    blueprint = Blueprint("ui", __name__, url_prefix="/ui", template_folder="templates")
    for module in (home, login, repositories, images, tags, faces, farewell, formats, migrations, assets):
        module.register(blueprint)
    for module in (
        comparison,
        ticked,
        layers,
        operations,
        usage,
        tasks,
        webhooks,
        audit,
        access,
        accounts,
        groups,
        all_keys,
        account,
    ):
        module.register(blueprint)
    blueprint.get("/<path:missing>")(not_found)
    texts.register(blueprint)
    blueprint.before_request(_guard)
    blueprint.after_request(seal)
    blueprint.register_error_handler(RegistryError, render_error)
    return blueprint


def _guard() -> None:
    """Find out whose request it is, count it, and refuse forms of other pages.

    Raises:
        TooManyRequests, NotAllowed: it must not run.
    """
    if request.endpoint == assets.ENDPOINT:
        return
    g.grant = counted(lambda: authority().of_browser(session()))
    if request.method not in READS:
        _require_form()
    act_as(g.grant.identity.account, Api.UI)
    accept_form()


def _require_form() -> None:
    """Check that a form of ours has sent the request, and that forms may change something.

    Raises:
        NotAllowed: it is another page's, or may not.
        ManifestTooLarge, BodyTruncated, ServerBusy: see ``read_limited``.
    """
    if not is_own_form():
        raise NotAllowed(reason="this form is not of a page of this registry; open the page again")
    if request.endpoint not in _LOGINS and not may_change():
        raise NotAllowed(reason="log in, or ask the operator: these pages change nothing")
