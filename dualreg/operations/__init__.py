"""Operations: what operators do, by commands and over HTTP, defined once.

Each group is a class whose methods are called the same way on the registry of this machine and on a server.
``table.py`` says at which path each is served, and what it requires. From the signatures and docstrings of
the methods come the routes (``web/api/operations.py``), their description (``openapi.py``, ``page.py``), and
what commands call on a server (``remote.py``).
"""
