"""All checks that need a card, in one command: `python -m tests.studies.gpu`."""
