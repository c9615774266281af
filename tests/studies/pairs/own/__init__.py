"""Small networks written by hand in Keras and in PyTorch, the truth of whose pairs is known.

A layer of both sides has one name: the Keras layer's, and the PyTorch module's path. The names are
removed before the alignment; they are the truth that it is counted against.
"""
