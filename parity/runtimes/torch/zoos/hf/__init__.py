"""The zoo `hf:`, the models of transformers."""
