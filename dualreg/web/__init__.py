"""Wire: the two dialects as Flask blueprints.

Handlers parse, call one service method, and render; Flask lives here only.
"""
