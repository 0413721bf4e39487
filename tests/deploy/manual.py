"""The commands that documents give: their blocks marked ``sh``, which tests run as they are."""

import re
from pathlib import Path

_DOCUMENTS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(document: str, heading: str) -> str:
    """Return the commands below *heading* of a document, up to the next heading.

    Raises:
        LookupError: there is no such heading, or no command below it.
    """
    for section in re.split(r"^#+ ", (_DOCUMENTS / document).read_text(), flags=re.MULTILINE):
        if section.startswith(f"{heading}\n") and (found := _BLOCK.findall(section)):
            return "".join(found)
    raise LookupError(f"{document} has no commands for {heading}")
