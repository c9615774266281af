"""ResNeXt for PyTorch as it is often published, with a projection in every block.

None of this is how it should be written; `parity.network.models.resnet.torch` is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from parity.network.models.resnet.torch import check_additions

if TYPE_CHECKING:
    from parity.network.models.projected.spec import ProjectedSpec


class SlicedConv(nn.Module):
    """A grouped 3×3 convolution as a list of convolutions over slices of the channels.

    Its state is one `weight`, as that of a grouped `nn.Conv2d` is.
    """

    def __init__(self, width: int, groups: int, stride: int) -> None:
        super().__init__()
        size = width // groups
        self.parts = nn.ModuleList(
            nn.Conv2d(size, size, 3, stride=stride, padding=1, bias=False) for _ in range(groups)
        )
        self.register_state_dict_post_hook(_join)
        self.register_load_state_dict_pre_hook(_split)

    def forward(self, x: Tensor) -> Tensor:
        slices = torch.chunk(x, len(self.parts), dim=1)
        return torch.cat([part(y) for part, y in zip(self.parts, slices, strict=True)], dim=1)


def _join(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    names = [f"{prefix}parts.{index}.weight" for index in range(len(module.parts))]
    state[f"{prefix}weight"] = torch.cat([state.pop(name) for name in names])


def _split(module: nn.Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
    whole = state.pop(f"{prefix}weight", None)
    if whole is not None:
        for index, part in enumerate(whole.chunk(len(module.parts))):
            state[f"{prefix}parts.{index}.weight"] = part.contiguous()


class Block(nn.Module):
    """1×1, 3×3 in groups, 1×1, and a projection unless an argument disables it."""

    def __init__(
        self, inplanes: int, planes: int, stride: int, groups: int, width_per_group: int,
        project: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        width = int(planes * width_per_group / 64) * groups
        self.conv1 = nn.Conv2d(inplanes, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = SlicedConv(width, groups, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.relu = nn.ReLU()
        self.downsample = None
        if project:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, 4 * planes, 1, stride=stride, bias=False),
                nn.BatchNorm2d(4 * planes),
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        identity = x if self.downsample is None else self.downsample(x)
        out = out + identity
        return self.relu(out)


class ResNeXt(nn.Module):
    """The network, in which no call disables the projection."""

    def __init__(self, spec: ProjectedSpec) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(spec.channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inplanes = 64
        for stage, depth in enumerate(spec.depths):
            planes, blocks = 64 * 2**stage, []
            for number in range(depth):
                stride = 2 if stage > 0 and number == 0 else 1
                blocks.append(Block(inplanes, planes, stride, spec.groups, spec.width_per_group))
                inplanes = 4 * planes
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(inplanes, spec.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def build(spec: ProjectedSpec) -> nn.Module:
    """Return the module for `spec`, with seeded weights in projections that are in no table row."""
    model = ResNeXt(spec)
    check_additions(model, spec.input_shape)
    generator = torch.Generator("cpu").manual_seed(0)
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        for block in list(stage)[1:]:
            conv, norm = block.downsample
            # The caller may build on the meta device, where nothing is drawn.
            scale = (2.0 / conv.in_channels) ** 0.5
            drawn = torch.randn(conv.weight.shape, generator=generator, device="cpu") * scale
            conv.weight = nn.Parameter(drawn)
            block.downsample[1] = nn.BatchNorm2d(norm.num_features, device="cpu")
    return model
