"""Times and memory against the frameworks' own, side by side on one machine in one run."""
