"""Find a fault: the layer, the cause with its proof, and the remedy."""

from pathlib import Path

import parity

NET = f"{Path(__file__).parent}/nets.py:build"

if __name__ == "__main__":
    report = parity.compare(NET, f"{NET},slope=0.2", shapes={"x": (2, 3, 32, 32)}, export=False)
    print(report)
    for cause in report.causes:
        print(f"{cause.layer}: {cause.cause}; remedy: {cause.remedy}")
    assert report.causes[0].cause == "leaky-relu-slope"
