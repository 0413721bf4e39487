"""``dualreg migrate``: import the content of another registry."""
