"""ResNeXt for PyTorch as it is often published: every block projects its shortcut."""
