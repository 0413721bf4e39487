"""Sheets: pictures of pages beside each other, so that few files have to be looked at."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from playwright.sync_api import Browser

#: Pixels of a sheet: as wide as most viewers show without making text smaller.
_WIDTH, _HEIGHT, _GAP = 1600, 1130, 8
#: How many pictures are beside each other, by the width of their windows; text stays readable.
_COLUMNS: Mapping[int, int] = {390: 4, 800: 3, 1280: 2}
#: Bytes of a PNG before its height, and of that. Source: PNG specification, 11.2.2 IHDR.
_BEFORE_HEIGHT, _NUMBER = 20, 4
_STYLE = f"""
body {{ margin: 0; display: flex; gap: {_GAP}px; background: #888; font: 14px sans-serif; width: {_WIDTH}px }}
figure {{ margin: 0; flex: none; overflow: hidden; height: {_HEIGHT}px; background: #fff }}
figcaption {{ height: 24px; overflow: hidden; white-space: nowrap }}
img {{ display: block; width: 100% }}
div {{ overflow: hidden; height: {_HEIGHT - 24}px }}
"""


def write_sheets(browser: Browser, folder: Path, look: tuple[int, str], names: Sequence[str]) -> None:
    """Put pictures that are in *folder* on sheets in its folder ``sheets``; long ones are continued.

    Args:
        look: The width of the windows, and the color scheme.
        names: The pictures, without ``.png``.
    """
    width, scheme = look
    sheets, columns = folder / "sheets", _COLUMNS[width]
    sheets.mkdir(exist_ok=True)
    shown = (_WIDTH - _GAP * (columns - 1)) // columns
    tiles = [tile for name in names for tile in _tiles(folder, name, width, shown)]
    # A file, as pages from elsewhere may not load files.
    source = sheets / "sheet.html"
    with closing(browser.new_context(viewport={"width": _WIDTH, "height": _HEIGHT})) as context:
        page = context.new_page()
        for number, begin in enumerate(range(0, len(tiles), columns), 1):
            some = tiles[begin : begin + columns]
            source.write_text(f"<!DOCTYPE html><style>{_STYLE}</style>{''.join(some)}")
            page.goto(source.as_uri())
            page.screenshot(path=sheets / f"{width}-{scheme}-{number:02}.png")
    source.unlink()


def _tiles(folder: Path, name: str, width: int, shown: int) -> Iterator[str]:
    """Yield the parts of a picture, from the top, each as high as a sheet."""
    scale = shown / width
    part = (_HEIGHT - 24) / scale
    with (folder / f"{name}.png").open("rb") as file:
        file.seek(_BEFORE_HEIGHT)
        height = int.from_bytes(file.read(_NUMBER), "big")
    for number in range(max(1, -int(-height // part))):
        move = round(number * part * scale)
        yield (
            f'<figure style="width: {shown}px"><figcaption>{name} ({number + 1})</figcaption>'
            f'<div><img src="../{name}.png" style="margin-top: -{move}px"></div></figure>'
        )
