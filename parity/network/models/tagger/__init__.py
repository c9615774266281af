"""Sequence taggers: an embedding, two recurrent layers, a label for each token."""
