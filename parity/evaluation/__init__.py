"""Evaluation of a model on labelled images, in every runtime: figures, and labels that change."""
