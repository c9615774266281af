"""Vision transformers: patches, a class token, pre-norm attention blocks."""
