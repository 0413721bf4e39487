"""Logs: what the server and its background processes write, for people as text, for programs as JSON.

This package is the home of structlog. Other parts log by Python's ``logging``, as libraries do, and their
messages become lines here. The request that a thread handles is bound to its messages.
"""
