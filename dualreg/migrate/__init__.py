"""Moving in and out: what another registry keeps becomes ours, and ours another's, without a daemon.

A source is never changed. What is known of it goes from one to the next:

    sources/     read: a file for each sort, which holds V1 images, or manifests, or what was saved;
                 ``asking`` says how much is asked of live ones
    survey       what a source has, and ``findings``: what is wrong with it
    choice       which of that is wanted, by ``names`` and ``dates``, and under which names
    plan         a line for every tag, with what is to be done, and why
    run          does it, tag by tag, by an ``intake``; ``transfer`` brings the bytes, ``journal`` (of
                 ``lines``) has every step, ``amount`` says how much is left
    verify       source and ours, compared without the journal; ``over_http`` asks as clients do
    report       what a run did
    rollback     takes it out again

    v1/ v2/ saved/   the survey, intake and comparison of each sort; ``sorts`` says what goes with what
    live         a source behind the running registry: ``offers`` looks, ``on_request`` takes in
    export       our tags, in the order of their ``closure``, to ``targets/``
    wire/        HTTP to other registries
"""
