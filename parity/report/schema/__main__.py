"""Write the schema files: ``python -m parity.report.schema``."""

from parity.report import training
from parity.report.schema import FILE, generate_schema

FILE.write_text(generate_schema(), encoding="utf-8")
training.write_schema()
