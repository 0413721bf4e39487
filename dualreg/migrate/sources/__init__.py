"""The sources: one file for each way in which images are stored elsewhere."""
