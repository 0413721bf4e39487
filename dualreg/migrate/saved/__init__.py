"""Images that ``docker save`` wrote moving in: by their configs, with layers made gzip."""
