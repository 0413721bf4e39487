"""Relations: which repository holds what, which tag points where. SQLAlchemy lives here and nowhere else."""
