"""Page: all requests as people read them in a browser, in HTML that needs neither scripts nor styles."""

from collections.abc import Iterator
from html import escape

from dualreg.operations.operation import PREFIX, Operation, Parameter
from dualreg.operations.own import OWN_REQUESTS, OwnRequest
from dualreg.operations.table import OPERATIONS
from dualreg.operations.values import Schemas, schema


def page(version: str) -> str:
    """Return the page of a *version* of dualreg."""
    return "\n".join(_lines(version)) + "\n"


def _lines(version: str) -> Iterator[str]:
    requests = (*OWN_REQUESTS, *OPERATIONS)
    title = f"dualreg {escape(version)}: API of administration"
    yield '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
    yield f"<title>{title}</title></head><body><h1>{title}</h1>"
    yield "<p>Send the password or an API key of an account as Basic credentials. Bodies are JSON objects,"
    yield "with <code>Content-Type: application/json</code>. Lists are pages: give <code>next</code> as"
    yield "<code>after</code> to get the next one. An administrator has the actions admin and manage on *."
    yield f'For programs: <a href="{PREFIX}/openapi.json">openapi.json</a>.</p>'
    yield '<table border="1" cellpadding="4"><tr><th>Request</th><th>What it does</th><th>Requires</th></tr>'
    for each in requests:
        yield _row(each)
    yield "</table>"
    for each in requests:
        yield from _section(each)
    yield "</body></html>"


def _request(operation: Operation | OwnRequest) -> str:
    return f"{operation.method} {PREFIX}{operation.path}"


def _row(operation: Operation | OwnRequest) -> str:
    link = f'<a href="#{operation.name}"><code>{_request(operation)}</code></a>'
    cells = link, escape(operation.summary), escape(operation.required_permission)
    return f"<tr>{''.join(f'<td>{each}</td>' for each in cells)}</tr>"


def _section(operation: Operation | OwnRequest) -> Iterator[str]:
    yield f'<h2 id="{operation.name}"><code>{_request(operation)}</code></h2>'
    yield f"<p>{escape(operation.summary)} {escape(operation.about)}</p>"
    command = f" Command: <code>dualreg {escape(operation.command)}</code>" if operation.command else ""
    yield f"<p>Requires: {escape(operation.required_permission)}.{command}</p>"
    if operation.parameters:
        yield f"<p>{_place(operation)}:</p><ul>"
        for each in operation.parameters.values():
            yield _item(each)
        yield "</ul>"


def _place(operation: Operation | OwnRequest) -> str:
    """Return where the parameters are."""
    in_path = any(f"{{{name}}}" in operation.path for name in operation.parameters)
    return "Path" if in_path else "Query" if operation.in_query else "Body"


def _item(parameter: Parameter) -> str:
    kind = _kind(schema(parameter.kind, Schemas()))
    needed = "required" if parameter.required else "optional"
    return f"<li><code>{parameter.name}</code> ({kind}, {needed}) {escape(parameter.about)}</li>"


def _kind(described: dict[str, object]) -> str:
    """Return the type of a JSON Schema in words."""
    kinds = described.get("type", "one of several")
    names = [str(each) for each in kinds if each != "null"] if isinstance(kinds, list) else [str(kinds)]
    return escape(" or ".join(names))
