"""Sources: other registries' ways of keeping what they have, one file each."""
