"""A copy of the content of one store to another one, while the registry serves."""
