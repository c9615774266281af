"""The explanation of differences: causes, each proved by applying it to the reference's layer."""
