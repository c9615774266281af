"""One folder an architecture family, each with `spec`, `keras` and `torch`; found by `spec`.

`spec` holds `ARCHITECTURES`, a tuple of `ModelSpec`, and imports no framework. `keras` and `torch`
each hold `build(spec)`, the twins; neither imports the other, or the layer table.
"""
