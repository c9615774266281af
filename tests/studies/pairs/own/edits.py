"""Faults as edits of one place of a network's source, found by patterns; NumPy-free and pure.

An edit keeps the line numbers. `causes` are those that may name it; "not explained" is right as
well where no cause covers the fault, never a wrong name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

BIAS = frozenset({"bias"})
EPSILON = frozenset({"batch-norm-epsilon", "group-norm-epsilon"})
ACTIVATION = frozenset(
    {
        "activation-other",
        "activation-missing",
        "activation-extra",
        "leaky-relu-slope",
        "gelu-form",
        "reads-another-tensor",
        # "without the relu": what one model alone computes.
        "operation-left-out",
    }
)
PADDING = frozenset({"padding", "same-padding"})
PADDING_MODE = frozenset({"padding-mode"})
POOL = frozenset({"kind", "pool-type"})
MERGE = frozenset(
    {
        "merge-other",
        "branch-missing",
        "branch-twice",
        "reads-another-tensor",
        "channel-order",
        "output-permuted",
        "values-in-another-order",
    }
)
SETTING = frozenset({"setting"})
SCALE = frozenset({"scale", "offset", "constant"})
NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Edit:
    """One fault: at `start` of the source, `old` becomes `new`. `line` is its line, from 1.

    `layer` is the attribute that the line defines, empty for a line of `forward`.
    """

    start: int
    old: str
    new: str
    line: int
    layer: str
    fault: str
    causes: frozenset[str]

    def apply(self, text: str) -> str:
        """Return the source with this fault."""
        return text[: self.start] + self.new + text[self.start + len(self.old) :]


Rule = tuple[str, str, str, frozenset[str]]

RULES: tuple[Rule, ...] = (
    ("epsilon", r"nn\.BatchNorm[12]d\((\d+)\)", r"nn.BatchNorm2d(\1, eps=1e-3)", EPSILON),
    ("epsilon", r"nn\.GroupNorm\(4, 8\)", "nn.GroupNorm(4, 8, eps=1e-3)", EPSILON),
    ("no bias", r"nn\.Conv2d\((\d+), (\d+), (\d)\)", r"nn.Conv2d(\1, \2, \3, bias=False)", BIAS),
    ("no bias", r"(nn\.Conv[123]d\([^()=]*padding=[12])\)", r"\1, bias=False)", BIAS),
    ("no bias", r"nn\.Linear\((\d+), (\d+)\)", r"nn.Linear(\1, \2, bias=False)", BIAS),
    ("padding by reflection", r"(nn\.Conv[12]d\([^()=]*padding=[12])\)",
     r"\1, padding_mode='reflect')", PADDING_MODE),
    ("padding by replication", r"(nn\.Conv[12]d\([^()=]*padding=[12])\)",
     r"\1, padding_mode='replicate')", PADDING_MODE),
    ("tanh for ReLU", r"\.relu\(\)", ".tanh()", ACTIVATION),
    ("sigmoid for ReLU", r"\.relu\(\)", ".sigmoid()", ACTIVATION),
    ("no ReLU", r"\.relu\(\)", ".clone()", ACTIVATION),
    ("leaky ReLU for ReLU", r"functional\.relu\(", "functional.leaky_relu(", ACTIVATION),
    ("hard swish for SiLU", r"functional\.silu\(", "functional.hardswish(", ACTIVATION),
    ("ReLU for ReLU6", r"functional\.relu6\(", "functional.relu(", ACTIVATION),
    ("tanh for GELU", r"functional\.gelu\(", "torch.tanh(", ACTIVATION),
    ("approximate GELU", r"functional\.gelu\(self\.wide\(self\.norm2\(x\)\)\)",
     "functional.gelu(self.wide(self.norm2(x)), approximate='tanh')", ACTIVATION),
    ("slope", r"leaky_relu\((.*), 0\.1\)", r"leaky_relu(\1, 0.01)", ACTIVATION),
    ("ELU missing", r"functional\.elu\(", "torch.clone(", ACTIVATION),
    ("average for maximum", r"functional\.max_pool2d", "functional.avg_pool2d", POOL),
    ("maximum for mean", r"\.mean\(\(2, 3\)\)", ".amax((2, 3))", POOL),
    ("hard sigmoid", r"torch\.sigmoid\(self\.expand", "functional.hardsigmoid(self.expand",
     ACTIVATION),
    ("sigmoid missing", r"torch\.sigmoid\(self\.expand", "torch.clone(self.expand", ACTIVATION),
    ("branches swapped", r"torch\.cat\(\[(\w+), ([^\]]+)\]", r"torch.cat([\2, \1]", MERGE),
    ("difference for sum", r"x \+ self\.(\w+)\(", r"x - self.\1(", MERGE),
    ("shortcut missing", r"\(y \+ self\.norm2s\(self\.conv2s\(x\)\)\)",
     "(y + 0.0 * self.norm2s(self.conv2s(x)))", MERGE),
    ("sum of one branch twice", r"self\.norm\(y \+ x\)", "self.norm(y + y)", MERGE),
    ("causal attention", r"scaled_dot_product_attention\(q, k, v\)",
     "scaled_dot_product_attention(q, k, v, is_causal=True)", frozenset({"attention-mask"})),
    ("heads of another width", r"\(4, 8\)\)\.transpose", "(8, 4)).transpose",
     frozenset({"attention-heads"})),
    ("align_corners", r'mode="bilinear"', 'mode="bilinear", align_corners=True', SETTING),
    ("nearest for bilinear", r'mode="bilinear"', 'mode="nearest"', SETTING),
    ("dilation", r"dilation=2", "dilation=1", frozenset({"stride", "dilation"})),
    ("padded at the end", r"\(4, 0\)", "(0, 4)", PADDING),
    ("factor", r"2\.0 \* self\.conv2", "2.1 * self.conv2", SCALE),
    ("constant", r"- 0\.5", "- 0.4", SCALE),
    ("scale of the head", r"return self\.head\((.*)\)$", r"return 1.05 * self.head(\1)", SCALE),
    ("another time step", r"x\[:, -1\]", "x[:, 0]", frozenset({"input-part"})),
)  # fmt: skip


SAME_FUNCTION: tuple[Rule, ...] = (
    ("clamp for ReLU", r"\.relu\(\)", ".clamp(min=0)", NONE),
    ("torch.relu", r"functional\.relu\(", "torch.relu(", NONE),
    ("threshold for ReLU", r"functional\.relu\(((?:[^()]|\([^()]*\))*)\)",
     r"functional.threshold(\1, 0.0, 0.0)", NONE),
    ("hardtanh for ReLU6", r"functional\.relu6\(((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)",
     r"functional.hardtanh(\1, 0.0, 6.0)", NONE),
    ("stated stride", r"max_pool2d\((\w+), 2\)", r"max_pool2d(\1, (2, 2), stride=(2, 2))", NONE),
    ("ceil_mode on an even map", r"max_pool2d\((\w+), 2\)", r"max_pool2d(\1, 2, ceil_mode=True)",
     NONE),
    ("mean of the flattened map", r"\.mean\(\(2, 3\)\)", ".flatten(2).mean(2)", NONE),
    ("mean twice", r"\.mean\(\(2, 3\)\)", ".mean(3).mean(2)", NONE),
    ("negative axes", r"\.mean\(\(2, 3\)\)", ".mean((-1, -2))", NONE),
    ("concat", r"torch\.cat\(", "torch.concat(", NONE),
    ("negative axis", r"t\(x\)\], dim=1\)", "t(x)], dim=-3)", NONE),
    ("padding as a word", r"3, padding=1\)", '3, padding="same")', NONE),
    ("padding apart", r"self\.(conv[12]?|stem)\(image\)", r"self.\1(image + 0.0)", NONE),
    ("terms exchanged", r"\(x \+ (self\.\w+\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))\)",
     r"(\1 + x)", NONE),
    ("torch.add", r"\(y \+ (self\.norm2s\(self\.conv2s\(x\)\))\)", r"torch.add(y, \1)", NONE),
    ("SiLU written out", r"functional\.silu\(self\.depthwise\(x\)\)",
     "(self.depthwise(x) * torch.sigmoid(self.depthwise(x)))", NONE),
    ("sigmoid as a method", r"torch\.sigmoid\((self\.expand\(s\))\)", r"\1.sigmoid()", NONE),
    ("adaptive pool as mean", r"functional\.adaptive_avg_pool2d\(x, 1\)",
     "x.mean((2, 3), keepdim=True)", NONE),
    ("dropout", r"return self\.head\((.*)\)$",
     r"return self.head(functional.dropout(\1, 0.5, training=False))", NONE),
    ("times one", r"return self\.head\((.*)\)$", r"return 1.0 * self.head(\1)", NONE),
    ("contiguous", r"return self\.head\((.*)\)$", r"return self.head((\1).contiguous())", NONE),
    ("index of a slice", r"\[:, :, ::2, ::2\]", "[..., ::2, ::2]", NONE),
    ("sum of equal halves", r"2\.0 \* self\.conv2\(x\)\.sigmoid\(\)",
     "self.conv2(x).sigmoid() * 2.0", NONE),
)  # fmt: skip
"""Edits that change no number: of the whole form, or where they are put."""


def list_edits(text: str, name: str, rules: Sequence[Rule] = RULES) -> list[Edit]:
    """Return every edit of the class, and the function, of a network."""
    found: list[Edit] = []
    for start, stop in _find_blocks(text, name):
        for fault, pattern, replacement, causes in rules:
            for match in re.finditer(pattern, text[start:stop], re.MULTILINE):
                at = start + match.start()
                line = text.count("\n", 0, at) + 1
                content = text.splitlines()[line - 1]
                named = re.match(r"\s+self\.(\w+)", content) or re.match(
                    r'\s+model\.add_module\("(\w+)"', content
                )
                is_definition = "nn." in content and named is not None
                offset = at - text.rindex("\n", 0, at) - 1
                layer = _defined_layer(content, offset) if is_definition else ""
                if fault == "another time step" and name != "last_state":
                    # The other networks of this class do not run that branch.
                    continue
                new = match.expand(replacement)
                if "BatchNorm1d" in match.group():
                    new = new.replace("BatchNorm2d", "BatchNorm1d")
                found.append(Edit(at, match.group(), new, line, layer, fault, causes))
    return found


def _defined_layer(content: str, offset: int) -> str:
    """Return the layer that a line defines at this column; several, where one value is shared."""
    single = re.match(r'\s+(?:self\.|model\.add_module\(")(\w+)"?\s*[=,]\s*(?!self)', content)
    several = re.match(r"\s+((?:self\.\w+, )+self\.\w+) = ", content)
    if several is None:
        return "" if single is None else single[1]
    names = [name.removeprefix("self.") for name in several[1].split(", ")]
    starts = [m.start() for m in re.finditer(r"(?:nn|conv)\.?\w*\(", content)]
    if len(starts) != len(names):
        return "|".join(names)
    return names[max(at for at, start in enumerate(starts) if start <= offset)]


def _find_blocks(text: str, name: str) -> list[tuple[int, int]]:
    """Return the spans of a network's function and of the classes that it makes."""
    block = _find_block(text, rf"def {name}\(")
    names = re.findall(r"\b([A-Z]\w+)\(", text[slice(*block)])
    classes = [_find_block(text, rf"class {each}\(") for each in names if f"class {each}(" in text]
    inner = [
        _find_block(text, rf"class {each}\(")
        for span in classes
        for each in re.findall(r"= ([A-Z]\w+)\(", text[slice(*span)])
        if f"class {each}(" in text
    ]
    return [block, *classes, *inner]


def _find_block(text: str, head: str) -> tuple[int, int]:
    start = re.search(rf"^{head}", text, re.MULTILINE)
    assert start is not None, head
    end = re.search(r"\n\n\n", text[start.start() :])
    stop = len(text) if end is None else start.start() + end.start()
    return start.start(), stop
