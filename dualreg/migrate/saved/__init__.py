"""Images that ``docker save`` wrote: identified by their configs, imported with gzip layers."""
