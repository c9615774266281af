"""Models of somebody's own: a small healthy pair, and models that are broken on purpose."""
