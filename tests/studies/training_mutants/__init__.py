"""The study of training mutants: faults that are put into training steps, and their causes."""
