"""On demand: a tree behind a running registry, which gives up an image when it is first asked for."""
