"""Moving in: what another registry keeps becomes ours, without a daemon in between.

A source is read (``sources``), looked through (``survey``), planned tag by tag (``plan``), taken in
(``run``), held against what it was (``verify``), told of (``report``) and, if need be, taken out again
(``rollback``). The source is never changed.
"""
