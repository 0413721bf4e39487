"""Relations: the SQL database of repositories, tags, blobs and accounts. The home of SQLAlchemy."""
