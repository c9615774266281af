import json
import subprocess
import sys

import pytest

from parity.errors import ArchitectureError
from parity.network import architectures, spec

PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
}
"""Parameters, as torchvision publishes them."""


def test_every_published_architecture_is_there():
    assert set(PUBLISHED) <= set(architectures.names())
    assert architectures.names() == sorted(architectures.names())


@pytest.mark.parametrize("name", architectures.names())
def test_parameters_are_the_published_ones(name):
    assert architectures.get(name).parameters == PUBLISHED[name]


def test_another_width_has_another_count():
    assert (
        architectures.get("resnext50_32x4d").parameters != architectures.get("resnet50").parameters
    )
    fewer = architectures.get("resnext50_32x4d", classes=10)
    assert fewer.parameters == PUBLISHED["resnext50_32x4d"] - 990 * (2048 + 1)


def test_sizes_that_are_asked_for_are_used():
    asked = architectures.get("resnet18", classes=7, image_size=(65, 47), channels=1)
    assert (asked.name, asked.classes, asked.input_shape) == ("resnet18", 7, (1, 65, 47))
    assert architectures.get("resnet18").input_shape == (3, 224, 224)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnext50", "resnext50_32x4d"),
        ("resnet-50", "resnet50"),
        ("ResNet18", "resnet18"),
        ("vgg", "`parity models`"),
        ("", "`parity models`"),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest(name, hint):
    with pytest.raises(ArchitectureError, match=hint):
        architectures.get(name)


@pytest.mark.parametrize(
    ("sizes", "field"),
    [
        ({"classes": 0}, "classes"),
        ({"classes": -3}, "classes"),
        ({"classes": True}, "classes"),
        ({"classes": 10.0}, "classes"),
        ({"channels": 0}, "channels"),
        ({"image_size": (0, 224)}, "image height"),
        ({"image_size": (224, -1)}, "image width"),
        ({"image_size": (224,)}, "image size"),
        ({"image_size": 224}, "image size"),
    ],
)
def test_impossible_sizes_are_refused_by_name(sizes, field):
    with pytest.raises(ArchitectureError, match=f"resnet18: {field} must be") as caught:
        architectures.get("resnet18", **sizes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", architectures.names())
def test_a_spec_survives_json(name):
    asked = architectures.get(name, classes=12, image_size=(96, 64), channels=4)
    assert architectures.from_json(json.loads(json.dumps(asked.to_json()))) == asked


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "vgg"}, "family 'vgg'"),
        ({"family": None}, "family None"),
        ({"depth": 3}, "unknown fields: depth"),
        ({"classes": "10"}, "classes must be"),
        ({"image_size": [224]}, "image size must be"),
        ({"depths": [1, 2]}, "depths must be"),
        ({"depths": [1, 2, 0, 1]}, "depth must be"),
        ({"block": "dense"}, "block must be"),
        ({"block": "basic", "groups": 2}, "basic blocks"),
    ],
)
def test_a_spec_that_is_none_is_refused(change, message):
    data = architectures.get("resnet50").to_json() | change
    with pytest.raises(ArchitectureError, match=message):
        architectures.from_json(data)


def test_a_spec_with_a_field_missing_is_refused():
    data = architectures.get("resnet50").to_json()
    del data["groups"]
    with pytest.raises(ArchitectureError, match="groups"):
        architectures.from_json(data)


@pytest.mark.parametrize(
    ("size", "window", "expected"),
    [
        (224, {"kernel": 7, "stride": 2, "padding": 3}, 112),
        (225, {"kernel": 7, "stride": 2, "padding": 3}, 113),
        (112, {"kernel": 3, "stride": 2, "padding": 1}, 56),
        (7, {"kernel": 1, "stride": 2, "padding": 0}, 4),
        (1, {"kernel": 3, "stride": 2, "padding": 1}, 1),
    ],
)
def test_windows_are_counted(size, window, expected):
    assert spec.window_size(size, **window) == expected


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(ArchitectureError, match="too small"):
        spec.window_size(2, kernel=5, stride=1, padding=1)


def test_the_registry_loads_no_framework():
    program = (
        "import sys; from parity.network import architectures;"
        "architectures.get('resnet18').table().to_csv();"
        "print(sorted({'torch', 'keras', 'tensorflow', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("field", ["classes", "channels", "image_size"])
@pytest.mark.parametrize("value", [2**20 + 1, 10**400, 10**5000], ids=["1", "400", "5000"])
def test_a_size_that_no_model_has_is_refused(field, value):
    given = (value, 32) if field == "image_size" else value
    with pytest.raises(ArchitectureError, match="must be at most 1,048,576, found a larger number"):
        architectures.get("resnet18", **{field: given})
