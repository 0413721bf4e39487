"""The Flask application: the blueprints, and the responses to requests that no handler takes."""

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import PathConverter

from dualreg import __version__
from dualreg.assembly import (
    accounts_of,
    authority_of,
    catalog_of,
    open_registry,
    prepare,
    writes_of,
)
from dualreg.auth.audit import Audit
from dualreg.auth.authority import Authority
from dualreg.auth.delegation import Delegation
from dualreg.auth.self_service import SelfService
from dualreg.auth.workloads import parse_workload_rules
from dualreg.errors import (
    BlobDamaged,
    BlobMissing,
    BlobUnknown,
    ImageUnknown,
    ManifestUnknown,
    RegistryError,
    ServerBusy,
)
from dualreg.messages import safe_line
from dualreg.operations.control import TaskControl
from dualreg.registry import Registry
from dualreg.registry.activity import KeyUses
from dualreg.registry.negotiation import LOST
from dualreg.settings import Settings
from dualreg.settings.values import parse_rate
from dualreg.tracing.beginning import begin_tracing
from dualreg.waiting import Budget
from dualreg.web import accel, address, api, audit, context, cors, token, ui, v1, v2
from dualreg.web.application import Application
from dualreg.web.browser import redirect
from dualreg.web.current import current_agent, current_request
from dualreg.web.forwarded import client_address
from dualreg.web.identified import record_facts
from dualreg.web.lane import Lane
from dualreg.web.late import LateAnswers
from dualreg.web.outages import LimitedLog, outage_of
from dualreg.web.rates import Rates
from dualreg.web.responses import ROUTE, add_warnings
from dualreg.web.slots import FOLLOWERS, Slots
from dualreg.web.traced import Traced

#: The first part of the path in a request line.
_DIALECT = re.compile(rb"[A-Za-z]+ +(?:https?://[^/ ]*)?/(v[12])(?=[/? ]|$)")
_log = logging.getLogger(__name__)


class _AnyPath(PathConverter):
    """Matches any text, so that an invalid name is a RegistryError and not an unknown route."""

    regex = r"(?s:.+?)"
    part_isolating = False


def create_app(
    settings: Settings,
    registry: Registry | None = None,
    rates: Rates | None = None,
    tasks: TaskControl | None = None,
) -> Flask:
    """Return the WSGI application.

    Args:
        registry: The registry to serve; default: prepare and open the one that *settings* describe.
        rates: Shared with other applications; default: as *settings* say, of this application alone.
        tasks: What runs the tasks of the service; default: nothing does.

    Raises:
        CatalogUnreachable, ValueError: see ``assembly.prepare`` and ``assembly.authority_of``.
        AuditUnavailable: the audit log cannot be written.
        TracingUnavailable: spans cannot be sent as the environment says.
    """
    if registry is None:
        prepare(settings)
        registry = open_registry(settings, serving=True)
    log, threads = Audit(settings.audit_target), settings.threads
    slots, late = Slots(threads, budget=registry.rules.budget or Budget(threads)), LateAnswers(threads)
    log.ready()
    authority, writes = authority_of(registry, settings), writes_of(settings, catalog_of(registry))
    parts = context.Parts(
        registry, authority, log, settings, slots, late, writes, rates or rates_of(settings),
        Slots(threads, FOLLOWERS), **_account_parts(registry, authority, settings), tasks=tasks,
    )  # fmt: skip
    app = _new_app()
    context.install(parts, app.extensions)
    app.wsgi_app = Lane(app.wsgi_app, app.extensions, v2.kind_of_agent)  # type: ignore[method-assign]  # as Flask documents
    _trace(app, parts)
    _register_views(app, parts)
    app.url_value_preprocessor(_note_route)
    app.url_value_preprocessor(v1.enforce_mode)
    app.before_request(address.check_host)
    app.before_request(audit.require)
    _follow_up(app)
    return app


def _new_app() -> Flask:
    """Return an application without routes, which takes paths as they are."""
    app = Application("dualreg")
    # A redirect to a normalized path would lose the body of an old Go client's PUT, and hide an invalid name
    # from our parser.
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False
    app.url_map.converters["path"] = _AnyPath
    return app


def _trace(app: Flask, parts: context.Parts) -> None:
    """Have the requests of an application traced, if the settings say so.

    Raises:
        TracingUnavailable: spans cannot be sent as the environment says.
    """
    if not parts.settings.tracing:
        return
    tracing = begin_tracing()
    context.install(replace(parts, tracing=tracing), app.extensions)
    parts.registry.trace([urlsplit(url).scheme for url in parts.settings.store_urls])
    app.wsgi_app = Traced(app.wsgi_app, tracing)  # type: ignore[method-assign]  # as Flask documents


def _add_logins(app: Flask, authority: Authority, settings: Settings) -> None:
    """Let people log in by issuers, with a library that others do not import."""
    from dualreg.issuers import external_logins  # noqa: PLC0415 -- takes a tenth of a second
    from dualreg.web import login  # noqa: PLC0415 -- likewise

    if authority.logins:
        login.install(app, external_logins(settings, authority, authority.logins))


def _account_parts(registry: Registry, authority: Authority, settings: Settings) -> dict[str, Any]:
    """Return the parts of registries that have accounts; others have none of them."""
    if authority.logins is None:
        return {}
    uses = KeyUses(catalog_of(registry), registry.rules.write_delay)
    own = SelfService(accounts_of(registry), authority.logins)
    directory = authority.logins.directory
    groups = frozenset(rule.group for rule in parse_workload_rules(settings.oidc_rules))
    delegation = Delegation(
        accounts_of(registry),
        authority.rules,
        lambda account: directory.find(account) is not None,
        groups,
        str(settings.permissions or ""),
    )
    return {"key_uses": uses, "self_service": own, "delegation": delegation}


def rates_of(settings: Settings) -> Rates:
    """Return what counts the requests of clients, as *settings* say."""
    return Rates(*parse_rate(settings.request_limit))


def _follow_up(app: Flask) -> None:
    """Register what is done with each response. Flask calls the last one first."""
    app.after_request(_add_headers)
    app.after_request(v1.record_client)
    app.after_request(record_facts)
    app.after_request(partial(audit.record, audit.Denials()))
    cors.install(app)
    app.after_request(_hold_slot)  # may replace the response, which the others have to see


def _register_views(app: Flask, parts: context.Parts) -> None:
    """Register both dialects, what is above them, and what answers if no view does."""
    app.register_blueprint(v1.create_blueprint())
    app.register_blueprint(v2.create_blueprint())
    app.register_blueprint(accel.create_blueprint())
    if parts.authority.issues:
        app.register_blueprint(token.create_blueprint())
        app.register_blueprint(api.create_blueprint())
    if parts.settings.ui != "off":
        app.register_blueprint(ui.create_blueprint())
    if parts.settings.login_issuers:
        _add_logins(app, parts.authority, parts.settings)
    app.add_url_rule("/", view_func=_index)
    for path, view in v1.ROOT_VIEWS.items():
        app.add_url_rule(path, view_func=view)
    app.register_error_handler(RegistryError, _render)
    app.register_error_handler(BlobMissing, _lost)
    app.register_error_handler(BlobDamaged, _lost)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, partial(_internal_error, LimitedLog(_log.warning)))


def _note_route(endpoint: str | None, values: object) -> None:
    """Let the server count the request by its route."""
    del endpoint, values
    asked = current_request()
    if asked.url_rule:
        asked.environ[ROUTE] = asked.url_rule.rule


def _index() -> Response:
    """Return one line of text; lead browsers, which alone ask for HTML, to the web UI."""
    if context.settings().ui != "off" and "text/html" in request.accept_mimetypes.values():
        return redirect(f"{address.own_path()}/ui/")
    text = f"dualreg {__version__}: a container registry for Docker V1, Docker V2 and OCI clients.\n"
    return Response(text, content_type="text/plain")


def _http_error(error: HTTPException) -> Response:
    """Render an HTTP error in the dialect of the path; routing errors never reach the blueprints."""
    allow = dict(error.get_headers()).get("Allow")
    headers = {"Allow": allow} if allow else {}
    return _render_status(error.code or 500, error.name, headers)


def _internal_error(log: LimitedLog, error: Exception) -> Response:
    """Log an unexpected exception, and return an error without details.

    If the disk, the database or the audit log is down, that is a line in the log, and a 503.
    """
    what = f"{request.method} {safe_line(request.path)} failed"
    if outage := outage_of(error):
        log.line(outage.message, f"{what}: {safe_line(outage.reason)}")
        headers = {"Retry-After": str(outage.retry_after)}
        return _render_status(503, f"service unavailable: {outage.message}", headers)
    _log.error(what, exc_info=error)
    return _render_status(500, "internal server error", {})


def _render(error: RegistryError) -> Response:
    """Return the response to an error in the dialect of the request's path."""
    return v1.render(error) if _is_v1() else v2.render(error)


def _lost(error: BlobMissing | BlobDamaged) -> Response:
    """Return that something is unknown whose bytes are lost: the next push sends it."""
    _log.error("%s %s failed: lost or damaged: %s", request.method, safe_line(request.path), error)
    values = request.view_args or {}
    if _is_v1():
        return _render(ImageUnknown(id=str(values.get("image", ""))))
    if "reference" in values:
        return _render(ManifestUnknown(reference=str(values["reference"]), reason=LOST))
    return _render(BlobUnknown(digest=str(error).partition(": ")[0]))


def _render_status(status: int, message: str, headers: Mapping[str, str]) -> Response:
    """Return an error response in the dialect of the request's path."""
    render = v1.render_status if _is_v1() else v2.render_status
    return render(status, message, headers)


def _is_v1() -> bool:
    return request.path.split("/")[1] == "v1"


def refusal(app: Flask, head: bytes, status: int, message: str, headers: Mapping[str, str]) -> Response:
    """Return the response to a request that the server refuses itself, in the dialect of its path.

    Args:
        head: The beginning of the request, as it arrived. If it names no path of a dialect, the response is a
            line of text.
    """
    match = _DIALECT.match(head)
    with app.app_context():
        if match is None:
            response = Response(f"{message}\n", status, headers, content_type="text/plain; charset=utf-8")
        elif match[1] == b"v1":
            response = v1.render_status(status, message, {**v1.API_HEADERS, **headers})
        else:
            response = _add_api_version(v2.render_status(status, message, headers))
        return _forbid_rendering(response)


def _hold_slot(response: Response) -> Response:
    """Let a response that may take long to send take a slot; refuse the request if there is none."""
    try:
        context.slots().hold_for(response, client_address)
    except ServerBusy as error:
        return _render(error)
    return response


def _forbid_rendering(response: Response) -> Response:
    """Let no browser show what somebody pushed as a page of this origin, or guess that it is one."""
    headers = response.headers
    names = {name.lower() for name, _ in headers}  # to find one missing takes longer, by an exception
    if "x-content-type-options" not in names:
        headers.add("X-Content-Type-Options", "nosniff")
    if "content-security-policy" not in names:
        headers.add("Content-Security-Policy", "default-src 'none'; sandbox")
    return response


def _add_headers(response: Response) -> Response:
    """Add what every response has, and to those below /v2, errors included, what says that they are of V2."""
    _forbid_rendering(response)
    if current_request().path.split("/", 2)[1] == "v2" and not v2.is_hidden_from(current_agent()):
        _add_api_version(response)
    return response


def _add_api_version(response: Response) -> Response:
    """Add the API version and the setting ``notice``.

    Docker chooses V2 or V1 by the first header; clients show the second one to their users.
    """
    response.headers.add("Docker-Distribution-Api-Version", "registry/2.0")
    if notice := context.settings().notice:
        add_warnings(response, [notice])
    return response
