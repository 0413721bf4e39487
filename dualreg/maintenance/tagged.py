"""The tags of all repositories, some at a time, for work on many of them."""

from collections.abc import Callable, Iterator

from dualreg.catalog.rows import PlacedTag
from dualreg.registry import Registry

#: Tags read at a time.
_PAGE = 1000
#: Whether a tag, given its repository and its name, is wanted.
Selects = Callable[[str, str], bool]


def tag_pages(
    registry: Registry, selects: Selects, advance: Callable[[int, int], None] = lambda *_: None
) -> Iterator[list[PlacedTag]]:
    """Yield the selected tags by repository and name, whatever `bridge` shows, in lists of up to a page.

    Args:
        advance: Called with the number of tags that were looked at since, after the caller had them, and 0.
    """
    after, more = ("", ""), True
    while more:
        page = registry.tags.every(after=after, limit=_PAGE)
        yield [each for each in page.rows if selects(each.repository, each.row.name)]
        advance(len(page.rows), 0)
        more = page.more
        after = (page.end.repository, page.end.row.name) if more else after
