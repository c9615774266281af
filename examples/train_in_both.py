"""Train one network in Keras and in PyTorch on the same batches, and compare single steps."""

import tempfile

import parity

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        result = parity.train(
            "resnet18",
            data="digits",
            image_size=32,
            epochs=1,
            batch=32,
            optimizer="sgd",
            learning_rate=0.05,
            verify=True,
            every=20,
            out=f"{folder}/run",
        )
        for each in result.frameworks:
            last = each.epochs[-1]
            print(f"{each.framework}: loss {last.validation_loss:.3f}")
        print(f"{len(result.verified_steps)} steps compared")
        assert result.verified_steps
        assert result.agrees
