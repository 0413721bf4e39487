"""``dualreg db``: the catalog as a whole."""
