"""What a comparison found (``model``), and one module for each form it is shown in."""
