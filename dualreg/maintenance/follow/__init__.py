"""Following: a catalog that is kept the same as a copied tree of link files, whatever has arrived of it.

``follower`` looks what has changed, ``said`` reads what a repository's files say, ``contents`` finds what of
that is there with all that it needs (``presence``), ``plan`` decides what becomes of the rows, and
``repository`` changes them.
"""
