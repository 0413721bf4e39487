"""Who may: identities, permissions and tokens, the same for both dialects.

Nothing here knows HTTP, Flask or what a registry does; the edge asks ``Authority`` for a ``Grant``.
"""
