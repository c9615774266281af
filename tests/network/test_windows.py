"""The arithmetic of windows against counting them by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.network import windows

sizes, small = st.integers(1, 40), st.integers(1, 5)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (8, 3, 2, (0, 1)),
        (7, 3, 2, (1, 1)),
        (224, 7, 2, (2, 3)),
        (5, 1, 2, (0, 0)),
        (5, 4, 1, (1, 2)),
    ],
)
def test_same_padding_of_known_cases(size, kernel, stride, expected):
    assert windows.same_padding(size, kernel=kernel, stride=stride) == expected


@given(sizes, small, small, small)
def test_same_padding_is_the_least_that_leaves_a_window_for_every_stride(size, k, s, d):
    before, after = windows.same_padding(size, kernel=k, stride=s, dilation=d)
    assert 0 <= after - before <= 1
    wanted = -(-size // s)

    def count(padded):
        return (padded - windows.extent(k, d)) // s + 1

    # A stride larger than the window may leave more than SAME asks for without any padding.
    padded = size + before + after
    assert count(padded) >= wanted
    assert before + after == 0 or count(padded) == wanted
    assert before + after == 0 or count(padded - 1) < wanted


@given(sizes, small, small, small, small, small)
def test_ceil_mode_adds_what_the_last_window_that_begins_inside_lacks(size, k, s, d, low, high):
    span = windows.extent(k, d)
    low, high = min(low, k // 2), min(high, k // 2)
    if size + low + high < span:
        return
    more = windows.ceil_extension(size, kernel=k, stride=s, padding=(low, high), dilation=d)
    starts = range(0, size + low, s)
    # Where the padded input ends, no further window is needed.
    needed = [start for start in starts if start == 0 or start - s + span < size + low + high]
    assert more == max(needed[-1] + span - (size + low + high), 0)


@given(sizes, small, small, small, st.booleans())
def test_a_transposed_crop_leaves_the_output_that_is_asked_for(size, k, s, d, same):
    whole = windows.transposed_extent(size, kernel=k, stride=s, dilation=d)
    assert whole == max(i * s + j * d for i in (0, size - 1) for j in (0, k - 1)) + 1
    output = size * s
    before, after = windows.transposed_crop(size, output, kernel=k, stride=s, dilation=d, same=same)
    assert whole - before - after == output
    if same and whole >= output:
        # What the convolution from the output back to the input is padded by.
        assert (before, after) == windows.same_padding(output, kernel=k, stride=s, dilation=d)
    if not same:
        assert before == 0
