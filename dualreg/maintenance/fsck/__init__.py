"""Check of the store and the catalog against each other: what is damaged, whom it hurts, and its repair.

    findings   kinds of damage, and whom it hurts
    check      the check: files, links, documents, contents
    links      link files and their rows
    documents  manifests in the store
    repair     what is done about each kind

Nothing is kept in memory but a page of rows. Content that is pushed or deleted meanwhile is no finding: what
looks damaged is looked at again under the lock under which it changes.
"""
