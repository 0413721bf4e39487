"""The settings of ``gunicorn wsgi:app``: those of ``dualreg serve``, which options of gunicorn override."""

import os

from dualreg.cli.serve import gunicorn_settings
from dualreg.settings import Settings

globals().update(gunicorn_settings(Settings.from_env(os.environ)))
