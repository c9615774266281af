"""Models as of a user: a small healthy pair, and models that are broken on purpose."""
