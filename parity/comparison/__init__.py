"""One comparison: its request, the placement of subjects, their runs, and the judgement."""
