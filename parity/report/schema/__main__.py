"""Write the schema file: ``python -m parity.report.schema``."""

from parity.report.schema import FILE, generate_schema

FILE.write_text(generate_schema(), encoding="utf-8")
