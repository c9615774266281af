"""What the recorder uses of PyTorch and PyTorch does not promise to keep."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from parity.runtimes.torch.float64 import widen_casts
from parity.runtimes.torch.function_names import name_function
from parity.runtimes.torch.recorder import Recorder, call_model, pin_fast_paths

pytestmark = pytest.mark.framework


class Seen(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.append(name_function(func))
        return func(*args, **(kwargs or {}))


def names_of(function):
    with Seen() as seen:
        function()
    return [name for name in seen.names if not name[0].startswith("property ")]


def test_a_mode_sees_functions_once_and_not_what_is_inside():
    x = torch.ones(1, 3, 8, 8)
    assert names_of(lambda: functional.relu(x)) == [("relu", False)]
    assert names_of(lambda: functional.relu(x, inplace=True)) == [("relu", False)]
    assert names_of(lambda: functional.max_pool2d(x, 2)) == [("max_pool2d", False)]
    assert names_of(lambda: functional.adaptive_max_pool2d(x, 2)) == [
        ("adaptive_max_pool2d", False)
    ]
    assert names_of(lambda: nn.BatchNorm2d(3).eval()(x))[-1] == ("batch_norm", False)


def test_operators_have_the_names_of_functions():
    x, y = torch.ones(2, 2), torch.ones(2, 2)

    def run():
        nonlocal x
        x = x + y
        x += y
        x.mul_(y)
        x = 1 - x
        x = 2 / x
        x = x @ y
        x = x[0]
        x[0] = 1
        return x > 0, x // 2, -x

    assert names_of(run) == [
        ("add", False), ("add", True), ("mul", True), ("reversed sub", False),
        ("reversed div", False), ("matmul", False), ("getitem", False), ("setitem", True),
        ("gt", False), ("floor_divide", False), ("neg", False),
    ]  # fmt: skip


def test_layers_are_one_function():
    lstm, attention = nn.LSTM(3, 4, 2), nn.MultiheadAttention(4, 2)
    x = torch.ones(5, 2, 4)
    assert "lstm" in [name for name, _ in names_of(lambda: lstm(torch.ones(5, 2, 3)))]
    assert [
        name for name, _ in names_of(lambda: attention(x, x, x)) if name.startswith("multi")
    ] == ["multi_head_attention_forward"]


def test_values_that_leave_pytorch_are_seen():
    x = torch.ones(2)
    assert [name for name, _ in names_of(lambda: (x.numpy(), x.tolist(), bool(x.sum())))] == [
        "numpy", "tolist", "sum", "bool",
    ]  # fmt: skip
    assert names_of(lambda: torch.from_numpy(x.numpy())) == [("numpy", False)]


def test_hooks_of_all_modules_go_around_each_call():
    seen = []
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU()))
    recorder = Recorder(model, observe=lambda call: seen.append((call.path, call.name)))
    _, x = recorder.add_input(0, torch.ones(1, 2))
    call_model(recorder, model, [x], {})
    assert seen == [("0", "linear"), ("1.0", "relu")]
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def test_hooks_are_gone_after_an_error():
    model = nn.Linear(2, 2)
    recorder = Recorder(model)
    _, x = recorder.add_input(0, torch.ones(1, 3))
    with pytest.raises(RuntimeError):
        call_model(recorder, model, [x], {})
    assert not nn.modules.module._global_forward_hooks
    assert not recorder._stack


def test_the_fast_path_is_off_only_inside():
    before = torch.backends.mha.get_fastpath_enabled()
    with pin_fast_paths():
        assert not torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_functions_can_be_hidden_from_the_mode():
    def run():
        with torch._C.DisableTorchFunction():
            torch.ones(2) + 1

    assert names_of(run) == []


def test_a_detached_tensor_is_an_alias_with_the_same_strides():
    x = torch.ones(1, 4, 3, 3).permute(0, 2, 3, 1)
    with torch.inference_mode():
        other = x.detach()
    assert other is not x
    assert (other.stride(), other.data_ptr()) == (x.stride(), x.data_ptr())


def test_complex_numbers_are_widened_too():
    func, args, options = widen_casts(torch.zeros, "zeros", (2,), {"dtype": torch.cfloat})
    assert func(*args, **options).dtype == torch.complex128
    func, args, _ = widen_casts(torch.Tensor.cfloat, "cfloat", (torch.zeros(2),), {})
    assert func(*args).dtype == torch.complex128
