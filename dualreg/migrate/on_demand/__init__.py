"""On-demand import: a tree behind a running registry, whose images are imported when clients ask for them.

``upstream`` answers the services of the registry: what the tree has, and what was deleted since. It asks
``lookup``, which reads the tree and caches, and ``loader``, which imports one image at a time. ``trees`` has
the kinds of trees.
"""
