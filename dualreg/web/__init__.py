"""Web: the HTTP APIs as Flask blueprints, ``v1`` and ``v2``, and what both share.

A handler parses the request, calls a service, and renders the result. Only this package uses Flask.
"""
