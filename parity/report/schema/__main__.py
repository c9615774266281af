"""Write the schema file anew: ``python -m parity.report.schema``."""

from parity.report.schema import FILE, text

FILE.write_text(text(), encoding="utf-8")
