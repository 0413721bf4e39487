"""Care: what looks after a registry while it serves; plan, show, apply."""
