"""Arithmetic on arrays and files of arrays, with NumPy alone."""
