"""Faults put into working models one at a time, and how often the tool says what they are."""
