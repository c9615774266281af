"""PyTorch models in other people's manner: several kinds of operators in one forward pass."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

KIND = "stranger"

TOKENS = torch.tensor([[1, 2, 3, 4, 0, 0], [5, 6, 7, 19, 2, 1]])


@dataclasses.dataclass
class Detections:
    """The outputs of a detector's head."""

    boxes: torch.Tensor
    scores: torch.Tensor
    levels: list[torch.Tensor]


class DepthwiseSeparable1d(nn.Module):
    """Keyword spotting: depthwise convolutions over time, a weighted mean over the frames."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(6, 12, 5, padding=2, groups=6)
        self.pointwise = nn.Conv1d(12, 8, 1)
        self.norm = nn.BatchNorm1d(8)
        self.score = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.hardswish(self.norm(self.pointwise(self.depthwise(x)))).transpose(1, 2)
        weights = self.score(y).softmax(1)
        mean = (weights * y).sum(1)
        spread = ((weights * y.square()).sum(1) - mean.square()).clamp(min=1e-4).sqrt()
        return torch.cat([mean, spread], -1)


class Detector(nn.Module):
    """Two feature levels, anchors in a buffer, a dataclass as its result."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.down = nn.Conv2d(8, 8, 3, 2, 1)
        self.lateral = nn.Conv2d(8, 8, 1)
        self.head = nn.Conv2d(8, 2 * 5, 3, padding=1)
        self.register_buffer("anchors", torch.tensor([[4.0, 4.0], [8.0, 2.0]]))

    def decode(self, x: torch.Tensor, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
        n, _, h, w = x.shape
        x = x.view(n, 2, 5, h, w).permute(0, 3, 4, 1, 2)
        ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        grid = torch.stack([xs, ys], -1)[None, :, :, None] * stride
        centre = x[..., :2].sigmoid() * stride + grid
        size = x[..., 2:4].clamp(max=4).exp() * self.anchors
        return torch.cat([centre - size / 2, centre + size / 2], -1).flatten(1, 3), x[
            ..., 4
        ].sigmoid().flatten(1)

    def forward(self, image: torch.Tensor) -> Detections:
        a = self.stem(image).relu()
        b = self.down(a).relu()
        a = a + F.interpolate(self.lateral(b), size=a.shape[-2:], mode="nearest")
        found = [self.decode(self.head(x), s) for x, s in ((a, 2), (b, 4))]
        return Detections(
            boxes=torch.cat([boxes for boxes, _ in found], 1),
            scores=torch.cat([scores for _, scores in found], 1),
            levels=[a, b],
        )


class RotaryAttention(nn.Module):
    """Rotary positions in buffers, grouped keys, a mask from a padding token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.q, self.kv = nn.Linear(16, 16, bias=False), nn.Linear(16, 8, bias=False)
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.embed.weight
        angles = torch.outer(torch.arange(8.0), 1e4 ** (-torch.arange(0, 4, 2) / 4))
        self.register_buffer("cos", angles.cos().repeat(1, 2), persistent=False)
        self.register_buffer("sin", angles.sin().repeat(1, 2), persistent=False)

    def rotate(self, x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, -1)
        length = x.shape[-2]
        return x * self.cos[:length] + torch.cat([-b, a], -1) * self.sin[:length]

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        n, length = tokens.shape
        x = self.embed(tokens)
        q = self.q(x).view(n, length, 4, 4).transpose(1, 2)
        k, v = self.kv(x).view(n, length, 2, 1, 4).unbind(2)
        k, v = (t.transpose(1, 2).expand(n, 4, length, 4) for t in (k, v))
        mask = torch.ones(length, length, dtype=torch.bool).tril()
        mask = mask & (tokens != 0)[:, None, None, :]
        y = F.scaled_dot_product_attention(self.rotate(q), self.rotate(k), v, attn_mask=mask)
        y = torch.nan_to_num(y)
        return self.head(y.transpose(1, 2).flatten(2) + x)


class SpatialTransformer(nn.Module):
    """A localisation network whose affine grid samples its own input."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = nn.Sequential(
            nn.Conv2d(1, 4, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 6)
        )
        nn.init.normal_(self.locate[3].weight, std=0.01)
        self.locate[3].bias.data = torch.tensor([1, 0, 0, 0, 1, 0.0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        theta = self.locate(x).view(-1, 2, 3)
        grid = F.affine_grid(theta, [x.size(0), 1, 12, 10], align_corners=False)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


class WarpByFlow(nn.Module):
    """An optical flow that warps features; nearest sampling, zeros outside."""

    def forward(self, x: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        n, _, h, w = x.shape
        ys = torch.linspace(-1, 1, h).view(1, h, 1).expand(n, h, w)
        xs = torch.linspace(-1, 1, w).view(1, 1, w).expand(n, h, w)
        grid = torch.stack([xs, ys], -1) + 0.1 * flow.permute(0, 2, 3, 1)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


class DecoderStep(nn.Module):
    """One step of a translator: a cell, attention over the memory, states in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 6)
        self.cell = nn.LSTMCell(14, 8)
        self.key = nn.Linear(8, 8, bias=False)
        self.out = nn.Linear(16, 20)

    def forward(
        self, token: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor], memory: torch.Tensor
    ) -> dict[str, Any]:
        h, _ = state
        scores = torch.einsum("bd,btd->bt", h, self.key(memory))
        context = torch.einsum("bt,btd->bd", scores.softmax(-1), memory)
        h, c = self.cell(torch.cat([self.embed(token), context], -1), state)
        logits = self.out(torch.cat([h, context], -1))
        return {"log_probs": logits.log_softmax(-1), "state": (h, c), "best": logits.argmax(-1)}


class PackedTagger(nn.Module):
    """A bidirectional GRU of two layers, max over the time that a mask keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 6, padding_idx=0)
        self.gru = nn.GRU(6, 5, 2, bidirectional=True, batch_first=True)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states, last = self.gru(self.embed(tokens))
        states = states.masked_fill((tokens == 0).unsqueeze(-1), -1e4)
        return states.amax(1), last.view(2, 2, -1, 5)[-1].permute(1, 0, 2).flatten(1)


class LinearChain(nn.Module):
    """The forward algorithm of a conditional random field, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.emit = nn.Linear(6, 4)
        self.transition = nn.Parameter(torch.randn(4, 4))
        self.start = nn.Parameter(torch.randn(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        emissions = self.emit(x)
        alpha = self.start + emissions[:, 0]
        for step in range(1, emissions.size(1)):
            alpha = torch.logsumexp(
                alpha.unsqueeze(2) + self.transition + emissions[:, step].unsqueeze(1), 1
            )
        return torch.logsumexp(alpha, 1)


class VectorQuantiser(nn.Module):
    """Nearest codes of a book, and how many fall to each."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Conv1d(3, 4, 3, padding=1)
        self.codes = nn.Embedding(7, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        z = self.encode(x).permute(0, 2, 1)
        distance = (
            z.pow(2).sum(-1, keepdim=True)
            - 2 * z @ self.codes.weight.t()
            + self.codes.weight.pow(2).sum(1)
        )
        index = distance.argmin(-1)
        counts = F.one_hot(index, 7).sum(1)
        return self.codes(index).transpose(1, 2), index, counts


class SelectiveScan(nn.Module):
    """A state-space layer: a recurrence whose matrices depend on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(6, 6 + 4 + 4)
        self.log_a = nn.Parameter(torch.log(torch.arange(1, 5.0)).repeat(6, 1))
        self.skip = nn.Parameter(torch.ones(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        delta, b, c = self.project(x).split([6, 4, 4], -1)
        delta = F.softplus(delta)
        decay = torch.exp(-delta.unsqueeze(-1) * self.log_a.exp())
        gain = delta.unsqueeze(-1) * b.unsqueeze(2) * x.unsqueeze(-1)
        state = torch.zeros_like(gain[:, 0])
        outputs = []
        for step in range(x.shape[1]):
            state = decay[:, step] * state + gain[:, step]
            outputs.append((state * c[:, step].unsqueeze(1)).sum(-1))
        return torch.stack(outputs, 1) + x * self.skip


class WindowAttention(nn.Module):
    """Shifted windows with a table of relative positions."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.table = nn.Parameter(torch.randn(49, 2))
        ys, xs = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
        spots = torch.stack([ys.flatten(), xs.flatten()])
        gap = spots[:, :, None] - spots[:, None] + 3
        self.register_buffer("index", gap[0] * 7 + gap[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, h, w, c = x.shape
        x = torch.roll(x, (-2, -2), (1, 2))
        x = x.view(n, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        q, k, v = self.qkv(x).reshape(-1, 16, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        bias = self.table[self.index.flatten()].view(16, 16, 2).permute(2, 0, 1)
        weights = (q * (c // 2) ** -0.5 @ k.transpose(-2, -1) + bias).softmax(-1)
        x = (weights @ v).transpose(1, 2).reshape(n, h // 4, w // 4, 4, 4, c)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        return torch.roll(x, (2, 2), (1, 2))


class Spectrogram(nn.Module):
    """Frames, a window, magnitudes by a matrix of sines, a filter bank, decibels."""

    def __init__(self) -> None:
        super().__init__()
        time, bins = torch.arange(16.0), torch.arange(9.0)
        angle = 2 * math.pi * torch.outer(time, bins) / 16
        self.register_buffer("real", angle.cos() * torch.hann_window(16)[:, None])
        self.register_buffer("imag", -angle.sin() * torch.hann_window(16)[:, None])
        self.register_buffer("bank", torch.rand(9, 5))

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        wave = F.pad(wave.unsqueeze(1), (8, 8), mode="reflect").squeeze(1)
        frames = wave.unfold(-1, 16, 8)
        power = (frames @ self.real) ** 2 + (frames @ self.imag) ** 2
        decibels = 10 * torch.log10(torch.clamp(power @ self.bank, min=1e-10))
        return torch.maximum(decibels, decibels.amax((-2, -1), keepdim=True) - 80)


class ComplexFilter(nn.Module):
    """A learned filter in the frequency domain, as in a global filter network."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 5, 3, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft2(x, dim=(1, 2), norm="ortho")
        spectrum = spectrum * torch.view_as_complex(self.weight)
        return torch.fft.irfft2(spectrum, s=(8, 8), dim=(1, 2), norm="ortho")


class GraphAttention(nn.Module):
    """Attention over the edges of an adjacency matrix; a node without edges is possible."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(4, 6, bias=False)
        self.left, self.right = nn.Linear(6, 1), nn.Linear(6, 1)

    def forward(self, nodes: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        h = self.project(nodes)
        scores = F.leaky_relu(self.left(h) + self.right(h).mT, 0.2)
        scores = torch.where(edges, scores, scores.new_tensor(-9e15))
        return F.elu(scores.softmax(-1) @ h)


class PointSet(nn.Module):
    """PointNet with a learned transformation, a max over the points, arg-max indices."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = nn.Sequential(nn.Conv1d(3, 8, 1), nn.BatchNorm1d(8), nn.ReLU())
        self.matrix = nn.Linear(8, 9)
        self.features = nn.Conv1d(3, 12, 1)

    def forward(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        matrix = self.matrix(self.transform(points).max(-1).values)
        matrix = matrix.view(-1, 3, 3) + torch.eye(3)
        features = self.features(torch.bmm(matrix, points))
        best, index = features.max(dim=2)
        return best, index


class FactorisationMachine(nn.Module):
    """Categories with offsets, their pairwise products, numbers beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offsets", torch.tensor([0, 20, 40]))
        self.embed, self.linear = nn.Embedding(60, 4), nn.Embedding(60, 1)
        self.deep = nn.Sequential(nn.Linear(12 + 5, 8), nn.PReLU(), nn.Linear(8, 1))

    def forward(self, *, ids: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        ids = ids + self.offsets
        e = self.embed(ids)
        pairs = 0.5 * (e.sum(1) ** 2 - (e**2).sum(1)).sum(1, keepdim=True)
        deep = self.deep(torch.cat([e.flatten(1), numbers], 1))
        return torch.sigmoid(self.linear(ids).sum(1) + pairs + deep).squeeze(-1)


class Hypernetwork(nn.Module):
    """A convolution whose kernel another network makes for each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Linear(5, 4 * 3 * 9)

    def forward(self, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        n = x.shape[0]
        kernels = self.make(code).view(n, 4, 27)
        patches = F.unfold(x, 3, padding=1)
        return torch.matmul(kernels, patches).view(n, 4, x.shape[2], x.shape[3])


class DynamicWeight(nn.Module):
    """Mixed experts by top-2 routing, scattered back into a dense weight."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(12, 4, bias=False)
        self.up = nn.Parameter(torch.randn(4, 12, 6) / 3)
        self.down = nn.Parameter(torch.randn(4, 6, 12) / 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores, chosen = self.gate(x).topk(2, -1)
        weights = torch.zeros(x.shape[0], 4, dtype=x.dtype).scatter(1, chosen, scores.softmax(-1))
        hidden = F.silu(torch.einsum("bi,eih->beh", x, self.up))
        return torch.einsum("be,beh,eho->bo", weights, hidden, self.down)


class Sinkhorn(nn.Module):
    """Optimal transport in logarithms, with a bin for what matches nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bin = nn.Parameter(torch.tensor(1.0))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        scores = torch.einsum("bdn,bdm->bnm", a, b) / a.shape[1] ** 0.5
        n, rows, columns = scores.shape
        side = self.bin.expand(n, rows, 1)
        scores = torch.cat([scores, side], -1)
        scores = torch.cat([scores, self.bin.expand(n, 1, columns + 1)], 1)
        u = scores.new_zeros(n, rows + 1)
        v = scores.new_zeros(n, columns + 1)
        for _ in range(3):
            u = -torch.logsumexp(scores + v[:, None], 2)
            v = -torch.logsumexp(scores + u[:, :, None], 1)
        return (scores + u[:, :, None] + v[:, None]).exp()


class SoftArgmax(nn.Module):
    """Key points as the expectation over a heat map, rounded pixels beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        heat = self.conv(x)
        n, k, h, w = heat.shape
        p = heat.view(n, k, -1).softmax(-1).view(n, k, h, w)
        xs = (p.sum(2) * torch.arange(w)).sum(-1)
        ys = (p.sum(3) * torch.arange(h)).sum(-1)
        flat = heat.flatten(2).argmax(-1)
        pixels = torch.stack([flat % w, torch.div(flat, w, rounding_mode="floor")], -1)
        return torch.stack([xs, ys], -1), pixels


class MultiScale(nn.Module):
    """Pooled at several sizes, resized back, concatenated: a pyramid pooling module."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({str(s): nn.Conv2d(6, 2, 1) for s in (1, 2, 3)})
        self.conv = nn.Conv2d(12, 4, 3, padding=1, padding_mode="replicate")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = [x]
        for size, conv in self.parts.items():
            y = conv(F.adaptive_avg_pool2d(x, int(size)))
            found.append(F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False))
        return self.conv(torch.cat(found, 1))


class ScaledHeads(nn.Module):
    """Weight-normed cosine classifier with a temperature, several heads in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.utils.parametrizations.weight_norm(nn.Linear(12, 8))
        self.classes = nn.ParameterDict(
            {"coarse": nn.Parameter(torch.randn(3, 8)), "fine": nn.Parameter(torch.randn(5, 8))}
        )
        self.temperature = nn.Parameter(torch.tensor(0.1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = F.normalize(self.body(x), dim=-1)
        scale = self.temperature.exp().clamp(max=100)
        return {
            name: scale * F.linear(y, F.normalize(weight, dim=-1))
            for name, weight in self.classes.items()
        }


class RunLength(nn.Module):
    """Integers alone: differences, shifts, comparisons and a cumulative count."""

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        changes = F.pad((tokens[:, 1:] != tokens[:, :-1]).long(), (1, 0), value=1)
        run = changes.cumsum(1)
        same = (run.unsqueeze(1) == run.unsqueeze(2)).sum(-1)
        return run, same, (tokens << 2) ^ (tokens >> 1), tokens.remainder(5) - 3


class BoxOverlap(nn.Module):
    """Intersection over union of all pairs, and the best partner of each."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a = torch.cat([a[..., :2] - a[..., 2:].abs(), a[..., :2] + a[..., 2:].abs()], -1)
        b = torch.cat([b[..., :2] - b[..., 2:].abs(), b[..., :2] + b[..., 2:].abs()], -1)
        low = torch.maximum(a[:, :, None, :2], b[:, None, :, :2])
        high = torch.minimum(a[:, :, None, 2:], b[:, None, :, 2:])
        shared = (high - low).clamp(min=0).prod(-1)
        sizes = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (a, b)]
        union = sizes[0][:, :, None] + sizes[1][:, None] - shared
        overlap = shared / union.clamp(min=1e-6)
        best = overlap.max(2)
        return overlap, torch.gather(b, 1, best.indices[..., None].expand(-1, -1, 4))


class Kalman(nn.Module):
    """A filter with a state of two numbers, small matrices, and a solved system."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("f", torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
        self.register_buffer("h", torch.tensor([[1.0, 0.0]]))
        self.noise = nn.Parameter(torch.tensor([0.1, 0.5]))

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        n = seen.shape[0]
        state = seen.new_zeros(n, 2, 1)
        spread = torch.eye(2).expand(n, 2, 2)
        found = []
        for value in seen.unbind(1):
            state = self.f @ state
            spread = self.f @ spread @ self.f.t() + torch.diag(self.noise)
            gain = spread @ self.h.t() / (self.h @ spread @ self.h.t() + 1.0)
            state = state + gain * (value.view(n, 1, 1) - self.h @ state)
            spread = spread - gain @ self.h @ spread
            found.append(state.squeeze(-1))
        return torch.stack(found, 1)


class Fourier(nn.Module):
    """A coordinate network: sines of a fixed random matrix, a skip, periodic activations."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.randn(2, 8))
        self.layers = nn.ModuleList([nn.Linear(16, 16), nn.Linear(32, 16), nn.Linear(16, 3)])

    def forward(self, xy: torch.Tensor) -> torch.Tensor:
        angle = 2 * math.pi * xy @ self.matrix
        encoded = torch.cat([angle.sin(), angle.cos()], -1)
        y = torch.sin(3 * self.layers[0](encoded))
        y = torch.sin(3 * self.layers[1](torch.cat([y, encoded], -1)))
        return torch.sigmoid(self.layers[2](y))


class HalfOpen(nn.Module):
    """Slices with steps, negative ones by flips, an ellipsis, None, an index of a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor([3, 0, 2]))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a = x[..., 1::2, -3:]
        b = x[:, self.order][:, :, None, ::3]
        c = x[:, -1:, :-1].flip(-1)
        d = torch.index_select(x, 2, self.order) * x.select(1, 0)[:, None, :3]
        e = x[:, [0, 1, 2], [2, 1, 0]]
        return a, b, c, d, e


class LayerScaleBlock(nn.Module):
    """A ConvNeXt block in channels-last order, with stochastic depth that is off."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 7, padding=3, groups=6)
        self.norm = nn.LayerNorm(6, eps=1e-6)
        self.up, self.down = nn.Linear(6, 24), nn.Linear(24, 6)
        self.grn = nn.Parameter(torch.randn(1, 1, 1, 24))
        self.scale = nn.Parameter(torch.full((6,), 0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(x).permute(0, 2, 3, 1))
        y = F.gelu(self.up(y))
        size = torch.linalg.vector_norm(y, dim=(1, 2), keepdim=True)
        y = self.grn * (y * size / (size.mean(-1, keepdim=True) + 1e-6)) + y
        y = F.dropout(self.down(y) * self.scale, 0.2, self.training)
        return x + y.permute(0, 3, 1, 2)


def _boxes(rng: np.random.Generator, n: int) -> list[Any]:
    return [rng.standard_normal((n, k, 4), np.float32) for k in (5, 3)]


def extend(add: Callable[..., None]) -> None:
    """Add every model of this file with `torch_models.add`."""
    boolean = torch.rand(2, 5, 5) > 0.4
    for name, build, example, options in [
        ("keyword-spotting", DepthwiseSeparable1d, [(6, 20)], {}),
        ("detector-dataclass", Detector, [(3, 16, 16)], {}),
        ("rotary-grouped-attention", RotaryAttention, [TOKENS], {}),
        ("spatial-transformer", SpatialTransformer, [(1, 16, 16)], {}),
        ("warp-by-flow", WarpByFlow, [(3, 8, 9), (2, 8, 9)], {}),
        (
            "translator-step",
            DecoderStep,
            [torch.tensor([3, 19]), (torch.randn(2, 8), torch.randn(2, 8)), torch.randn(2, 7, 8)],
            {},
        ),
        ("masked-tagger", PackedTagger, [TOKENS], {}),
        ("random-field", LinearChain, [(5, 6)], {}),
        ("vector-quantiser", VectorQuantiser, [(3, 9)], {}),
        ("selective-scan", SelectiveScan, [(5, 6)], {}),
        ("shifted-windows", WindowAttention, [(8, 8, 8)], {}),
        ("spectrogram", Spectrogram, [(64,)], {}),
        ("complex-filter", ComplexFilter, [(8, 8, 3)], {}),
        ("graph-attention", GraphAttention, [torch.randn(2, 5, 4), boolean], {}),
        ("point-set", PointSet, [(3, 10)], {}),
        (
            "factorisation-machine",
            FactorisationMachine,
            [],
            {"kwargs": {"ids": TOKENS[:, :3], "numbers": torch.randn(2, 5)}},
        ),
        ("hypernetwork", Hypernetwork, [(3, 6, 7), (5,)], {}),
        ("routed-experts", DynamicWeight, [(12,)], {}),
        ("sinkhorn", Sinkhorn, [(4, 5), (4, 6)], {}),
        ("soft-argmax", SoftArgmax, [(3, 8, 9)], {}),
        ("pyramid-pooling", MultiScale, [(6, 12, 15)], {}),
        ("heads-of-a-dict", ScaledHeads, [(12,)], {}),
        ("run-lengths", RunLength, [TOKENS], {}),
        ("box-overlap", BoxOverlap, [(5, 4), (3, 4)], {"draw": _boxes}),
        ("kalman", Kalman, [(6,)], {}),
        ("coordinate-network", Fourier, [(7, 2)], {}),
        ("slices", HalfOpen, [(4, 9)], {}),
        ("response-norm-block", LayerScaleBlock, [(6, 9, 9)], {}),
        (
            "spectrogram-length",
            Spectrogram,
            [torch.randn(2, 64)],
            {
                "dynamic": {"wave": {0: "batch", 1: "samples"}},
                "draw": lambda rng, n: [rng.standard_normal((n, 64 + 24 * n), np.float32)],
            },
        ),
        (
            "detector-sizes",
            Detector,
            [torch.randn(2, 3, 16, 16)],
            {
                "dynamic": {"image": {0: "batch", 2: "height", 3: "width"}},
                "draw": lambda rng, n: [rng.standard_normal((n, 3, 8 + 4 * n, 20), np.float32)],
            },
        ),
        (
            "rotary-length",
            RotaryAttention,
            [TOKENS],
            {
                "dynamic": {"tokens": {0: "batch", 1: "length"}},
                "draw": lambda rng, n: [rng.integers(0, 20, (n, 3 + n))],
            },
        ),
        ("selective-scan-fixed", SelectiveScan, [torch.randn(2, 5, 6)], {"fixed": True}),
    ]:
        add(KIND, f"stranger:{name}", build, example, **options)
