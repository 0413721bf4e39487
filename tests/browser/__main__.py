"""``python -m tests.browser FOLDER``: take a picture of every page at three widths, light and dark.

Sheets, with several of them beside each other, are in FOLDER/sheets. With ``--readme``, take only those
that the README shows, which are in docs/images.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.chromium import Visit, chromium
from tests.browser.examination import HEIGHT, WIDTHS
from tests.browser.sheets import write_sheets
from tests.browser.world import BILLING, SHOP, World, served

#: Bytes that the layers of images are multiples of.
_UNIT = 100_000
#: What the README shows, by the name of the file.
_README = {
    "repositories": "/ui/repositories?search=o",
    "image": f"/ui/image?repository={SHOP}&reference=1.4.2",
    "faces": f"/ui/faces?repository={BILLING}&tag=2014.3",
    "farewell": "/ui/farewell",
}


def main() -> None:
    """Take pictures of pages."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="where to write them, as PNG; it is made if necessary")
    parser.add_argument(
        "--readme", action="store_true", help="only those of the README, of their first screen"
    )
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="dualreg-pages-") as folder,
        served(Path(folder), unit=_UNIT) as world,
        chromium() as browser,
    ):
        if options.readme:
            _take(browser, world, options.folder, _README, (1280, "light"), whole=False)
            return
        named = {_name(path): path for path in world.pages}
        for width in WIDTHS:
            for scheme in ("light", "dark"):
                files = {f"{name}-{width}-{scheme}": path for name, path in named.items()}
                _take(browser, world, options.folder, files, (width, scheme), whole=True)
                write_sheets(browser, options.folder, (width, scheme), [*files])


def _take(
    browser: Browser,
    world: World,
    folder: Path,
    files: Mapping[str, str],
    look: tuple[int, str],
    *,
    whole: bool,
) -> None:
    """Take pictures as an administrator.

    Args:
        files: The address of the page, by the name of the file.
        look: The width of the window, and the color scheme.
        whole: Whether to show what is below the window, too.
    """
    width, scheme = look
    size = {"width": width, "height": HEIGHT}
    with closing(browser.new_context(viewport=size, color_scheme=scheme)) as context:
        visit = Visit.begin(context, world.url)
        visit.log_in("root")
        for name, path in files.items():
            visit.open(path)
            visit.page.screenshot(path=folder / f"{name}.png", full_page=whole)
        for line in visit.complaints:
            sys.stderr.write(f"{line}\n")


def _name(path: str) -> str:
    """Return what the picture of a page is called."""
    return re.sub(r"[^a-z]+", "-", path.removeprefix("/ui/").lower()).strip("-") or "home"


if __name__ == "__main__":
    main()
