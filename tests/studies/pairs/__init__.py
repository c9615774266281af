"""How often the layers of two public models are paired right, without a table."""
