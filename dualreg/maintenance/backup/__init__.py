"""Backups: copies of a registry in use, from which it can be restored.

folder    what a backup consists of, and which state of it is complete
blobs     copies the blobs that a catalog lists from one store to another
backup    makes or updates a backup
restore   makes a registry of one
"""
