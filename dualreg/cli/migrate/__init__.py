"""``dualreg migrate``: another registry's content becomes this one's."""
