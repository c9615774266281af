"""The ResNet family's table against its published state dicts, and its twins against the table."""

from collections import Counter
from hashlib import sha256

import numpy as np
import pytest

from parity.network import architectures, kinds, layouts
from parity.network.models.resnet.spec import ARCHITECTURES
from parity.network.table import parse_torch_point

NAMES = sorted(architecture.name for architecture in ARCHITECTURES)

STATE_DICTS = {
    "resnet18": (122, "621ab29f1ec64cb2"),
    "resnet34": (218, "9d355f275ed1e918"),
    "resnet50": (320, "f597b4313ecfa833"),
    "resnet101": (626, "a5bd882403866198"),
    "resnet152": (932, "50ba98fa8d1a8386"),
    "resnext50_32x4d": (320, "9bd8e8aef4dc9080"),
    "resnext101_32x8d": (626, "a65c56fca42c0c10"),
    "resnext101_64x4d": (626, "3c810afe751378e5"),
    "wide_resnet50_2": (320, "15c87881cbb3217a"),
    "wide_resnet101_2": (626, "8c4d00dda7ed4c7c"),
}
"""How many keys torchvision 0.28's state dict has, and the hash of its `digest`."""


def digest(shapes):
    """The state dict's keys and shapes, in order, as one short hash."""
    lines = [f"{key} {'x'.join(map(str, shape))}\n" for key, shape in shapes]
    return len(lines), sha256("".join(lines).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", NAMES)
def test_the_table_has_exactly_the_weights_of_torchvision(name):
    shapes = []
    for _, weight in architectures.get(name).table().weights():
        shapes.append((weight.name, weight.shape))
        if weight.role == "variance":
            # A counter of training steps, which is no weight of the network.
            module = weight.name.removesuffix("running_var")
            shapes.append((f"{module}num_batches_tracked", ()))
    assert digest(shapes) == STATE_DICTS[name]
    assert digest(shapes[::-1]) != STATE_DICTS[name]


def test_weights_are_named_and_shaped_as_everyone_knows_them():
    shapes = {w.name: w.shape for _, w in architectures.get("resnext50_32x4d").table().weights()}
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["layer1.0.conv2.weight"] == (128, 4, 3, 3)
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["layer4.2.bn3.running_var"] == (2048,)
    assert shapes["fc.weight"] == (1000, 2048)


def test_rows_are_named_as_in_keras_applications_and_torchvision():
    table = architectures.get("resnet50").table()
    pairs = {row.name: (row.keras, row.torch) for row in table.rows}
    assert pairs["stem.conv"] == ("conv1_conv", "conv1")
    assert pairs["stem.pool"] == ("pool1_pool", "maxpool")
    assert pairs["stage2.block0.conv2_pad"] == ("conv3_block1_2_pad", "")
    assert pairs["stage2.block0.downsample.bn"] == ("conv3_block1_0_bn", "layer2.0.downsample.1")
    assert pairs["stage2.block0.add"] == ("conv3_block1_add", "layer2.0.relu#2@input")
    assert pairs["stage2.block0.relu"] == ("conv3_block1_out", "layer2.0.relu#2")
    assert pairs["pool"] == ("avg_pool", "avgpool")
    assert pairs["logits"] == ("predictions", "fc")


def test_stages_and_blocks_end_where_they_are_said_to():
    table = architectures.get("resnet18").table()
    assert table.stages == ("stem", "stage1", "stage2", "stage3", "stage4", "pool", "logits")
    assert [point.row for point in table.points("stage")] == [
        "stem.pool",
        *(f"stage{stage}.block1.relu" for stage in (1, 2, 3, 4)),
        "pool",
        "logits",
    ]
    assert len(table.points("block")) == 1 + 8 + 2
    assert len(table.points("layer")) == sum(row.kind != "pad" for row in table.rows)


def test_basic_blocks_project_only_where_shapes_ask_for_it():
    def projections(name):
        rows = architectures.get(name).table().rows
        return [row.stage for row in rows if row.name.endswith("downsample.conv")]

    assert projections("resnet18") == ["stage2", "stage3", "stage4"]
    assert projections("resnet50") == ["stage1", "stage2", "stage3", "stage4"]


@pytest.mark.parametrize("size", [(1, 1), (33, 70), (224, 224)])
def test_output_shapes_at_any_size(size):
    table = architectures.get("resnet50", image_size=size, classes=3).table()
    shapes = [point.shape for point in table.points("stage")]
    expected = {
        (1, 1): [(64, 1, 1), (256, 1, 1), (512, 1, 1), (1024, 1, 1), (2048, 1, 1)],
        (33, 70): [(64, 9, 18), (256, 9, 18), (512, 5, 9), (1024, 3, 5), (2048, 2, 3)],
        (224, 224): [(64, 56, 56), (256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)],
    }
    assert shapes == [*expected[size], (2048,), (3,)]


CLASSES = {
    "conv": ("Conv2D", "Conv2d"),
    "batch_norm": ("BatchNormalization", "BatchNorm2d"),
    "relu": ("ReLU", "ReLU"),
    "max_pool": ("MaxPooling2D", "MaxPool2d"),
    "add": ("Add", "ReLU"),
    "pad": ("ZeroPadding2D", None),
    "global_avg_pool": ("GlobalAveragePooling2D", "AdaptiveAvgPool2d"),
    "dense": ("Dense", "Linear"),
}
"""What the layers of each kind are in the twins; a sum is the input of PyTorch's ReLU."""

CASES = [
    *(pytest.param(name, {}, id=name) for name in NAMES),
    *(
        pytest.param(name, {"image_size": (65, 46), "classes": 7, "channels": 1}, id=f"{name}-odd")
        for name in ("resnet18", "resnext50_32x4d")
    ),
]


def torch_calls(model, shape):
    """(path, call, class, input shape, output shape) of every call; `meta` computes shapes only."""
    import torch

    calls, counts = [], Counter()

    def record(path):
        def hook(module, inputs, output):
            given, returned = tuple(inputs[0].shape[1:]), tuple(output.shape[1:])
            calls.append((path, counts[path], type(module).__name__, given, returned))
            counts[path] += 1

        return hook

    for path, module in model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(record(path))
    model.eval()(torch.empty(2, *shape, device="meta"))
    return calls


@pytest.mark.framework
@pytest.mark.parametrize(("name", "sizes"), CASES)
def test_the_torch_twin_is_what_the_table_says(name, sizes):
    import torch

    from parity.network.models.resnet import torch as twin

    asked = architectures.get(name, **sizes)
    table = asked.table()
    with torch.device("meta"):
        model = twin.build(asked)
    assert sum(p.numel() for p in model.parameters()) == asked.parameters
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    if not sizes:
        assert digest(shapes.items()) == STATE_DICTS[name]
    shapes = {key: s for key, s in shapes.items() if not key.endswith("num_batches_tracked")}
    assert shapes == {weight.name: weight.shape for _, weight in table.weights()}

    calls = torch_calls(model, asked.input_shape)
    points = [(row, parse_torch_point(row.torch)) for row in table.rows if row.torch]
    # Every call of every module, in this order, and nothing else.
    assert [call[:2] for call in calls] == [
        (point.module, point.call) for _, point in points if not point.is_input
    ]
    found = {call[:2]: call for call in calls}
    for row, point in points:
        _, _, kind, given, returned = found[point.module, point.call]
        assert kind == CLASSES[row.kind][1], row.name
        shape = given if point.is_input else returned
        assert shape == ((*row.shape, 1, 1) if row.kind == "global_avg_pool" else row.shape)


@pytest.mark.framework
@pytest.mark.parametrize(("name", "sizes"), CASES)
def test_the_keras_twin_is_what_the_table_says(name, sizes):
    import keras

    from parity.network.models.resnet import keras as twin

    asked = architectures.get(name, **sizes)
    rows = [row for row in asked.table().rows if row.keras]
    # Shapes only: the variables are never filled.
    with keras.StatelessScope(initialize_variables=False):
        model = twin.build(asked)
    assert sum(np.prod(v.shape) for v in model.trainable_variables) == asked.parameters
    assert {layer.name for layer in model.layers} == {"input", *(row.keras for row in rows)}
    assert model.name == name
    for row in rows:
        layer = model.get_layer(row.keras)
        assert type(layer).__name__ == CLASSES[row.kind][0], row.name
        *space, channels = layer.output.shape[1:]
        assert (channels, *space) == row.shape, row.name
        assert {v.name: tuple(v.shape) for v in layer.variables} == {
            w.keras: kinds.get(row.kind).role(w.role).keras_shape(w.shape) for w in row.weights
        }
    assert model.get_layer("predictions").activation is keras.activations.linear


@pytest.fixture
def float64():
    """Both frameworks in double precision, as they were afterwards."""
    import keras
    import torch

    before = keras.config.floatx(), keras.config.dtype_policy(), torch.get_default_dtype()
    keras.config.set_floatx("float64")
    # Keras keeps the policy of the first layer ever made, whatever floatx becomes later.
    keras.config.set_dtype_policy("float64")
    torch.set_default_dtype(torch.float64)
    yield
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])
    torch.set_default_dtype(before[2])


def random_weights(table):
    """Seeded float64 weights that keep activations near a scale of 1."""
    rng = np.random.default_rng(0)
    draw = {
        "kernel": lambda shape: rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:])),
        "bias": lambda shape: rng.normal(size=shape),
        "gamma": lambda shape: rng.uniform(0.5, 1.5, shape),
        "beta": lambda shape: rng.normal(size=shape) * 0.1,
        "mean": lambda shape: rng.normal(size=shape) * 0.1,
        "variance": lambda shape: rng.uniform(0.5, 1.5, shape),
    }
    return {weight.name: draw[weight.role](weight.shape) for _, weight in table.weights()}


def torch_logits(asked, weights, images):
    import torch

    from parity.network.models.resnet import torch as twin

    model = twin.build(asked).eval()
    result = model.load_state_dict(
        {k: torch.from_numpy(v) for k, v in weights.items()}, strict=False
    )
    assert not result.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in result.missing_keys)
    with torch.no_grad():
        return model(torch.from_numpy(images)).numpy()


def keras_logits(asked, weights, images):
    from parity.network.models.resnet import keras as twin

    model = twin.build(asked)
    for row, weight in asked.table().weights():
        (variable,) = (v for v in model.get_layer(row.keras).variables if v.name == weight.keras)
        value = weights[weight.name]
        variable.assign(kinds.get(row.kind).role(weight.role).to_keras(value))
    return np.asarray(model(layouts.to_nhwc(images), training=False))


def difference(name, image_size=(64, 64)):
    """The relative L2 distance between the logits of the two twins, in float64."""
    asked = architectures.get(name, classes=10, image_size=image_size)
    weights = random_weights(asked.table())
    images = np.random.default_rng(1).normal(size=(2, *asked.input_shape))
    expected = torch_logits(asked, weights, images)
    actual = keras_logits(asked, weights, images)
    assert actual.shape == expected.shape == (2, 10)
    assert np.isfinite(expected).all()
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@pytest.mark.framework
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "image_size"),
    [("resnet18", (64, 64)), ("resnet18", (75, 42)), ("resnext50_32x4d", (64, 64))],
)
def test_the_twins_are_one_function(name, image_size):
    # Measured: below 2e-15, which is rounding in float64.
    assert difference(name, image_size) < 1e-12


@pytest.mark.framework
@pytest.mark.usefixtures("float64")
def test_a_stride_on_the_1x1_convolution_is_seen(monkeypatch):
    """Fault 16: every weight has the shape it should have, and so has every output."""
    from keras import layers

    from parity.network.models.resnet import keras as twin

    def strided_too_early(x, filters, name, *, stride, project, groups, width_per_group):
        width = filters * width_per_group // 64 * groups
        shortcut = twin.conv_bn(x, 4 * filters, f"{name}_0", strides=stride) if project else x
        x = twin.conv_bn(x, width, f"{name}_1", strides=stride)
        x = layers.ReLU(name=f"{name}_1_relu")(x)
        x = twin.conv_bn(x, width, f"{name}_2", kernel_size=3, groups=groups)
        x = layers.ReLU(name=f"{name}_2_relu")(x)
        x = twin.conv_bn(x, 4 * filters, f"{name}_3")
        x = layers.Add(name=f"{name}_add")([shortcut, x])
        return layers.ReLU(name=f"{name}_out")(x)

    monkeypatch.setattr(twin, "bottleneck_block", strided_too_early)
    assert difference("resnext50_32x4d") > 1e-2


@pytest.mark.framework
@pytest.mark.usefixtures("float64")
def test_the_epsilon_of_keras_applications_is_seen(monkeypatch):
    """Fault 5: 1.001e-5 for 1e-5 is below the float32 floor, far above float64's."""
    from parity.network.models.resnet import keras as twin

    monkeypatch.setattr(twin, "BN_EPSILON", 1.001e-5)
    assert 1e-10 < difference("resnet18") < 1e-6


@pytest.mark.framework
@pytest.mark.usefixtures("float64")
def test_same_padding_is_seen(monkeypatch):
    """Fault 1: SAME pads (0, 1) where the twins pad (1, 1)."""
    from keras import layers

    from parity.network.models.resnet import keras as twin

    def conv_bn(x, filters, name, *, kernel_size=1, strides=1, groups=1):
        x = layers.Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="same",
            groups=groups,
            use_bias=False,
            name=f"{name}_conv",
        )(x)
        return layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)

    monkeypatch.setattr(twin, "conv_bn", conv_bn)
    assert difference("resnet18") > 1e-2
