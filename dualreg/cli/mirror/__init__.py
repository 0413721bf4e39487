"""``dualreg mirror``: rules by which images are copied from and to other registries."""
