"""Maintenance: housekeeping while the registry serves; each task plans, shows its plan, and applies it."""
