"""The study's small models in PyTorch."""

from __future__ import annotations

from torch import Tensor, nn

from tests.studies.training_mutants.tables import CLASSES


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Flatten()
        self.fc1, self.fc2, self.fc3 = nn.Linear(64, 24), nn.Linear(24, 24), nn.Linear(24, 24)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.fc1(self.flat(x)))
        return self.head(self.relu3(self.fc3(self.relu2(self.fc2(x)))))


class Cnn(nn.Module):
    """The bias of conv2 has no gradient but rounding, since a batch-norm follows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(16)
        self.relu2 = nn.ReLU()
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.relu1(self.bn1(self.conv1(x))))
        x = self.relu2(self.bn2(self.conv2(x)))
        return self.head(self.mean(x).flatten(1))


def mlp() -> nn.Module:
    return Mlp()


def cnn() -> nn.Module:
    return Cnn()
