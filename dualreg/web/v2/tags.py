"""``/v2/<name>/tags/list``.  Source: OCI distribution-spec v1.1, "Listing Tags"."""

from flask import Blueprint, Response, request

from dualreg.auth.access import Action
from dualreg.image.names import RepositoryName
from dualreg.registry.pages import TAGS_LIMIT
from dualreg.web.context import registry
from dualreg.web.guard import requires
from dualreg.web.paging import next_link, page_size
from dualreg.web.repeatable import repeat_document
from dualreg.web.responses import add_stale, json_response


def register(blueprint: Blueprint) -> None:
    """Add the route."""
    blueprint.get("/<path:name>/tags/list")(list_tags)


@requires(Action.PULL)
def list_tags(name: RepositoryName) -> Response:
    """List the repository's tags in byte order: all of them without ``n``, unless there are very many."""
    size = page_size(default=None)
    limit = TAGS_LIMIT if size is None else size
    page = registry().tags.list(name, last=request.args.get("last", ""), limit=limit)
    number = {} if size is None else {"n": size}
    headers = next_link({"last": page.end, **number}) if page.more else {}
    response = json_response({"name": name, "tags": page.rows}, headers=headers)
    add_stale(response, registry().staleness(name))
    return response if registry().tags.asks_upstream(name) else repeat_document(response)
