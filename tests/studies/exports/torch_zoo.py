"""Models of torchvision, timm and transformers with random weights, where they are installed."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

_LIBRARIES: list[torch.library.Library] = []
"""What was declared: a library that is collected takes its operators with it."""


def import_torchvision() -> Any:
    """Import torchvision; where its compiled operators do not load, declare the names it asks for.

    Its wheel may be built for another PyTorch than the one here. The classifiers use none of them.
    """
    while True:
        try:
            return importlib.import_module("torchvision")
        except (RuntimeError, OSError) as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None:
                raise
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(f"{missing[1]}(Tensor x) -> Tensor")
            _LIBRARIES.append(library)
            for name in [name for name in sys.modules if name.startswith("torchvision")]:
                del sys.modules[name]


def extend(add: Callable[..., None]) -> None:
    """Add the models of each package that is installed."""
    if importlib.util.find_spec("torchvision"):
        for name in TORCHVISION:
            add("torchvision", f"torchvision:{name}", lambda n=name: _torchvision(n), [(3, 64, 64)])
        add(
            "torchvision",
            "torchvision:inception_v3",
            lambda: _torchvision("inception_v3"),
            [(3, 96, 96)],
        )
    if importlib.util.find_spec("timm"):
        for name, size in TIMM.items():
            add("timm", f"timm:{name}", lambda n=name, s=size: _timm(n, s), [(3, size, size)])
    if importlib.util.find_spec("transformers"):
        tokens = torch.tensor([[1, 2, 3, 4, 0, 9], [5, 6, 7, 19, 2, 98]])
        for name in TRANSFORMERS:
            add("transformers", f"hf:{name}", lambda n=name: _transformers(n), [tokens])


TORCHVISION = (
    "alexnet",
    "vgg11_bn",
    "squeezenet1_1",
    "densenet121",
    "googlenet",
    "shufflenet_v2_x1_0",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mnasnet0_5",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "regnet_y_400mf",
    "resnet18",
    "resnext50_32x4d",
    "convnext_tiny",
    "swin_t",
    "swin_v2_t",
)

TIMM = {
    "resnet18": 64,
    "resnetv2_50": 64,
    "seresnet18": 64,
    "ecaresnet26t": 64,
    "densenet121": 64,
    "efficientnet_lite0": 64,
    "tf_efficientnet_b0": 64,
    "mobilenetv3_small_100": 64,
    "mobilenetv4_conv_small": 64,
    "regnetx_002": 64,
    "hrnet_w18_small": 64,
    "vgg11": 64,
    "inception_v4": 96,
    "xception41": 64,
    "dla34": 64,
    "dpn68": 64,
    "res2net50_14w_8s": 64,
    "resnest14d": 64,
    "skresnet18": 64,
    "selecsls42": 64,
    "repvgg_a0": 64,
    "mobileone_s0": 64,
    "ghostnet_050": 64,
    "tinynet_e": 64,
    "lcnet_035": 64,
    "fbnetc_100": 64,
    "mnasnet_small": 64,
    "convnext_atto": 64,
    "convmixer_768_32": 64,
    "convnextv2_atto": 64,
    "nfnet_l0": 64,
    "cspresnet50": 64,
    "darknet53": 64,
    "gernet_s": 64,
    "edgenext_xx_small": 64,
    "vit_tiny_patch16_224": 224,
    "deit_tiny_patch16_224": 224,
    "mixer_s32_224": 224,
    "resmlp_12_224": 224,
    "gmlp_ti16_224": 224,
    "poolformer_s12": 64,
    "levit_128s": 224,
    "pit_ti_224": 224,
    "swin_tiny_patch4_window7_224": 224,
    "visformer_tiny": 224,
    "cait_xxs24_224": 224,
    "xcit_nano_12_p16_224": 224,
    "coat_tiny": 224,
    "mobilevit_xxs": 64,
    "mobilevitv2_050": 64,
    "maxvit_rmlp_pico_rw_256": 256,
    "efficientformer_l1": 224,
    "fastvit_t8": 64,
    "repvit_m0_9": 64,
    "tiny_vit_5m_224": 224,
    "starnet_s1": 64,
    "volo_d1_224": 224,
    "beit_base_patch16_224": 224,
    "eva02_tiny_patch14_224": 224,
    "crossvit_tiny_240": 240,
    "pvt_v2_b0": 64,
    "twins_svt_small": 224,
    "focalnet_tiny_srf": 64,
    "hgnet_tiny": 64,
    "inception_next_tiny": 64,
    "rexnet_100": 64,
    "vovnet39a": 64,
}

TRANSFORMERS: dict[str, dict[str, Any]] = {
    "Bert": {},
    "Roberta": {},
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "Electra": {"embedding_size": 32},
    "Albert": {"embedding_size": 16},
    "MobileBert": {"embedding_size": 32, "true_hidden_size": 32, "intra_bottleneck_size": 32},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "GPTNeoX": {},
    "OPT": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "Llama": {"num_key_value_heads": 2},
    "Mistral": {"num_key_value_heads": 2},
    "Qwen2": {"num_key_value_heads": 2},
    "Phi": {},
    "Gemma": {"num_key_value_heads": 2, "head_dim": 8},
    "T5Encoder": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
    "MPNet": {},
    "Deberta": {},
    "XLMRoberta": {},
    "Bloom": {},
}

_SMALL = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _torchvision(name: str) -> nn.Module:
    models = importlib.import_module("torchvision.models", package=import_torchvision().__name__)
    options = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    builder = getattr(models, name)
    return builder(weights=None, num_classes=10, **options)


def _timm(name: str, size: int) -> nn.Module:
    import_torchvision()
    timm = importlib.import_module("timm")
    return timm.create_model(name, pretrained=False, num_classes=10)


class _Last(nn.Module):
    """A transformer whose first output alone is taken, without its cache."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids, return_dict=False)[0]


def _transformers(name: str) -> nn.Module:
    import_torchvision()
    transformers = importlib.import_module("transformers")
    config_name = "T5" if name == "T5Encoder" else name
    config = getattr(transformers, f"{config_name}Config")(**{**_SMALL, **TRANSFORMERS[name]})
    for option, value in (("use_cache", False), ("dropout", 0.0)):
        if hasattr(config, option):
            setattr(config, option, value)
    return _Last(getattr(transformers, f"{name}Model")(config))
