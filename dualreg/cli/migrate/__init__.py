"""``dualreg migrate``: another registry's content becomes this registry's."""
