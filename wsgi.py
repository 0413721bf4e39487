"""The WSGI application for any gunicorn.

``gunicorn --worker-class dualreg.cli.worker.Worker --threads 16 --timeout 0 wsgi:app``.
"""

import atexit
import os

from dualreg.settings import Settings
from dualreg.web.app import create_app
from dualreg.web.context import close

app = create_app(Settings.from_env(os.environ))
atexit.register(close, app)
