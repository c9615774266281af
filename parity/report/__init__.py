"""The report of a comparison as data (``model``), and its formats."""
