"""Everything that needs a card, in one command: `python -m tests.studies.gpu`."""
