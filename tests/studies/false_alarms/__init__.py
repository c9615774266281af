"""Correct models on many seeds and inputs, none of which may be called different."""
