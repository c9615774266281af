"""Training of a network in several frameworks: data, optimizers, schedules, callbacks, the loop."""
