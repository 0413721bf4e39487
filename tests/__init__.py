"""The tests: the registry's first users."""
