"""The client of remote registries."""
