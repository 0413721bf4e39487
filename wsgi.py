"""The WSGI application for any gunicorn: ``gunicorn wsgi:app``, with ``gunicorn.conf.py``."""

import atexit
import os

from dualreg.settings import Settings
from dualreg.web.app import create_app
from dualreg.web.context import close

app = create_app(Settings.from_env(os.environ))
atexit.register(close, app)
