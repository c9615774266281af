"""Check a deployed ONNX file against the model that it should be."""

import tempfile
from pathlib import Path

import parity

HERE = Path(__file__).parent

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        deployed = Path(folder) / "deployed.onnx"
        # Somebody exported the model once; the file is verified before it is there.
        parity.export(f"{HERE}/nets.py:build", deployed, shapes={"x": (2, 3, 32, 32)})
        report = parity.compare(f"{HERE}/nets.py:build", str(deployed), export=False)
        print(report)
        assert report
        # Since then the model was trained on: the file is an old one.
        report = parity.compare(f"{HERE}/nets.py:build,seed=1", str(deployed), export=False)
        print(report)
        assert not report
