"""The groups that a command's help sorts its options into, in their order."""

from __future__ import annotations

WHAT = "What"
WHERE = "Where it runs"
JUDGED = "How it is judged"
EXPORT = "How it is exported"
TRAINING = "How it trains"
OUTPUTS = "Outputs"

ORDER = (WHAT, WHERE, JUDGED, EXPORT, TRAINING, OUTPUTS)
