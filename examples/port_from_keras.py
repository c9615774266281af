"""Port a model from Keras: its weights in a PyTorch module, and the proof of both being equal."""

import tempfile
from pathlib import Path

import parity

HERE = Path(__file__).parent
KERAS, TORCH = f"{HERE}/keras_nets.py:build", f"{HERE}/nets.py:build"

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "ported.pth"
        # The layers are paired without names; every weight gets the axis order of the other side.
        conversion = parity.convert(KERAS, None, checkpoint, into=TORCH)
        print(f"{conversion.tensors} tensors, {conversion.parameters} parameters converted")
        report = parity.compare(KERAS, f"{TORCH},weights={checkpoint}", export=False)
    print(report)
    assert report
