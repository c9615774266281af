"""Small PyTorch models of every kind; `torch_zoo` adds those of other packages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils import _pytree as pytree

from tests.studies.exports.case import Array, Case

Example = Sequence[Any]
Dynamic = Mapping[str, Mapping[int, str]]

T = torch.tensor


class Call(nn.Module):
    """A function of named parts as a module."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *args: Any) -> Any:
        return self.function(self, *args)


class TorchModel:
    """A module with an example; see `case.Model`."""

    def __init__(
        self,
        module: nn.Module,
        example: Example,
        *,
        kwargs: Mapping[str, Any] | None = None,
        dynamic: Dynamic | None = None,
        fixed: bool = False,
        batches: Sequence[int] | None = None,
        draw: Callable[[np.random.Generator, int], list[Array]] | None = None,
        half: bool = False,
    ) -> None:
        self.module = calibrated(module)
        self.example, self.kwargs = example, dict(kwargs or {})
        self.dynamic, self.fixed = dynamic, fixed
        self.batches = batches or ((2,) if fixed else (1, 2, 3))
        self.tolerance = 3e-2 if half else 1e-3
        self.fallback: tuple[str, ...] = ()
        self._draw = draw
        shapes = pytree.tree_map(self._to_tensor, list(example), is_leaf=self._is_shape)
        self.args = tuple(shapes)
        self.leaves = pytree.tree_leaves((self.args, self.kwargs))

    @staticmethod
    def _is_shape(item: Any) -> bool:
        return isinstance(item, tuple) and all(type(size) is int for size in item)

    def _to_tensor(self, item: Any) -> Any:
        if not self._is_shape(item):
            return item
        floating = [p.dtype for p in self.module.parameters() if p.dtype.is_floating_point]
        return torch.randn((2, *item)).to(floating[0] if floating else torch.float32)

    def _axis(self, position: int) -> int | None:
        """Return the batch axis of a tensor by its position, as the exporter is told."""
        if self.fixed:
            return None
        if self.dynamic is not None:
            names = list(self.dynamic)
            if position < len(names):
                axes = [a for a, size in self.dynamic[names[position]].items() if size == "batch"]
                return axes[0] if axes else None
        return 0

    def draw(self, batch: int, seed: int) -> list[Array]:
        rng = np.random.default_rng(seed)
        if self._draw is not None:
            return self._draw(rng, batch)
        arrays = []
        tensors = [leaf for leaf in self.leaves if isinstance(leaf, torch.Tensor)]
        for position, tensor in enumerate(tensors):
            shape, axis = list(tensor.shape), self._axis(position)
            if axis is not None and tensor.ndim:
                shape[axis] = batch
            if tensor.dtype.is_floating_point:
                values = torch.from_numpy(rng.standard_normal(shape, np.float32)).to(tensor.dtype)
                arrays.append(values.numpy())
            else:
                low, high = int(tensor.min()), int(tensor.max())
                kind = np.bool_ if tensor.dtype == torch.bool else tensor.numpy().dtype
                arrays.append(rng.integers(low, high, shape, endpoint=True).astype(kind))
        return arrays

    def arguments(self, arrays: Sequence[Array]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        values = iter(arrays)
        leaves, structure = pytree.tree_flatten((self.args, self.kwargs))
        filled = [
            torch.from_numpy(np.ascontiguousarray(next(values)))
            if isinstance(leaf, torch.Tensor)
            else leaf
            for leaf in leaves
        ]
        args, kwargs = pytree.tree_unflatten(filled, structure)
        return tuple(args), kwargs

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        args, kwargs = self.arguments(inputs)
        # A module may change its buffers: a file is of those that it was exported with.
        before = {name: tensor.clone() for name, tensor in self.module.named_buffers()}
        with torch.no_grad():
            result = self.module(*args, **kwargs)
            for name, tensor in self.module.named_buffers():
                tensor.copy_(before[name])
        return [
            tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
            for tensor in tensors_of(result)
        ]

    def export(self, path: Path) -> Any:
        from exporters import torch_onnx
        from exporters.torch import trace

        decompose = trace.decompose

        def recording(program: Any, registry: Any, lacking: Sequence[str]) -> Any:
            self.fallback = tuple(lacking)
            return decompose(program, registry, lacking)

        with mock.patch.object(trace, "decompose", recording):
            return torch_onnx.export(
                self.module,
                self.example,
                path,
                kwargs=self.kwargs,
                dynamic=self.dynamic,
                fixed_batch=self.fixed,
            )

    def check_names(self, path: Path) -> str:
        """Return nothing: the names of outputs have tests of their own."""
        return ""

    def rivals(self) -> Mapping[str, Callable[[Path], None]]:
        return {"torch.onnx": self._torch_onnx}

    def _torch_onnx(self, path: Path) -> None:
        import inspect

        dims = {"batch": torch.export.Dim("batch")}
        specs = []
        position = 0
        for leaf in self.leaves:
            if not isinstance(leaf, torch.Tensor):
                specs.append(None)
                continue
            names = list(self.dynamic or {})
            if self.fixed or not leaf.ndim:
                axes: Mapping[int, str] = {}
            elif self.dynamic is not None and position < len(names):
                axes = self.dynamic[names[position]]
            else:
                axes = {0: "batch"}
            specs.append({a: dims.setdefault(n, torch.export.Dim.DYNAMIC) for a, n in axes.items()})
            position += 1
        structure = pytree.tree_structure((self.args, self.kwargs))
        args, kwargs = pytree.tree_unflatten(specs, structure)
        bound = inspect.signature(self.module.forward).bind(*args, **kwargs)
        twice = [
            torch.cat([t, t], a)
            if (a := self._axis(i)) is not None and t.ndim and t.shape[a] == 1
            else t
            for i, t in enumerate(x for x in self.leaves if isinstance(x, torch.Tensor))
        ]
        tensors = iter(twice)
        leaves = [next(tensors) if isinstance(leaf, torch.Tensor) else leaf for leaf in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, structure)
        program = torch.onnx.export(
            self.module,
            tuple(args),
            kwargs=kwargs,
            dynamo=True,
            verbose=False,
            dynamic_shapes=dict(bound.arguments),
        )
        program.save(str(path))


def tensors_of(result: Any) -> list[torch.Tensor]:
    """Return the tensors of a module's result, in the order it gives them."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, Mapping):
        return [t for value in result.values() for t in tensors_of(value)]
    if dataclasses.is_dataclass(result):
        parts = [getattr(result, part.name) for part in dataclasses.fields(result)]
        return [t for value in parts for t in tensors_of(value)]
    if isinstance(result, list | tuple):
        return [t for value in result for t in tensors_of(value)]
    return []


def calibrated(module: nn.Module) -> nn.Module:
    """Give batch-norms statistics and affine parts of their own: the defaults do nothing."""
    generator = torch.Generator().manual_seed(0)
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and child.running_mean is not None:
            child.running_mean.normal_(generator=generator).mul_(0.1)
            child.running_var.uniform_(0.5, 2, generator=generator)
            if child.weight is not None:
                with torch.no_grad():
                    child.weight.uniform_(0.5, 1.5, generator=generator)
                    child.bias.normal_(generator=generator).mul_(0.1)
    return module.eval()


CASES: list[Case] = []


def add(
    kind: str,
    name: str,
    build: Callable[[], nn.Module],
    example: Example,
    *,
    random: bool = False,
    **options: Any,
) -> None:
    """Add a model: `build` is called with the seed 0 set."""

    def make() -> TorchModel:
        torch.manual_seed(0)
        return TorchModel(build(), example, **options)

    CASES.append(Case(name, kind, make, random))


def f(kind: str, name: str, function: Callable[..., Any], example: Example, **options: Any) -> None:
    """Add a function as a model without weights."""
    add(kind, name, lambda: Call(lambda _, *args: function(*args)), example, **options)


IMAGE = [(3, 16, 16)]
ROW = [(12,)]
TOKENS = [T([[1, 2, 3, 4, 0], [5, 6, 7, 19, 2]])]

# Layers.
for _name, _build, _example in [
    ("linear", lambda: nn.Linear(12, 5), ROW),
    ("linear-3d", lambda: nn.Linear(12, 5), [(4, 12)]),
    ("linear-no-bias", lambda: nn.Linear(12, 5, bias=False), [(4, 12)]),
    ("bilinear", lambda: Call(lambda m, a, b: m.b(a, b), b=nn.Bilinear(4, 5, 3)), [(4,), (5,)]),
    ("conv1d", lambda: nn.Conv1d(3, 6, 3, 2, 1), [(3, 20)]),
    ("conv2d", lambda: nn.Conv2d(3, 6, 3, 2, 1), IMAGE),
    ("conv2d-same-even", lambda: nn.Conv2d(3, 6, 4, padding="same"), IMAGE),
    ("conv2d-dilated", lambda: nn.Conv2d(3, 6, 3, dilation=2, padding="valid"), IMAGE),
    ("conv2d-reflect", lambda: nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect"), IMAGE),
    ("conv2d-circular", lambda: nn.Conv2d(3, 6, 3, padding=1, padding_mode="circular"), IMAGE),
    ("conv2d-replicate", lambda: nn.Conv2d(3, 6, 3, padding=1, padding_mode="replicate"), IMAGE),
    ("conv2d-depthwise", lambda: nn.Conv2d(4, 8, 3, groups=4), [(4, 10, 10)]),
    ("conv3d", lambda: nn.Conv3d(2, 4, 3, groups=2), [(2, 6, 8, 8)]),
    ("conv-transpose1d", lambda: nn.ConvTranspose1d(3, 6, 4, 2, 1), [(3, 10)]),
    ("conv-transpose2d", lambda: nn.ConvTranspose2d(3, 6, 3, 2, 1, output_padding=1), IMAGE),
    ("conv-transpose-groups", lambda: nn.ConvTranspose2d(4, 8, 2, 3, groups=2), [(4, 6, 6)]),
    ("conv-transpose3d", lambda: nn.ConvTranspose3d(2, 3, 2, 2), [(2, 3, 4, 4)]),
    ("batch-norm1d", lambda: nn.BatchNorm1d(12), ROW),
    ("batch-norm2d", lambda: nn.BatchNorm2d(3), IMAGE),
    ("batch-norm-no-affine", lambda: nn.BatchNorm2d(3, affine=False), IMAGE),
    ("batch-norm-no-stats", lambda: nn.BatchNorm2d(3, track_running_stats=False), IMAGE),
    ("batch-norm3d", lambda: nn.BatchNorm3d(2), [(2, 3, 4, 4)]),
    ("group-norm", lambda: nn.GroupNorm(2, 4), [(4, 6, 6)]),
    ("instance-norm", lambda: nn.InstanceNorm2d(3, affine=True), IMAGE),
    ("instance-norm1d", lambda: nn.InstanceNorm1d(3), [(3, 9)]),
    ("layer-norm", lambda: nn.LayerNorm((4, 12)), [(4, 12)]),
    ("layer-norm-no-affine", lambda: nn.LayerNorm(12, elementwise_affine=False), [(4, 12)]),
    ("rms-norm", lambda: nn.RMSNorm(12), [(4, 12)]),
    ("local-response-norm", lambda: nn.LocalResponseNorm(3), IMAGE),
    ("weight-norm", lambda: nn.utils.parametrizations.weight_norm(nn.Linear(12, 5)), ROW),
    ("spectral-norm", lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(12, 5)), ROW),
    ("max-pool", lambda: nn.MaxPool2d(3, 2, 1), IMAGE),
    ("max-pool-ceil", lambda: nn.MaxPool2d(3, 2, ceil_mode=True), IMAGE),
    ("max-pool-dilated", lambda: nn.MaxPool2d(2, 1, dilation=2), IMAGE),
    ("max-pool1d", lambda: nn.MaxPool1d(3, 2), [(3, 11)]),
    ("max-pool3d", lambda: nn.MaxPool3d(2), [(2, 4, 4, 4)]),
    ("max-pool-indices", lambda: nn.MaxPool2d(2, return_indices=True), IMAGE),
    ("avg-pool", lambda: nn.AvgPool2d(3, 2, 1), IMAGE),
    ("avg-pool-exclude", lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGE),
    ("avg-pool-divisor", lambda: nn.AvgPool2d(2, divisor_override=3), IMAGE),
    ("avg-pool-ceil", lambda: nn.AvgPool2d(3, 2, ceil_mode=True), IMAGE),
    ("avg-pool1d", lambda: nn.AvgPool1d(3), [(3, 12)]),
    ("avg-pool3d", lambda: nn.AvgPool3d(2), [(2, 4, 4, 4)]),
    ("lp-pool", lambda: nn.LPPool2d(2, 3), IMAGE),
    ("adaptive-avg-2d", lambda: nn.AdaptiveAvgPool2d(4), IMAGE),
    ("adaptive-avg-2d-uneven", lambda: nn.AdaptiveAvgPool2d((5, 3)), IMAGE),
    ("adaptive-avg-1", lambda: nn.AdaptiveAvgPool2d(1), IMAGE),
    ("adaptive-avg-1-of-3d", lambda: nn.AdaptiveAvgPool2d(1), [(8, 8)]),
    ("adaptive-avg-1d", lambda: nn.AdaptiveAvgPool1d(1), [(3, 12)]),
    ("adaptive-avg-3d", lambda: nn.AdaptiveAvgPool3d(1), [(2, 4, 4, 4)]),
    ("adaptive-max", lambda: nn.AdaptiveMaxPool2d(1), IMAGE),
    ("adaptive-max-4", lambda: nn.AdaptiveMaxPool2d(4), IMAGE),
    ("unpool-free-pad", lambda: nn.ZeroPad2d((1, 2, 0, 3)), IMAGE),
    ("reflection-pad", lambda: nn.ReflectionPad2d(2), IMAGE),
    ("constant-pad", lambda: nn.ConstantPad1d((2, 1), 0.5), [(3, 8)]),
    ("pixel-shuffle", lambda: nn.PixelShuffle(2), [(8, 4, 4)]),
    ("pixel-unshuffle", lambda: nn.PixelUnshuffle(2), [(2, 8, 8)]),
    ("channel-shuffle", lambda: nn.ChannelShuffle(2), [(4, 5, 5)]),
    ("fold", lambda: nn.Fold((6, 6), 2, stride=2), [(12, 9)]),
    ("unfold", lambda: nn.Unfold(3, stride=2), IMAGE),
    ("upsample-nearest", lambda: nn.Upsample(scale_factor=2), IMAGE),
    ("upsample-bilinear", lambda: nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE),
    ("upsample-bilinear-size", lambda: nn.Upsample((23, 29), mode="bilinear"), IMAGE),
    ("upsample-corners", lambda: nn.Upsample(31, mode="bilinear", align_corners=True), IMAGE),
    ("upsample-bicubic", lambda: nn.Upsample(scale_factor=2, mode="bicubic"), IMAGE),
    ("upsample-odd-scale", lambda: nn.Upsample(scale_factor=1.7, mode="bilinear"), IMAGE),
    ("upsample-linear", lambda: nn.Upsample(scale_factor=2, mode="linear"), [(3, 8)]),
    ("upsample-trilinear", lambda: nn.Upsample(scale_factor=2, mode="trilinear"), [(2, 3, 4, 4)]),
    ("dropout-eval", lambda: nn.Sequential(nn.Dropout(), nn.Linear(12, 3), nn.Dropout2d()), ROW),
    ("embedding", lambda: nn.Embedding(20, 6), TOKENS),
    ("embedding-padding", lambda: nn.Embedding(20, 6, padding_idx=0), TOKENS),
    ("embedding-bag", lambda: nn.EmbeddingBag(20, 6), TOKENS),
    ("embedding-bag-sum", lambda: nn.EmbeddingBag(20, 6, mode="sum"), TOKENS),
    ("embedding-bag-max", lambda: nn.EmbeddingBag(20, 6, mode="max"), TOKENS),
    (
        "cosine-similarity",
        lambda: Call(lambda m, a, b: m.c(a, b), c=nn.CosineSimilarity()),
        [(6,), (6,)],
    ),
    (
        "pairwise-distance",
        lambda: Call(lambda m, a, b: m.c(a, b), c=nn.PairwiseDistance()),
        [(6,), (6,)],
    ),
]:
    add("layer", _name, _build, _example)

# Activations.
for _activation in (
    nn.ReLU(),
    nn.ReLU6(),
    nn.LeakyReLU(0.2),
    nn.ELU(0.7),
    nn.CELU(0.6),
    nn.SELU(),
    nn.GELU(),
    nn.GELU(approximate="tanh"),
    nn.SiLU(),
    nn.Mish(),
    nn.Hardswish(),
    nn.Hardsigmoid(),
    nn.Hardtanh(-2, 2),
    nn.Hardshrink(),
    nn.Softshrink(),
    nn.Tanhshrink(),
    nn.Softplus(2),
    nn.Softsign(),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.LogSigmoid(),
    nn.Softmax(1),
    nn.LogSoftmax(1),
    nn.Softmin(1),
    nn.Threshold(0.1, 20),
    nn.GLU(1),
    nn.PReLU(12),
    nn.RReLU(),
):
    _label = str(_activation).lower().replace(" ", "")
    add("activation", _label, lambda a=_activation: nn.Sequential(nn.Linear(12, 12), a), ROW)
    _kind = type(_activation)
    if "inplace" in _kind.__init__.__annotations__ and _kind is not nn.Threshold:
        add(
            "in place",
            f"{_kind.__name__.lower()}-inplace",
            lambda a=_kind: nn.Sequential(
                nn.Conv2d(3, 4, 3), a(inplace=True), nn.Conv2d(4, 4, 3), a(inplace=True)
            ),
            IMAGE,
        )


def _residual() -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.norm(m.conv(x))
        y += x
        y = F.relu_(y)
        z = m.conv(y)
        z *= 0.5
        z -= y
        z.clamp_(-2, 2)
        return F.relu(z.flatten(1), inplace=True)

    return Call(forward, conv=nn.Conv2d(3, 3, 3, padding=1), norm=nn.BatchNorm2d(3))


def _view_then_change() -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.lin(x)
        first = y[:, :3]
        first.mul_(2)
        y += 1
        return torch.cat([y, first], 1)

    return Call(forward, lin=nn.Linear(12, 6))


def _change_then_view() -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.lin(x)
        flat = y.reshape(-1)
        y.add_(1)
        return flat.reshape(-1, 6) * y

    return Call(forward, lin=nn.Linear(12, 6))


def _counter() -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = x - m.center
        m.center.mul_(0.9).add_(0.1 * x.mean(0))
        return y

    return Call(forward, center=torch.zeros(12))


def _masked_in_place(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[y < 0] = 0.25
    y[:, 1] = 7
    y[:, 2:4] += 1
    return y


add("in place", "residual-inplace", _residual, [(3, 8, 8)])
add("in place", "view-then-change", _view_then_change, ROW)
add("in place", "change-then-view", _change_then_view, ROW)
add("in place", "buffer-counter", _counter, ROW)
f("in place", "masked-assignment", _masked_in_place, ROW)
f("in place", "changes-its-input", lambda x: x.clone().mul_(2).add_(1), ROW)

# Functions of tensors.
for _name, _function, _example in [
    ("floor-divide-float", lambda i: i.float() // 0.7, [T([[-139, 5, 7], [9, 3, 120]])]),
    ("floor-divide-int", lambda i: i // 3, [T([[-139, 5, 7], [9, 3, 120]])]),
    ("remainder-int", lambda i: i % 5, [T([[-139, 5, 7], [9, 3, 120]])]),
    ("remainder-float", lambda x: x % 0.7, ROW),
    ("fmod", lambda x: torch.fmod(x, 0.7), ROW),
    (
        "floor-divide-trunc",
        lambda i: torch.div(i, 4, rounding_mode="trunc"),
        [T([[-139, 5, 7], [9, 3, 120]])],
    ),
    ("true-divide-int", lambda i: i / 4, [T([[-139, 5, 7], [9, 3, 120]])]),
    ("round", lambda x: torch.round(x * 2), ROW),
    ("round-decimals", lambda x: torch.round(x, decimals=1), ROW),
    ("trunc-frac", lambda x: torch.trunc(x) + torch.frac(x), ROW),
    ("argmax", lambda x: x.argmax(1), ROW),
    ("argmin", lambda x: x.argmin(1, keepdim=True), ROW),
    ("max-with-index", lambda x: tuple(x.max(1)), ROW),
    ("topk", lambda x: tuple(x.topk(3, 1)), ROW),
    ("sort", lambda x: tuple(x.sort(1, descending=True)), ROW),
    ("argsort", lambda x: x.argsort(1), ROW),
    ("cumsum", lambda x: x.cumsum(1), ROW),
    ("cumprod", lambda x: x.cumprod(1), ROW),
    ("logcumsumexp", lambda x: x.logcumsumexp(1), ROW),
    ("flip", lambda x: x.flip(1), ROW),
    ("roll", lambda x: x.roll(2, 1), ROW),
    ("where", lambda x: torch.where(x > 0, x, x.exp()), ROW),
    ("masked-fill", lambda x: x.masked_fill(x > 1, -1.0), ROW),
    ("clamp", lambda x: x.clamp(-0.5, 0.5), ROW),
    ("clamp-min-tensor", lambda x: torch.maximum(x, x.mean(1, keepdim=True)), ROW),
    ("einsum", lambda x: torch.einsum("bij,bkj->bik", x, x), [(3, 5)]),
    ("einsum-diagonal", lambda x: torch.einsum("bii->b", x), [(4, 4)]),
    ("bmm", torch.bmm, [(3, 4), (4, 2)]),
    ("baddbmm", lambda x, y: torch.baddbmm(x @ y, x, y, beta=0.5), [(3, 4), (4, 2)]),
    ("outer", lambda x: x[:, :, None] * x[:, None, :], ROW),
    ("norm", lambda x: x.norm(dim=1), ROW),
    ("norm-1", lambda x: torch.linalg.vector_norm(x, 1, dim=1), ROW),
    ("normalize", lambda x: F.normalize(x, dim=1), ROW),
    ("logsumexp", lambda x: x.logsumexp(1), ROW),
    ("var", lambda x: x.var(1), ROW),
    ("std-mean", lambda x: tuple(torch.std_mean(x, 1)), ROW),
    ("var-unbiased-false", lambda x: x.var(1, unbiased=False), ROW),
    ("prod", lambda x: x.prod(1), ROW),
    ("any-all", lambda x: ((x > 1).any(1), (x > -1).all(1)), ROW),
    ("gather", lambda x, i: x.gather(1, i), [(5,), T([[1, 2, 0], [4, 3, 1]])]),
    ("index-select", lambda x: x[:, [3, 1, 1]], ROW),
    ("index-by-input", lambda x, i: x[torch.arange(x.shape[0]), i], [(5,), T([1, 4])]),
    ("negative-index", lambda x: x[:, -3:-1] + x[:, ::2][:, :2], ROW),
    (
        "scatter",
        lambda x, i: torch.zeros_like(x).scatter(1, i, x),
        [(5,), T([[1, 2, 0, 3, 4]] * 2)],
    ),
    (
        "scatter-add",
        lambda x, i: torch.zeros_like(x).scatter_add(1, i, x),
        [(3,), T([[1, 1, 0], [2, 2, 1]])],
    ),
    ("one-hot", lambda i: F.one_hot(i, 6).float(), [T([[1, 2, 0], [4, 3, 5]])]),
    ("tril", lambda x: x.tril(), [(4, 4)]),
    ("triu", lambda x: x.triu(1), [(4, 4)]),
    ("diag-embed", torch.diag_embed, [(4,)]),
    ("diagonal", lambda x: x.diagonal(dim1=1, dim2=2), [(4, 4)]),
    (
        "meshgrid",
        lambda x: (
            x + torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")).sum(0)
        ),
        [(4, 4)],
    ),
    (
        "split-unequal",
        lambda x: tuple(p * (k + 1) for k, p in enumerate(x.split([2, 3, 7], 1))),
        ROW,
    ),
    (
        "split-unequal-sum",
        lambda x: sum(p.sum(1) * k for k, p in enumerate(x.split([2, 3, 7], 1))),
        ROW,
    ),
    ("chunk", lambda x: torch.cat(x.chunk(5, 1)[::-1], 1), ROW),
    ("unbind", lambda x: torch.stack(x.unbind(1)[::-1], 1), [(3, 4)]),
    ("stack", lambda x: torch.stack([x, -x], 1), ROW),
    ("repeat", lambda x: x.repeat(1, 3), ROW),
    ("repeat-interleave", lambda x: x.repeat_interleave(2, 1), ROW),
    ("expand", lambda x: x[:, None].expand(-1, 3, -1), ROW),
    ("permute", lambda x: x.permute(0, 3, 1, 2), [(3, 4, 5)]),
    ("movedim", lambda x: x.movedim(1, 3), [(3, 4, 5)]),
    ("squeeze-trailing", lambda x: x.mean(1, keepdim=True).squeeze(-1), ROW),
    ("squeeze-all", lambda x: x[:, :, None].sum(1).squeeze(1), ROW),
    ("unflatten", lambda x: x.unflatten(1, (3, 4)).sum(2), ROW),
    ("reshape-batch", lambda x: x.reshape(-1, 4).sum(1).reshape(x.shape[0], 3), ROW),
    ("unfold-tensor", lambda x: x.unfold(1, 4, 2), ROW),
    ("as-strided-free", lambda x: x.view(x.size(0), 2, 6).transpose(1, 2).contiguous(), ROW),
    ("rfft-abs", lambda x: torch.fft.rfft(x).abs(), [(16,)]),
    ("rfft2-abs", lambda x: torch.fft.rfft2(x).abs(), [(8, 8)]),
    ("fft-real", lambda x: torch.fft.fft(x).real, [(16,)]),
    ("erf-erfc", lambda x: torch.erf(x) + torch.erfc(x), ROW),
    ("special", lambda x: torch.expm1(x) + torch.log1p(x.abs()), ROW),
    ("trigonometry", lambda x: torch.atan2(x, x.cos()) + x.sinh() + x.asinh(), ROW),
    ("sign-abs", lambda x: x.sign() * x.abs().sqrt() + x.rsqrt().nan_to_num(0, 0, 0), ROW),
    ("pow", lambda x: x.abs() ** 1.5 + x**2 + 2**x, ROW),
    ("logit", lambda x: torch.logit(x.sigmoid(), 1e-4), ROW),
    ("addcmul", lambda x: torch.addcmul(x, x, x, value=0.3) + torch.lerp(x, -x, 0.2), ROW),
    ("cross", torch.linalg.cross, [(3,), (3,)]),
    ("cdist", torch.cdist, [(4, 3), (5, 3)]),
    ("det-2x2", lambda x: x[:, 0, 0] * x[:, 1, 1] - x[:, 0, 1] * x[:, 1, 0], [(2, 2)]),
    ("bool-out", lambda x: x > 0, ROW),
    ("bitwise", lambda i: (i & 6) | 1, [T([[1, 2, 0], [4, 3, 5]])]),
    ("logical", lambda x, y: torch.logical_xor(x > 0, y > 0), [(4,), (4,)]),
    ("isnan", lambda x: torch.nan_to_num(torch.where(x > 0, x, torch.nan)), ROW),
    ("bucketize", lambda x: torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0])), ROW),
    ("type-mix", lambda x, i: x * i + i.to(torch.int32), [(3,), T([[1, 2, 0], [4, 3, 5]])]),
    ("double-inside", lambda x: (x.double() * 3).float(), ROW),
    ("constant-output", lambda x: (x * 2, torch.arange(4).float()), ROW),
    ("input-is-output", lambda x: (x, x + 1), ROW),
    ("same-output-twice", lambda x: (y := x * 2, y), ROW),
    ("len-of-batch", lambda x: x.sum(0, keepdim=True).expand(len(x), -1) / len(x), ROW),
    ("batch-mean", lambda x: x - x.mean(0), ROW),
    ("batch-gram", lambda x: x @ x.T, ROW),
    ("mean-over-batch", lambda x: x.mean(0), ROW),
    ("three-rows-always", lambda x: x.sum(0).reshape(3, 4), ROW),
    ("new-zeros", lambda x: torch.cat([x.new_zeros(x.shape[0], 2), x], 1), ROW),
    (
        "grid-sample-of-input",
        lambda x, g: F.grid_sample(x, g.tanh(), align_corners=False),
        [(2, 5, 5), (3, 3, 2)],
    ),
    (
        "interpolate-to-other",
        lambda x, y: F.interpolate(x, y.shape[-2:], mode="bilinear"),
        [(2, 5, 5), (2, 11, 9)],
    ),
    ("interpolate-area", lambda x: F.interpolate(x, (4, 4), mode="area"), IMAGE),
    ("sdpa", lambda q, k: F.scaled_dot_product_attention(q, k, k), [(2, 5, 4), (2, 7, 4)]),
    ("sdpa-causal", lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True), [(2, 5, 4)]),
    (
        "sdpa-mask-masked-rows",
        lambda q, m: F.scaled_dot_product_attention(q, q, q, m),
        [(2, 3, 4), torch.tensor([[[[True, False, True], [False] * 3, [True] * 3]]] * 2)],
    ),
    (
        "sdpa-float-mask",
        lambda q, m: F.scaled_dot_product_attention(q, q, q, m),
        [(2, 3, 4), (1, 3, 3)],
    ),
    ("sdpa-scale", lambda q: F.scaled_dot_product_attention(q, q, q, scale=0.1), [(2, 5, 4)]),
]:
    f("function", _name, _function, _example)


# Attention and transformers.
def _mha(**options: Any) -> Callable[..., nn.Module]:
    return lambda: nn.MultiheadAttention(16, 4, batch_first=True, **options)


add("attention", "mha-self", lambda: Call(lambda m, x: m.a(x, x, x)[0], a=_mha()()), [(5, 16)])
add("attention", "mha-weights", lambda: Call(lambda m, x: m.a(x, x, x), a=_mha()()), [(5, 16)])
add(
    "attention",
    "mha-cross",
    lambda: Call(lambda m, q, k: m.a(q, k, k)[0], a=_mha()()),
    [(5, 16), (7, 16)],
)
add(
    "attention",
    "mha-cross-no-bias",
    lambda: Call(lambda m, q, k: m.a(q, k, k)[0], a=_mha(bias=False)()),
    [(5, 16), (7, 16)],
)
add(
    "attention",
    "mha-kdim",
    lambda: Call(lambda m, q, k: m.a(q, k, k)[0], a=_mha(kdim=8, vdim=8)()),
    [(5, 16), (7, 8)],
)
add(
    "attention",
    "mha-padding",
    lambda: Call(
        lambda m, x, p: m.a(x, x, x, key_padding_mask=p, need_weights=False)[0], a=_mha()()
    ),
    [(4, 16), torch.tensor([[False, False, True, True], [False] * 4])],
    draw=lambda rng, n: [
        rng.standard_normal((n, 4, 16), np.float32),
        np.stack([np.arange(4) > 1 + k % 3 for k in range(n)]),
    ],
)
add(
    "attention",
    "encoder-layer",
    lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True),
    [(5, 16)],
)
add(
    "attention",
    "encoder-norm-first",
    lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True),
    [(5, 16)],
)
add(
    "attention",
    "encoder",
    lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2),
    [(5, 16)],
)
add(
    "attention",
    "decoder-layer",
    lambda: nn.TransformerDecoderLayer(16, 4, 32, batch_first=True),
    [(5, 16), (7, 16)],
)
add(
    "attention",
    "decoder",
    lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 32, batch_first=True), 2),
    [(5, 16), (7, 16)],
)
add(
    "attention",
    "transformer",
    lambda: nn.Transformer(16, 4, 1, 1, 32, batch_first=True),
    [(5, 16), (4, 16)],
)
add(
    "attention",
    "transformer-causal",
    lambda: Call(
        lambda m, s, t: m.t(
            s, t, tgt_mask=nn.Transformer.generate_square_subsequent_mask(t.shape[1])
        ),
        t=nn.Transformer(16, 4, 1, 1, 32, batch_first=True),
    ),
    [(5, 16), (4, 16)],
)
add(
    "attention",
    "time-first-encoder",
    lambda: nn.TransformerEncoderLayer(16, 4, 32),
    [torch.randn(5, 2, 16)],
    dynamic={"src": {1: "batch"}},
)
add(
    "attention",
    "unequal-qkv",
    lambda: Call(
        lambda m, x: (lambda q, k, v: (q @ k.transpose(1, 2)).softmax(-1) @ v)(
            *m.qkv(x).split([4, 4, 8], dim=2)
        ),
        qkv=nn.Linear(12, 16),
    ),
    [(5, 12)],
)

# Recurrent layers.
for _cell in ("RNN", "LSTM", "GRU"):
    _layer = getattr(nn, _cell)
    add(
        "recurrent",
        f"{_cell.lower()}",
        lambda c=_layer: Call(lambda m, x: m.r(x)[0], r=c(5, 8, batch_first=True)),
        [(6, 5)],
    )
    add(
        "recurrent", f"{_cell.lower()}-states", lambda c=_layer: c(5, 8, batch_first=True), [(6, 5)]
    )
    add(
        "recurrent",
        f"{_cell.lower()}-bidirectional-2",
        lambda c=_layer: c(5, 8, 2, batch_first=True, bidirectional=True),
        [(6, 5)],
    )
    add(
        "recurrent",
        f"{_cell.lower()}-time-first",
        lambda c=_layer: c(5, 8),
        [torch.randn(6, 2, 5)],
        dynamic={"input": {1: "batch"}},
    )
add(
    "recurrent",
    "lstm-h0",
    lambda: nn.LSTM(5, 8),
    [torch.randn(6, 2, 5), [torch.randn(1, 2, 8), torch.randn(1, 2, 8)]],
    dynamic={"input": {1: "batch"}, "hx_0": {1: "batch"}, "hx_1": {1: "batch"}},
)
add(
    "recurrent",
    "gru-h0",
    lambda: nn.GRU(5, 8),
    [torch.randn(6, 2, 5), torch.randn(1, 2, 8)],
    dynamic={"input": {1: "batch"}, "hx": {1: "batch"}},
)
add("recurrent", "lstm-proj", lambda: nn.LSTM(5, 8, batch_first=True, proj_size=3), [(6, 5)])
add("recurrent", "lstm-no-bias", lambda: nn.LSTM(5, 8, batch_first=True, bias=False), [(6, 5)])
add("recurrent", "rnn-relu", lambda: nn.RNN(5, 8, batch_first=True, nonlinearity="relu"), [(6, 5)])
add(
    "recurrent",
    "lstm-cell",
    lambda: Call(lambda m, x, h, c: m.r(x, (h, c)), r=nn.LSTMCell(5, 8)),
    [(5,), (8,), (8,)],
)
add(
    "recurrent",
    "gru-cell",
    lambda: Call(lambda m, x, h: m.r(x, h), r=nn.GRUCell(5, 8)),
    [(5,), (8,)],
)


def _seq2seq() -> nn.Module:
    def forward(m: Any, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        _, state = m.encoder(m.embed(source))
        result, _ = m.decoder(m.embed(target), state)
        return m.head(result)

    return Call(
        forward,
        embed=nn.Embedding(20, 6),
        encoder=nn.GRU(6, 8, batch_first=True),
        decoder=nn.GRU(6, 8, batch_first=True),
        head=nn.Linear(8, 20),
    )


def _unrolled() -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        h = x.new_zeros(x.shape[0], 8)
        for t in range(x.shape[1]):
            h = m.cell(x[:, t], h)
        return h

    return Call(forward, cell=nn.GRUCell(5, 8))


add("recurrent", "seq2seq", _seq2seq, [TOKENS[0], TOKENS[0][:, :3] + 1])
add("recurrent", "unrolled-cell", _unrolled, [(6, 5)])
f(
    "recurrent",
    "while-loop",
    lambda x: torch._higher_order_ops.while_loop(
        lambda i, y: i < 3, lambda i, y: (i + 1, y * 2), (torch.tensor(0), x)
    )[1],
    [(4,)],
)
f(
    "recurrent",
    "cond",
    lambda x: torch.cond(x.sum() > 0, lambda y: y * 2, lambda y: y - 1, (x,)),
    [(3,)],
)


# Signatures and structures.
@dataclasses.dataclass
class Result:
    logits: torch.Tensor
    hidden: torch.Tensor


class Named(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


class Keyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        scale: float = 1.0,
        extra: torch.Tensor | None = None,
    ) -> torch.Tensor:
        y = self.fc(x) * scale
        y = y if mask is None else y * mask
        return y if extra is None else y + extra


class Clashing(nn.Module):
    """Its parameters and buffers are called as operators, and as forward's argument, are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.randn(4))
        self.register_buffer("std", torch.rand(4) + 0.5)
        self.x = nn.Parameter(torch.randn(4))
        self.add = nn.Parameter(torch.randn(4))
        self.output = nn.Parameter(torch.randn(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x - self.mean) / self.std + self.x + self.add).mean(1, keepdim=True) * self.output


_S = "signature"
add(_S, "clashing-names", Clashing, [(4,)])
add(_S, "none-argument", Keyword, [(4,), None])
add(_S, "keyword-arguments", Keyword, [(4,)], kwargs={"extra": torch.randn(2, 3)})
add(_S, "keyword-number", Keyword, [(4,)], kwargs={"scale": 2.5})
f(
    _S,
    "dict-in",
    lambda b: b["tokens"] * b["mask"],
    [{"tokens": torch.randn(2, 4), "mask": torch.randn(2, 4)}],
)
f(
    _S,
    "dict-in-other-order",
    lambda b: b["a"] - 2 * b["z"],
    [{"z": torch.randn(2, 4), "a": torch.randn(2, 4)}],
)
f(_S, "list-in", lambda xs: xs[0] - xs[1] * 2, [[torch.randn(2, 4), torch.randn(2, 4)]])
f(_S, "tuple-in", lambda xs: xs[0] - xs[1] * 2, [(torch.randn(2, 4), torch.randn(2, 4))])
f(_S, "dict-out", lambda x: {"zeta": x * 2, "alpha": x - 1}, [(4,)])
f(_S, "nested-out", lambda x: {"b": (x, [x + 1]), "a": x * 2}, [(4,)])
f(_S, "dataclass-out", lambda x: Result(x * 2, x - 1), [(4,)])
f(_S, "namedtuple-out", lambda x: Named(x * 2, x - 1), [(4,)])
f(_S, "none-out", lambda x: (x * 2, None, x - 1), [(4,)])
f(_S, "number-out", lambda x: (x * 2, 5), [(4,)])
f(_S, "unused-input", lambda x, y: x * 2, [(4,), (3,)])
f(_S, "scalar-input", lambda x, s: x * s, [(4,), torch.tensor(2.0)])
f(_S, "integers", lambda i: i * 2 + 1, [T([[1, 2], [4, 3]], dtype=torch.int32)])
f(_S, "boolean-in", lambda x, m: x * m, [(3,), T([[True, False, True], [False, True, True]])])
f(
    _S,
    "uint8-image",
    lambda i: (i.float() / 255 - 0.5).mean((1, 2)),
    [torch.randint(0, 256, (2, 8, 8), dtype=torch.uint8)],
)
add(_S, "buffer-item", lambda: Call(lambda m, x: x[:, : int(m.n.item())], n=T(3)), [(5,)])
add(_S, "buffer-float", lambda: Call(lambda m, x: x * float(m.s), s=T(1.5)), [(5,)])
add(
    _S,
    "grid-sample-on-parameter",
    lambda: Call(
        lambda m, g: F.grid_sample(
            m.table.expand(g.shape[0], -1, -1, -1), g.tanh(), align_corners=True
        ),
        table=nn.Parameter(torch.randn(1, 3, 6, 6)),
    ),
    [(4, 4, 2)],
)
add(
    _S,
    "tied-weights",
    lambda: (lambda e: Call(lambda m, t: F.linear(m.e(t), m.e.weight), e=e))(nn.Embedding(20, 6)),
    TOKENS,
)
add(
    _S,
    "parameter-list",
    lambda: Call(
        lambda m, x: sum(x * p for p in m.ps),
        ps=nn.ParameterList([nn.Parameter(torch.randn(4)) for _ in range(3)]),
    ),
    [(4,)],
)
add(
    _S,
    "non-persistent-buffer",
    lambda: (lambda m: (m.register_buffer("t", torch.randn(4), persistent=False), m)[1])(
        Call(lambda m, x: x * m.t)
    ),
    [(4,)],
)
add(
    _S,
    "tensor-attribute",
    lambda: (lambda m: (m.__dict__.update(table=torch.randn(4)), m)[1])(
        Call(lambda m, x: x * m.table)
    ),
    [(4,)],
)

# Batches and other sizes.
_D = "sizes"
f(_D, "fixed-batch", lambda x: x.reshape(2, 2, 2).sum(1), [torch.randn(2, 4)], fixed=True)
f(_D, "no-batch", lambda x: x.sum(), [torch.randn(4)], fixed=True)
f(
    _D,
    "batch-on-axis-1",
    lambda x: x.cumsum(0),
    [torch.randn(5, 2, 3)],
    dynamic={"args": {1: "batch"}},
)
add(
    _D,
    "dynamic-image",
    lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
    [torch.randn(2, 3, 16, 16)],
    dynamic={"input": {0: "batch", 2: "height", 3: "width"}},
    draw=lambda rng, n: [rng.standard_normal((n, 3, 16 + 3 * n, 21), np.float32)],
)
add(
    _D,
    "dynamic-length",
    lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True),
    [torch.randn(2, 5, 16)],
    dynamic={"src": {0: "batch", 1: "length"}},
    draw=lambda rng, n: [rng.standard_normal((n, 4 + 3 * n, 16), np.float32)],
)
add(
    _D,
    "dynamic-lstm",
    lambda: Call(lambda m, x: m.r(x)[0], r=nn.LSTM(5, 8, batch_first=True)),
    [torch.randn(2, 6, 5)],
    dynamic={"args": {0: "batch", 1: "length"}},
    draw=lambda rng, n: [rng.standard_normal((n, 4 + 3 * n, 5), np.float32)],
)
add(
    _D,
    "dynamic-upsample",
    lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    [torch.randn(2, 3, 8, 8)],
    dynamic={"input": {0: "batch", 2: "height", 3: "width"}},
    draw=lambda rng, n: [rng.standard_normal((n, 3, 5 + 3 * n, 13), np.float32)],
)
f(
    _D,
    "shared-table",
    lambda x, t: x @ t,
    [torch.randn(2, 4), torch.randn(4, 3)],
    dynamic={"args_0": {0: "batch"}, "args_1": {}},
)
f(_D, "branch-on-batch", lambda x: x * 2 if x.shape[0] > 1 else x * 3, [(4,)])
f(_D, "squeezes-batch", lambda x: x[:, None].squeeze().sum(-1), [(4,)])

# Whole networks.
_N = "network"


def _unet() -> nn.Module:
    def block(a: int, b: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(True))

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        a = m.a(x)
        b = m.b(F.max_pool2d(a, 2))
        return m.out(m.c(torch.cat([a, m.up(b)], 1)))

    return Call(
        forward,
        a=block(3, 8),
        b=block(8, 16),
        c=block(16, 8),
        up=nn.ConvTranspose2d(16, 8, 2, 2),
        out=nn.Conv2d(8, 2, 1),
    )


def _squeeze_excite() -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.conv(x)
        return x * m.gate(x.mean((2, 3), keepdim=True))

    return Call(
        forward,
        conv=nn.Conv2d(3, 8, 3),
        gate=nn.Sequential(nn.Conv2d(8, 2, 1), nn.SiLU(), nn.Conv2d(2, 8, 1), nn.Sigmoid()),
    )


class PatchTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.position = nn.Parameter(torch.randn(1, 17, 16))
        self.block = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")
        self.head = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.block(x)[:, 0])


class Causal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(20, 16), nn.Embedding(8, 16)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 20)
        self.register_buffer("mask", torch.tril(torch.ones(8, 8, dtype=torch.bool)))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        n, length = tokens.shape
        x = self.embed(tokens) + self.position(torch.arange(length))
        q, k, v = self.qkv(x).view(n, length, 3, 2, 8).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-1, -2)) / 8**0.5
        scores = scores.masked_fill(~self.mask[:length, :length], float("-inf"))
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, 16))


class Vae(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(12, 8), nn.Linear(4, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, spread = self.encoder(x).chunk(2, 1)
        return self.decoder(mean + torch.randn_like(mean) * torch.exp(0.5 * spread))


def _half(build: Callable[[], nn.Module], dtype: torch.dtype) -> Callable[[], nn.Module]:
    return lambda: build().to(dtype)


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(True),
        nn.Conv2d(8, 8, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def _zero_head() -> nn.Module:
    module = nn.Sequential(nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 3))
    nn.init.zeros_(module[2].weight)
    nn.init.zeros_(module[2].bias)
    return module


add(_N, "cnn", _cnn, IMAGE)
add(_N, "unet", _unet, IMAGE)
add(_N, "squeeze-excite", _squeeze_excite, IMAGE)
add(_N, "patch-transformer", PatchTransformer, IMAGE)
add(_N, "causal-transformer", Causal, TOKENS)
add(_N, "zero-head", _zero_head, ROW)
add(
    _N,
    "mlp-mixer",
    lambda: Call(
        lambda m, x: m.a(x.transpose(1, 2)).transpose(1, 2) + m.b(x),
        a=nn.Linear(5, 5),
        b=nn.Linear(12, 12),
    ),
    [(5, 12)],
)
add(
    _N,
    "depth-to-space",
    lambda: nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2)),
    IMAGE,
)
add(
    _N,
    "autoencoder",
    lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ELU(True), nn.ConvTranspose2d(8, 3, 3, 2, 1, 1), nn.Sigmoid()
    ),
    IMAGE,
)
add(
    _N,
    "wavenet",
    lambda: nn.Sequential(
        *[
            nn.Sequential(
                nn.ConstantPad1d((2**k, 0), 0),
                nn.Conv1d(3 if k == 0 else 4, 4, 2, dilation=2**k),
                nn.Tanh(),
            )
            for k in range(3)
        ]
    ),
    [(3, 20)],
)
add(
    _N,
    "graph-convolution",
    lambda: Call(lambda m, x, a: m.b(a @ F.relu(a @ m.a(x))), a=nn.Linear(4, 8), b=nn.Linear(8, 2)),
    [(6, 4), (6, 6)],
)
add(
    _N,
    "mixture-of-experts",
    lambda: Call(
        lambda m, x: (m.gate(x).softmax(-1)[..., None] * torch.stack([e(x) for e in m.es], 1)).sum(
            1
        ),
        gate=nn.Linear(12, 3),
        es=nn.ModuleList([nn.Linear(12, 4) for _ in range(3)]),
    ),
    ROW,
)
add(
    "precision",
    "half-linear",
    _half(lambda: nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)), torch.float16),
    ROW,
    half=True,
)
add("precision", "half-cnn", _half(_cnn, torch.float16), IMAGE, half=True)
add(
    "precision",
    "half-encoder-layer",
    _half(lambda: nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), torch.float16),
    [(5, 32)],
    half=True,
)
add("precision", "double-linear", _half(lambda: nn.Linear(12, 3), torch.float64), ROW)
add(
    "precision",
    "half-inside",
    lambda: Call(lambda m, x: m.l(x.half()).float(), l=nn.Linear(12, 3).half()),
    [torch.randn(2, 12)],
    half=True,
)

# Models that draw random numbers: no file of them is right.
f("random", "dropout-in-training", lambda x: F.dropout(x, 0.5, training=True), ROW, random=True)
f("random", "randn", lambda x: x + torch.randn_like(x), ROW, random=True)
f("random", "rand-of-size", lambda x: x * torch.rand(x.shape[0], 1), ROW, random=True)
f("random", "bernoulli", lambda x: torch.bernoulli(x.sigmoid()), ROW, random=True)
add("random", "vae", Vae, ROW, random=True)
f("random", "numpy-noise", lambda x: x + float(np.random.rand()), ROW, random=True)

from tests.studies.exports import torch_strangers, torch_zoo

torch_strangers.extend(add)
torch_zoo.extend(add)
