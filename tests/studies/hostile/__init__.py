"""Bad inputs of every kind, kills at random moments, and many runs one after the other."""
