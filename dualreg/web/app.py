"""The Flask application: both dialects' blueprints, and what answers when no handler does."""

import logging
from collections.abc import Mapping
from http import HTTPStatus

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import PathConverter

from dualreg import __version__
from dualreg.assembly import build_authority, open_registry, prepare
from dualreg.auth.audit import Audit
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.web import audit, context, cors, token, v1, v2
from dualreg.web.body import discard_rest

_log = logging.getLogger(__name__)


class _AnyPath(PathConverter):
    """Takes any text for a name, so that a bad one is our own error and not an unknown route."""

    regex = r"(?s:.+?)"
    part_isolating = False


def create_app(settings: Settings, registry: Registry | None = None) -> Flask:
    """Return the WSGI application.

    Args:
        registry: One that is ready; without, the one that *settings* describe is prepared and opened.

    Raises:
        CatalogUnreachable, ValueError: as ``assembly.prepare`` and ``assembly.build_authority``.
    """
    if registry is None:
        prepare(settings)
        registry = open_registry(settings)
    catalog = registry.state.catalog
    parts = context.Parts(
        registry, build_authority(settings, catalog), Audit(settings.audit_target), settings
    )
    app = Flask("dualreg", static_folder=None)
    # A redirect to a tidier path would lose the body of an old Go client's PUT, and hide a bad name from our
    # parser.
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False
    app.url_map.converters["path"] = _AnyPath
    context.install(parts, app.extensions)
    app.url_value_preprocessor(v1.refuse_closed)
    app.register_blueprint(v1.create_blueprint())
    app.register_blueprint(v2.create_blueprint())
    if parts.authority.issues:
        app.register_blueprint(token.create_blueprint())
    app.add_url_rule("/", view_func=_welcome)
    for path, view in v1.ROOT_VIEWS.items():
        app.add_url_rule(path, view_func=view)
    app.register_error_handler(HTTPException, _unrouted)
    app.register_error_handler(Exception, _failed)
    app.after_request(_stamp)
    app.after_request(v1.note_visit)
    app.after_request(_hear_out)
    app.after_request(audit.record)
    cors.install(app)
    return app


def _welcome() -> Response:
    """Tell a person with a browser what this is."""
    text = f"dualreg {__version__}: a container registry for Docker V1, Docker V2 and OCI clients.\n"
    return Response(text, content_type="text/plain")


def _unrouted(error: HTTPException) -> Response:
    """Answer what no route took, in the dialect of its path; routing errors never reach the blueprints."""
    allow = dict(error.get_headers()).get("Allow")
    headers = {"Allow": allow} if allow else {}
    return _render_status(error.code or 500, error.name, headers)


def _failed(error: Exception) -> Response:
    """Answer for a fault of ours: the log has the details, the client has none."""
    _log.error("%s %s failed", request.method, request.path, exc_info=error)
    return _render_status(500, "internal server error", {})


def _render_status(status: int, message: str, headers: Mapping[str, str]) -> Response:
    """Answer in the dialect of the request's path."""
    render = v1.render_status if request.path.split("/")[1] == "v1" else v2.render_status
    return render(status, message, headers)


def _hear_out(response: Response) -> Response:
    """Let the client finish its sentence before telling it that the answer is no."""
    if response.status_code >= HTTPStatus.BAD_REQUEST and request.method in ("POST", "PUT", "PATCH"):
        discard_rest()
    return response


def _stamp(response: Response) -> Response:
    """Name the V2 API on every answer below /v2, errors included, and pass on the operator's notice.

    Docker chooses V2 or V1 by the first header; clients show the second to their users.
    """
    if request.path.split("/")[1] == "v2" and not v2.hidden_from(request.user_agent.string):
        response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
        if notice := context.settings().notice:
            text = notice.replace("\\", "\\\\").replace('"', '\\"')
            response.headers["Warning"] = f'299 - "{text}"'
    return response
