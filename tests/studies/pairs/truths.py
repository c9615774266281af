"""Which layer of a public Keras model is which module of the same network in PyTorch.

Written by hand from the sources of keras.applications, torchvision and timm, and never from what
the aligner finds. Keras layers by name, PyTorch modules by path. A layer of several PyTorch modules
(a separable convolution) has them all, in order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Rule = Callable[[str], tuple[str, ...] | None]
"""Returns the PyTorch modules of a Keras layer; None where there is none."""


@dataclass(frozen=True)
class PublicPair:
    """Two references of one network, and the rule that pairs their layers.

    `ordered` pairs the layers that Keras numbers, `conv2d`, `conv2d_1`, …, with these modules in
    the order in which both sources create them.
    """

    keras: str
    torch: str
    rule: Rule
    ordered: Callable[[Sequence[str]], list[str]] | None = None
    size: int = 96


def _last(kind: str) -> str:
    return {"conv": "0", "bn": "1"}[kind]


def resnet(layer: str) -> tuple[str, ...] | None:
    if match := re.fullmatch(r"conv(\d)_block(\d+)_(\d)_(conv|bn)", layer):
        stage, block, part, kind = match.groups()
        path = f"layer{int(stage) - 1}.{int(block) - 1}"
        if part == "0":
            return (f"{path}.downsample.{_last(kind)}",)
        return (f"{path}.{kind}{part}",)
    return _fixed(layer, {"conv1_conv": "conv1", "conv1_bn": "bn1", "predictions": "fc"})


def resnet_v2(layer: str) -> tuple[str, ...] | None:
    """Keras's second form against timm's `resnetv2_50`."""
    if match := re.fullmatch(r"conv(\d)_block(\d+)_(preact|\d)_(conv|bn)", layer):
        stage, block, part, kind = match.groups()
        path = f"stages.{int(stage) - 2}.blocks.{int(block) - 1}"
        if part == "preact":
            return (f"{path}.norm1",)
        if part == "0":
            return (f"{path}.downsample.conv",)
        return (f"{path}.conv{part}" if kind == "conv" else f"{path}.norm{int(part) + 1}",)
    names = {"conv1_conv": "stem.conv", "post_bn": "norm", "predictions": "head.fc"}
    return _fixed(layer, names)


def vgg(layer: str, depths: Sequence[int]) -> tuple[str, ...] | None:
    if match := re.fullmatch(r"block(\d)_conv(\d)", layer):
        block, conv = int(match[1]) - 1, int(match[2]) - 1
        # Each convolution is followed by its ReLU, each block by its pool.
        return (f"features.{sum(2 * depth + 1 for depth in depths[:block]) + 2 * conv}",)
    heads = {"fc1": "classifier.0", "fc2": "classifier.3", "predictions": "classifier.6"}
    return _fixed(layer, heads)


def mobilenet_v1(layer: str) -> tuple[str, ...] | None:
    """Keras's first MobileNet against timm's `mobilenetv1_100`."""
    if match := re.fullmatch(r"conv_(dw|pw)_(\d+)(_bn)?", layer):
        part, number, norm = match[1], int(match[2]) - 1, match[3]
        path = [f"blocks.{s}.{b}" for s, depth in enumerate((1, 2, 2, 6, 2)) for b in range(depth)]
        name = ("bn1" if part == "dw" else "bn2") if norm else f"conv_{part}"
        return (f"{path[number]}.{name}",)
    names = {"conv1": "conv_stem", "conv1_bn": "bn1", "conv_preds": "classifier"}
    return _fixed(layer, names)


def mobilenet_v2(layer: str) -> tuple[str, ...] | None:
    if match := re.fullmatch(
        r"(?:expanded_conv|block_(\d+))_(expand|depthwise|project)(_BN)?", layer
    ):
        number, part, norm = match.groups()
        path = f"features.{1 if number is None else int(number) + 1}.conv"
        parts = ["depthwise", "project"] if number is None else ["expand", "depthwise", "project"]
        at = parts.index(part)
        if part == "project":
            return (f"{path}.{at + bool(norm)}",)
        return (f"{path}.{at}.{int(bool(norm))}",)
    names = {
        "Conv1": "features.0.0",
        "bn_Conv1": "features.0.1",
        "Conv_1": "features.18.0",
        "Conv_1_bn": "features.18.1",
        "predictions": "classifier.1",
    }
    return _fixed(layer, names)


_V3_LARGE_SQUEEZED = {3, 4, 5, 10, 11, 12, 13, 14}


def mobilenet_v3_large(layer: str) -> tuple[str, ...] | None:
    part = "expand|depthwise|project|squeeze_excite"
    if match := re.fullmatch(rf"expanded_conv(?:_(\d+))?_({part})(?:_(bn|conv|conv_1))?", layer):
        number, name, suffix = int(match[1] or 0), match[2], match[3]
        path = f"features.{number + 1}.block"
        parts = ["expand"] * (number > 0) + ["depthwise"]
        parts += ["squeeze_excite"] * (number in _V3_LARGE_SQUEEZED) + ["project"]
        at = parts.index(name)
        if name == "squeeze_excite":
            return (f"{path}.{at}.{'fc1' if suffix == 'conv' else 'fc2'}",)
        return (f"{path}.{at}.{int(suffix == 'bn')}",)
    names = {
        "conv": "features.0.0",
        "conv_bn": "features.0.1",
        "conv_1": "features.16.0",
        "conv_1_bn": "features.16.1",
        "conv_2": "classifier.0",
        "logits": "classifier.3",
    }
    return _fixed(layer, names)


def densenet(layer: str) -> tuple[str, ...] | None:
    if match := re.fullmatch(r"conv(\d)_block(\d+)_([012])_(conv|bn)", layer):
        stage, block, part, kind = match.groups()
        path = f"features.denseblock{int(stage) - 1}.denselayer{block}"
        name = {("0", "bn"): "norm1", ("1", "conv"): "conv1", ("1", "bn"): "norm2"}
        return (f"{path}.{name.get((part, kind), 'conv2')}",)
    if match := re.fullmatch(r"pool(\d)_(conv|bn)", layer):
        kind = "norm" if match[2] == "bn" else "conv"
        return (f"features.transition{int(match[1]) - 1}.{kind}",)
    names = {
        "conv1_conv": "features.conv0",
        "conv1_bn": "features.norm0",
        "bn": "features.norm5",
        "predictions": "classifier",
    }
    return _fixed(layer, names)


def efficientnet(layer: str, fused: Sequence[int] = (), plain: int = 1) -> tuple[str, ...] | None:
    """`fused` are the stages of fused blocks, `plain` the stage whose blocks do not expand."""
    parts = "expand_conv|expand_bn|dwconv2|dwconv|bn|se_reduce|se_expand|project_conv|project_bn"
    if match := re.fullmatch(rf"block(\d)([a-z])_({parts})", layer):
        stage, block, part = int(match[1]), ord(match[2]) - ord("a"), match[3]
        path = f"features.{stage}.{block}.block"
        if stage in fused:
            order = ["project"] if stage == plain else ["expand", "project"]
        else:
            order = ["dw", "se", "project"] if stage == plain else ["expand", "dw", "se", "project"]
        name = {"dwconv": "dw", "dwconv2": "dw", "bn": "dw"}.get(part, part.partition("_")[0])
        at = order.index(name)
        if name == "se":
            return (f"{path}.{at}.{'fc1' if part == 'se_reduce' else 'fc2'}",)
        return (f"{path}.{at}.{int(part.endswith('bn'))}",)
    last = 7 if fused else 8
    names = {
        "stem_conv": "features.0.0",
        "stem_bn": "features.0.1",
        "top_conv": f"features.{last}.0",
        "top_bn": f"features.{last}.1",
        "predictions": "classifier.1",
    }
    return _fixed(layer, names)


def convnext(layer: str) -> tuple[str, ...] | None:
    name = re.sub(r"^convnext_tiny_", "", layer)
    if match := re.fullmatch(r"stage_(\d)_block_(\d+)_(\w+)", name):
        stage, block, part = match.groups()
        path = f"features.{2 * int(stage) + 1}.{block}"
        parts = {
            "depthwise_conv": ".block.0",
            "layernorm": ".block.2",
            "pointwise_conv_1": ".block.3",
            "pointwise_conv_2": ".block.5",
            "layer_scale": "",
        }
        return (path + parts[part],) if part in parts else None
    if match := re.fullmatch(r"downsampling_(layernorm|conv)_(\d)", name):
        return (f"features.{2 * int(match[2]) + 2}.{int(match[1] == 'conv')}",)
    names = {
        "stem_conv": "features.0.0",
        "stem_layernorm": "features.0.1",
        "head_layernorm": "classifier.0",
        "head_dense": "classifier.2",
    }
    return _fixed(name, names)


def xception(layer: str) -> tuple[str, ...] | None:
    """Keras's Xception against timm's `legacy_xception`."""
    if match := re.fullmatch(r"block(\d+)_sepconv(\d)(_bn)?", layer):
        block, number, norm = int(match[1]), int(match[2]), bool(match[3])
        if block == 14:
            name = f"{'bn' if norm else 'conv'}{number + 2}"
            return (name,) if norm else (f"{name}.conv1", f"{name}.pointwise")
        # The first block begins without a ReLU.
        at = 3 * (number - 1) + (0 if block == 2 else 1) + norm
        path = f"block{block - 1}.rep.{at}"
        return (path,) if norm else (f"{path}.conv1", f"{path}.pointwise")
    names = {
        "block1_conv1": "conv1",
        "block1_conv1_bn": "bn1",
        "block1_conv2": "conv2",
        "block1_conv2_bn": "bn2",
        "predictions": "fc",
    }
    return _fixed(layer, names)


def inception(layer: str) -> tuple[str, ...] | None:
    return _fixed(layer, {"predictions": "fc"})


def inception_order(modules: Sequence[str]) -> list[str]:
    """Return the modules in the order of Keras's numbers; the auxiliary head is not in Keras."""
    return [name for name in modules if not name.startswith(("AuxLogits", "fc"))]


def xception_order(modules: Sequence[str]) -> list[str]:
    """Return the shortcuts, which are the layers that Keras numbers."""
    return [name for name in modules if name.endswith((".skip", ".skipbn"))]


def _fixed(layer: str, names: dict[str, str]) -> tuple[str, ...] | None:
    return (names[layer],) if layer in names else None


PAIRS = (
    PublicPair("keras:ResNet50", "torchvision:resnet50", resnet),
    PublicPair("keras:ResNet101", "torchvision:resnet101", resnet),
    PublicPair("keras:ResNet50V2", "timm:resnetv2_50", resnet_v2),
    PublicPair("keras:VGG16", "torchvision:vgg16", lambda n: vgg(n, (2, 2, 3, 3, 3)), size=224),
    PublicPair("keras:VGG19", "torchvision:vgg19", lambda n: vgg(n, (2, 2, 4, 4, 4)), size=224),
    PublicPair("keras:MobileNet", "timm:mobilenetv1_100", mobilenet_v1),
    PublicPair("keras:MobileNetV2", "torchvision:mobilenet_v2", mobilenet_v2),
    PublicPair("keras:MobileNetV3Large", "torchvision:mobilenet_v3_large", mobilenet_v3_large),
    PublicPair("keras:DenseNet121", "torchvision:densenet121", densenet),
    PublicPair("keras:DenseNet169", "torchvision:densenet169", densenet),
    PublicPair("keras:EfficientNetB0", "torchvision:efficientnet_b0", efficientnet),
    PublicPair(
        "keras:EfficientNetV2S",
        "torchvision:efficientnet_v2_s",
        lambda n: efficientnet(n, fused=(1, 2, 3)),
    ),
    PublicPair("keras:ConvNeXtTiny", "torchvision:convnext_tiny", convnext),
    PublicPair("keras:InceptionV3", "torchvision:inception_v3", inception, inception_order, 139),
    PublicPair("keras:Xception", "timm:legacy_xception", xception, xception_order),
)


def pair_layers(
    pair: PublicPair, layers: Sequence[str], modules: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return the PyTorch modules by Keras layer; `modules` are in the order of their definition.

    Layers that Keras numbers are those called after their class, `conv2d_12`, counted from
    whatever number the first has in this process.
    """
    found: dict[str, tuple[str, ...]] = {}
    for layer in layers:
        names = pair.rule(layer)
        if names is not None:
            found[layer] = names
    if pair.ordered is not None:
        for stem, is_norm in (("conv2d", False), ("batch_normalization", True)):
            numbered = sorted(
                (layer for layer in layers if re.fullmatch(rf"{stem}(_\d+)?", layer)),
                key=lambda layer: int(layer.rpartition("_")[2]) if layer[-1].isdigit() else 0,
            )
            numbered = [layer for layer in numbered if layer not in found]
            targets = [m for m in pair.ordered(modules) if ("bn" in m.split(".")[-1]) is is_norm]
            if len(numbered) == len(targets):
                found |= {a: (b,) for a, b in zip(numbered, targets, strict=True)}
    return found
