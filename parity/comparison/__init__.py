"""One comparison: what was asked, where it runs, what is known, and how it is judged."""
