"""The images that networks are trained on, as the same arrays for every framework."""
