"""The zoo `keras:`, the models of keras.applications."""
