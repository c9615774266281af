"""`python -m tests.studies.hostile.samples FRAMEWORK FOLDER`: files that a framework must write.

Good ones, from which damaged ones are made, and some that a framework writes willingly although
nobody should read them.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path


def write_torch(folder: Path) -> None:
    import onnx
    import torch
    from onnx import TensorProto, helper

    from tests.studies.hostile.inputs import TORCH_NET

    warnings.simplefilter("ignore")
    state = {"body.weight": torch.ones(3, 4), "body.bias": torch.zeros(3)}
    torch.save(state, folder / "zip.good")
    torch.save(state, folder / "legacy.good", _use_new_zipfile_serialization=False)
    bias = torch.zeros(3)
    unusual = {
        "sparse": torch.eye(3).to_sparse(),
        "csr": torch.eye(3).to_sparse_csr(),
        "quantised": torch.quantize_per_tensor(bias, 0.1, 0, torch.qint8),
        "complex64": bias.to(torch.complex64),
        "complex32": bias.to(torch.complex32),
        "float8": bias.to(torch.float8_e4m3fn),
        "meta": bias.to("meta"),
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "bfloat16": bias.bfloat16(),
        "float16": bias.half(),
        "float64": bias.double(),
        "int64": bias.long(),
        "bool": bias.bool(),
        "expanded": torch.zeros(1).expand(2**31),
        "parameter": torch.nn.Parameter(bias),
        "nan": bias / 0,
        "text": "x",
        "none": None,
        "number": 1.5,
    }
    for name, tensor in unusual.items():
        torch.save({**state, "body.bias": tensor}, folder / f"{name}.pth")
    torch.save({"\x1b[2J\n::error::x" * 5000: bias}, folder / "names.pth")
    torch.save({1: bias}, folder / "keys.pth")
    torch.save([bias], folder / "list.pth")
    torch.save({"state_dict": state, "model": state}, folder / "ambiguous.pth")
    scope: dict = {}
    exec(TORCH_NET, scope)
    torch.save(scope["torch"].nn.Linear(4, 3), folder / "module.pth")
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()).eval()
    torch.jit.trace(net, torch.ones(2, 4)).save(str(folder / "net.model.pt"))
    torch.export.save(torch.export.export(net, (torch.ones(2, 4),)), folder / "net.model.pt2")
    for name in ("net.model.pt", "net.model.pt2"):
        # The same files, which nobody has said to trust.
        evil = name.replace(".model.", ".evil.")
        (folder / evil).write_bytes((folder / name).read_bytes())
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc", transB=1),
            helper.make_node("Relu", ["y"], ["z"], name="relu"),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [None, 3])],
        [
            helper.make_tensor("w", TensorProto.FLOAT, [3, 4], [0.5] * 12),
            helper.make_tensor("b", TensorProto.FLOAT, [3], [0.1] * 3),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "net.model.onnx")
    for name, location in {"outside": "../../etc/passwd", "absolute": "/etc/passwd"}.items():
        evil_model = onnx.ModelProto()
        evil_model.CopyFrom(model)
        tensor = evil_model.graph.initializer[0]
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        (folder / f"{name}.evil.onnx").write_bytes(evil_model.SerializeToString())
    evil_model = onnx.ModelProto()
    evil_model.CopyFrom(model)
    evil_model.graph.initializer[0].dims[0] = 2**40
    (folder / "claims.evil.onnx").write_bytes(evil_model.SerializeToString())
    evil_model.CopyFrom(model)
    evil_model.graph.node[0].name = "\x1b[2J\n::error::x" * 5000
    evil_model.graph.node[0].op_type = "\x1b[31mNo"
    (folder / "names.evil.onnx").write_bytes(evil_model.SerializeToString())
    evil_model.CopyFrom(model)
    evil_model.graph.node[0].input[0] = "z"
    (folder / "circle.evil.onnx").write_bytes(evil_model.SerializeToString())


def write_keras(folder: Path) -> None:
    import h5py
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="fc")])
    model.save_weights(folder / "small.weights.h5")
    (folder / "small.weights.h5").rename(folder / "small.h5")
    model.save(folder / "net.model.keras")

    def change(name: str) -> h5py.File:
        path = folder / name
        path.write_bytes((folder / "small.h5").read_bytes())
        return h5py.File(path, "r+")

    def variables(file: h5py.File) -> h5py.Group:
        return next(group["vars"] for group in file["layers"].values() if len(group["vars"]))

    with change("twice.weights.h5") as file:
        file.copy(next(iter(file["layers"].values())), file["layers"], "zzz")
    with change("unwritten.weights.h5") as file:
        del variables(file)["0"]
        variables(file).create_dataset("0", (2**38,), "f4")
    with change("inflates.weights.h5") as file:
        del variables(file)["0"]
        variables(file).create_dataset(
            "0", data=[0.0] * 2**22, chunks=(2**20,), compression="gzip", dtype="f4"
        )
    with change("texts.weights.h5") as file:
        del variables(file)["0"]
        variables(file)["0"] = ["a"]
    with change("external.weights.h5") as file:
        del variables(file)["0"]
        variables(file)["0"] = h5py.ExternalLink("/etc/passwd", "x")
    with change("soft.weights.h5") as file:
        del variables(file)["0"]
        variables(file)["0"] = h5py.SoftLink("/layers")
    with change("raw.weights.h5") as file:
        del variables(file)["0"]
        variables(file).create_dataset("0", (4,), "u1", external=[("/etc/passwd", 0, 4)])
    with change("circle.weights.h5") as file:
        file["layers"]["circle"] = file["layers"]
    with change("names.weights.h5") as file:
        file["layers"].create_group("\x1b[2J\n::error::x" * 500)
    with change("attribute.weights.h5") as file:
        variables(file).attrs["name"] = 3
    function = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x * 2)])
    function.save(folder / "lambda.evil.keras")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("framework", choices=["torch", "keras"])
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    {"torch": write_torch, "keras": write_keras}[arguments.framework](arguments.folder)


if __name__ == "__main__":
    main()
