"""Run first by commands that tests start, so that their databases are those of ``tests.directories``."""

import sys
from pathlib import Path

if any("dualreg" in word for word in sys.orig_argv):
    sys.path.append(str(Path(__file__).parents[2]))
    from tests import directories

    directories.install()
