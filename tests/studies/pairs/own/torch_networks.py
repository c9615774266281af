"""The PyTorch side of the pairs: each function returns a module, or a module and its inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1a = nn.Conv2d(3, 8, 3, padding=1)
        self.down1b = nn.Conv2d(8, 8, 3, padding=1)
        self.down2a = nn.Conv2d(8, 16, 3, padding=1)
        self.down2b = nn.Conv2d(16, 16, 3, padding=1)
        self.middle = nn.Conv2d(16, 32, 3, padding=1)
        self.up1t = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.up2t = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.up1a = nn.Conv2d(16, 8, 3, padding=1)
        self.up1b = nn.Conv2d(8, 8, 3, padding=1)
        self.up2a = nn.Conv2d(32, 16, 3, padding=1)
        self.up2b = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1b(self.down1a(x).relu()).relu()
        second = functional.max_pool2d(first, 2)
        second = self.down2b(self.down2a(second).relu()).relu()
        x = self.middle(functional.max_pool2d(second, 2)).relu()
        x = torch.cat([second, self.up2t(x)], dim=1)
        x = self.up2b(self.up2a(x).relu()).relu()
        x = torch.cat([first, self.up1t(x)], dim=1)
        return self.head(self.up1b(self.up1a(x).relu()).relu())


def u_net() -> nn.Module:
    return UNet()


class LstmTagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.lstm1 = nn.LSTM(16, 24, batch_first=True)
        self.lstm2 = nn.LSTM(24, 24, batch_first=True)
        self.head = nn.Linear(24, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        x, _ = self.lstm1(self.embedding(tokens))
        x, _ = self.lstm2(x)
        return self.head(x)


def lstm_tagger() -> nn.Module:
    return LstmTagger()


class Recurrent(nn.Module):
    """One recurrent layer under the name that the Keras side has."""

    def __init__(self, name: str, layer: nn.Module, width: int, last: bool = False) -> None:
        super().__init__()
        self.name, self.last = name, last
        self.add_module(name, layer)
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.get_submodule(self.name)(x)
        return self.head(x[:, -1] if self.last else x)


def gru_after() -> nn.Module:
    return Recurrent("gru", nn.GRU(6, 12, batch_first=True), 12)


def bidirectional() -> nn.Module:
    return Recurrent("both", nn.LSTM(6, 12, batch_first=True, bidirectional=True), 24)


def last_state() -> nn.Module:
    return Recurrent("rnn", nn.RNN(6, 12, batch_first=True), 12, last=True)


class Conv1d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(4, 8, 5, padding=2)
        self.norm1 = nn.BatchNorm1d(8)
        self.conv2 = nn.Conv1d(8, 16, 3, dilation=2)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool1d(functional.relu(self.norm1(self.conv1(x))), 2)
        x = functional.relu(self.conv2(functional.pad(x, (4, 0))))
        return self.head(x.mean(2))


def conv1d() -> nn.Module:
    return Conv1d()


class Conv3d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(2, 4, 3, padding=1)
        self.conv2 = nn.Conv3d(4, 6, 3)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool3d(functional.relu(self.conv1(x)), 2)
        return self.head(self.conv2(x).mean((2, 3, 4)))


def conv3d() -> nn.Module:
    return Conv3d()


class TokenModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 32)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(32) for _ in range(3))
        self.query, self.key, self.value, self.project = (nn.Linear(32, 32) for _ in range(4))
        self.wide, self.narrow = nn.Linear(32, 64), nn.Linear(64, 32)
        self.head = nn.Linear(32, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        y = self.norm1(x)
        q, k, v = (
            layer(y).unflatten(-1, (4, 8)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        y = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.project(y.transpose(1, 2).flatten(2))
        x = x + self.narrow(functional.gelu(self.wide(self.norm2(x))))
        return self.head(self.norm3(x))


def token_model() -> nn.Module:
    return TokenModel()


class AttentionLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 7)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.attention(x, x, x, need_weights=False)
        return self.head(self.norm(y + x))


def attention_layer() -> nn.Module:
    return AttentionLayer()


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.dense = nn.Linear(5, 6)
        self.head = nn.Linear(14, 3)

    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        x = functional.relu(self.conv(image)).mean((2, 3))
        return self.head(torch.cat([x, torch.tanh(self.dense(features))], dim=1))


def two_inputs() -> nn.Module:
    return TwoInputs()


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.scores = nn.Linear(8, 3)
        self.map = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = functional.relu(self.conv(x))
        return self.scores(x.mean((2, 3))), self.map(x)


def two_outputs() -> nn.Module:
    return TwoOutputs()


class DictOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.boxes, self.scores = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = functional.relu(self.conv(x)).mean((2, 3))
        return {"scores": self.scores(x), "boxes": self.boxes(x)}


def dict_outputs() -> nn.Module:
    return DictOutputs()


class Subclassed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm1(self.conv1(x)))
        x = functional.relu(x + self.conv2(x))
        return self.head(x.mean((2, 3)))


def subclassed() -> tuple[nn.Module, Tensor]:
    return Subclassed(), torch.zeros(1, 3, 32, 32)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.conv2(functional.relu(self.conv1(x))))


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 3)
        self.block = Block()
        self.stem = nn.Conv2d(3, 8, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.stem(x)).mean((2, 3)))


def nested() -> nn.Module:
    return Nested()


class Operators(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).relu()
        x = x + 2.0 * self.conv2(x).sigmoid()
        x = x[:, :, ::2, ::2] - 0.5
        return self.head(x.amax((2, 3)))


def operators() -> nn.Module:
    return Operators()


class Separable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first_depthwise = nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
        self.first_pointwise = nn.Conv2d(3, 8, 1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu6(self.norm(self.first_pointwise(self.first_depthwise(x))))
        return self.head(functional.silu(self.depthwise(x)).mean((2, 3)))


def separable() -> nn.Module:
    return Separable()


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.reduce, self.expand = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        s = functional.relu(self.reduce(functional.adaptive_avg_pool2d(x, 1)))
        x = x * torch.sigmoid(self.expand(s))
        x = functional.relu(self.last(x))
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def squeeze_excite() -> nn.Module:
    return SqueezeExcite()


def flattened() -> nn.Module:
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(3, 6, 5))
    model.add_module("relu1", nn.ReLU())
    model.add_module("pool1", nn.AvgPool2d(2))
    model.add_module("conv2", nn.Conv2d(6, 8, 5))
    model.add_module("relu2", nn.ReLU())
    model.add_module("pool2", nn.MaxPool2d(2))
    model.add_module("flat", nn.Flatten())
    model.add_module("dense", nn.Linear(200, 20))
    model.add_module("relu3", nn.ReLU())
    model.add_module("head", nn.Linear(20, 4))
    return model


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()

        def conv(before: int, after: int, size: int, stride: int = 1) -> nn.Module:
            return nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)

        self.stem, self.norm = conv(3, 8, 3), nn.BatchNorm2d(8)
        self.conv1a, self.norm1a = conv(8, 8, 3), nn.BatchNorm2d(8)
        self.conv1b, self.norm1b = conv(8, 8, 3), nn.BatchNorm2d(8)
        self.conv2a, self.norm2a = conv(8, 16, 3, 2), nn.BatchNorm2d(16)
        self.conv2b, self.norm2b = conv(16, 16, 3), nn.BatchNorm2d(16)
        self.conv2s, self.norm2s = conv(8, 16, 1, 2), nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = (x + self.norm1b(self.conv1b(self.norm1a(self.conv1a(x)).relu()))).relu()
        y = self.norm2b(self.conv2b(self.norm2a(self.conv2a(x)).relu()))
        x = (y + self.norm2s(self.conv2s(x))).relu()
        return self.head(x.mean((2, 3)))


def residual() -> nn.Module:
    return Residual()


class Upsampled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(4, 8)
        self.conv2, self.last = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.leaky_relu(self.norm(self.conv1(x)), 0.1)
        x = functional.interpolate(x, scale_factor=2, mode="nearest")
        x = functional.elu(self.conv2(x))
        x = functional.interpolate(x, scale_factor=2, mode="bilinear")
        return torch.tanh(self.last(x))


def upsampled() -> nn.Module:
    return Upsampled()
