"""Reports about images: what bills of materials and the reports of scanners say of themselves.

They are written by clients and shown, never computed or judged here. Whatever is not as expected is left out.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple

from dualreg.image.documents import parse_object

_TEXT_LIMIT = 200
#: Tools that are named at most.
_TOOLS_LIMIT = 5
Document = Mapping[str, Any]


class Report(NamedTuple):
    """What a report says of itself.

    Attributes:
        tool: What wrote it, as it says; empty: it does not say.
        contents: How much is in it, in words: ``12 packages``; empty: unknown.
    """

    tool: str = ""
    contents: str = ""


def read_report(payload: bytes) -> Report:
    """Return what a report says of itself; nothing, if it is in no format that is known."""
    try:
        return report_of(parse_object(payload))
    except ValueError:
        return Report()


def report_of(document: Document) -> Report:
    """Return the same of a JSON object."""
    found = next((read(document) for members, read in _FORMATS if members <= document.keys()), Report())
    return Report(found.tool[:_TEXT_LIMIT], found.contents)


def _spdx(document: Document) -> Report:
    creators = _texts(_dict(document.get("creationInfo")).get("creators"))
    tools = (each.removeprefix("Tool:").strip() for each in creators if each.startswith("Tool:"))
    return Report(_tools(tools), _counted(_list(document.get("packages")), "package"))


def _cyclonedx(document: Document) -> Report:
    given = _dict(document.get("metadata")).get("tools")
    tools = _list(given) or _list(_dict(given).get("components"))
    return Report(_tools(map(_name, tools)), _counted(_list(document.get("components")), "component"))


def _syft(document: Document) -> Report:
    return Report(_name(document.get("descriptor")), _counted(_list(document.get("artifacts")), "package"))


def _sarif(document: Document) -> Report:
    runs = [_dict(run) for run in _list(document.get("runs"))]
    tools = (_name(_dict(run.get("tool")).get("driver")) for run in runs)
    results = [one for run in runs for one in _list(run.get("results"))]
    return Report(_tools(tools), _counted(results, "result"))


def _trivy(document: Document) -> Report:
    results = map(_dict, _list(document.get("Results")))
    found = [one for each in results for one in _list(each.get("Vulnerabilities"))]
    return Report("trivy", _vulnerabilities(found))


def _grype(document: Document) -> Report:
    return Report(_name(document.get("descriptor")), _vulnerabilities(_list(document.get("matches"))))


def _harbor(document: Document) -> Report:
    return Report(_name(document.get("scanner")), _vulnerabilities(_list(document.get("vulnerabilities"))))


def _cosign_vulnerabilities(document: Document) -> Report:
    scanner = _dict(document.get("scanner"))
    return Report(_name(scanner, "uri"), report_of(_dict(scanner.get("result"))).contents)


def _provenance(document: Document) -> Report:
    details = _dict(_dict(document.get("runDetails")).get("builder")) or _dict(document.get("builder"))
    return Report(_text(details, "id"))


#: Formats by members that no other of them has; the order counts.
#: Source: SPDX 2.3 and CycloneDX 1.6, JSON schemas; SARIF 2.1.0; SLSA provenance 0.2 and 1.0; cosign,
#: specs/COSIGN_VULN_ATTESTATION_SPEC.md; the reports of trivy, grype, syft and Harbor's scanners.
_FORMATS = (
    ({"spdxVersion"}, _spdx),
    ({"bomFormat"}, _cyclonedx),
    ({"runs", "version"}, _sarif),
    ({"SchemaVersion", "Results"}, _trivy),
    ({"matches", "descriptor"}, _grype),
    ({"artifacts", "descriptor"}, _syft),
    ({"scanner", "vulnerabilities"}, _harbor),
    ({"scanner", "invocation"}, _cosign_vulnerabilities),
    ({"runDetails"}, _provenance),
    ({"builder", "buildType"}, _provenance),
)


def _vulnerabilities(found: list[Any]) -> str:
    return _counted(found, "vulnerability", "vulnerabilities")


def _counted(found: list[Any], noun: str, plural: str = "") -> str:
    return f"{len(found)} {noun if len(found) == 1 else plural or f'{noun}s'}"


def _tools(names: Iterable[str]) -> str:
    return ", ".join(islice(filter(None, names), _TOOLS_LIMIT))


def _name(tool: object, member: str = "name") -> str:
    """Return the name of a tool, which is in *member*, with its version."""
    document = _dict(tool)
    return f"{_text(document, member)} {_text(document, 'version')}".strip()


def _text(document: Document, name: str) -> str:
    found = document.get(name)
    return found[:_TEXT_LIMIT] if isinstance(found, str) else ""


def _texts(value: object) -> list[str]:
    return [each for each in _list(value) if isinstance(each, str)]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: object) -> Document:
    return value if isinstance(value, dict) else {}
