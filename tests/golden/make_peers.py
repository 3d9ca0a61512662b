"""Make the small peer checkpoints: `python make_peers.py`, with torch, transformers and timm.

Each folder holds config.json, model.safetensors, and peer.npz with pixels, the peer's float64
logits, and its float64 hidden states under the names of refvit's sites. Weights are random and
scaled up until activations are alive; the norms' gains and biases are random too, and eps is large
enough to be noticed where the library lets it be set. Both libraries import torchvision, so the
two operators its extension brings are declared first.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
OPERATORS = torch.library.Library("torchvision", "DEF")
OPERATORS.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
OPERATORS.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
         "intermediate_size": 40, "image_size": 16, "patch_size": 8}  # fmt: skip
SWIN = {"embed_dim": 12, "depths": [2, 2], "num_heads": [2, 3], "mlp_ratio": 2.0}
VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3,
       "mlp_ratio": 2.0, "num_classes": 5}  # fmt: skip
# folder: class, settings, shape of the pixels (None: as the settings have it)
HUGGING_FACE = {
    "hf_vit": ("ViTForImageClassification", SMALL | {"layer_norm_eps": 1e-3}, None),
    "hf_vit_wide": (
        "ViTForImageClassification",
        SMALL | {"image_size": 32, "hidden_act": "gelu_new", "qkv_bias": False},
        (3, 40, 24),
    ),
    "hf_deit": ("DeiTForImageClassificationWithTeacher", SMALL, None),
    "hf_deit_token": ("DeiTForImageClassification", SMALL, None),
    # grids 9 and 5 by windows of 4: padded, shifted, and odd where patches merge
    "hf_swin": (
        "SwinForImageClassification",
        SWIN | {"image_size": 18, "patch_size": 2, "window_size": 4, "layer_norm_eps": 1e-3},
        None,
    ),
    "hf_swin_absolute": (
        "SwinForImageClassification",
        SWIN | {"image_size": 16, "patch_size": 2, "window_size": 4}
        | {"use_absolute_embeddings": True, "qkv_bias": False},
        None,
    ),
}  # fmt: skip
TIMM = {
    "timm_vit": ("vit", "VisionTransformer", VIT),
    "timm_vit_options": (
        "vit",
        "VisionTransformer",
        VIT | {"global_pool": "avg", "init_values": 0.1, "qk_norm": True, "reg_tokens": 2}
        | {"img_size": [16, 24], "act_layer": "gelu_tanh"},
    ),
    "timm_deit": ("deit_distilled", "VisionTransformerDistilled", VIT),
    # the weights of both Swins are drawn alike: only the order of padding and rolling differs
    "timm_swin": (
        "swin",
        "SwinTransformer",
        SWIN | {"img_size": [18, 26], "patch_size": 2, "window_size": 4, "num_classes": 5},
    ),
}  # fmt: skip


def enliven(model, seed):
    torch.manual_seed(seed)
    for name, tensor in model.named_parameters():
        if tensor.ndim == 1:
            base = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            tensor.data = base + 0.3 * torch.randn_like(tensor)
        else:
            tensor.data = torch.randn_like(tensor) * (
                tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 1
            )


def write(folder, model, config, forward, shape, seed):
    enliven(model, seed)
    model.eval()
    state = {name: tensor.contiguous().float() for name, tensor in model.state_dict().items()}
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    pixels = torch.randn(3, *shape)
    with torch.no_grad():
        results = forward(model.double(), pixels.double())
    arrays = {name: tensor.numpy() for name, tensor in results.items()}
    np.savez_compressed(folder / "peer.npz", pixels=pixels.numpy(), **arrays)


def hugging_face(name, seed):
    import transformers

    kind, settings, shape = HUGGING_FACE[name]
    family = kind[: kind.index("For")]
    config = getattr(transformers, f"{family}Config")(**settings, num_labels=5)
    model = getattr(transformers, kind)(config)
    about = json.loads(config.to_json_string(use_diff=False))
    kept = (str, int, float, dict, bool, list)
    keep = {k: about[k] for k in about if isinstance(about[k], kept)}
    keep |= {"model_type": family.lower(), "architectures": [kind]}
    more = {"interpolate_pos_encoding": True} if shape else {}

    def forward(model, pixels):
        out = model(pixels, output_hidden_states=True, **more)
        states, found = list(out.hidden_states), {"logits": out.logits}
        if family == "Swin":
            first = "embed" if config.use_absolute_embeddings else "patch_norm"
            sites = [first, "stages.1.merge.reduction", "stages.1.blocks.1.add2"]
        else:
            sites = ["embed", *(f"blocks.{i}.add2" for i in range(len(states) - 1))]
        if "distillation_logits" in out:
            found |= {"head": out.cls_logits, "head_dist": out.distillation_logits}
        return found | dict(zip(sites, states, strict=True))

    size = about["image_size"]
    write(HERE / name, model, keep, forward, shape or (3, size, size), seed)


def timm(name, seed):
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.swin_transformer import SwinTransformer
    from timm.models.vision_transformer import VisionTransformer

    architecture, kind, settings = TIMM[name]
    classes = (VisionTransformer, VisionTransformerDistilled, SwinTransformer)
    model = next(c for c in classes if c.__name__ == kind)(**settings)
    config = {"architecture": architecture, "model_class": kind, **settings}

    def forward(model, pixels):
        found = {}
        for site, module in model.named_modules():
            if site.startswith(("blocks.", "layers.")) and site.count(".") in (1, 3):
                if (site.startswith("blocks.")) == (site.count(".") == 1) and site[-1].isdigit():
                    ours = f"{site.replace('layers', 'stages')}.add2"
                    module.register_forward_hook(
                        lambda m, i, out, ours=ours: found.__setitem__(ours, out.flatten(1, -2))
                    )
        logits = model(pixels)
        return {"logits": logits} | found

    size = settings["img_size"]
    shape = (3, size, size) if isinstance(size, int) else (3, *size)
    write(HERE / name, model, config, forward, shape, seed)


if __name__ == "__main__":
    wanted = sys.argv[1:] or [*HUGGING_FACE, *TIMM]
    for name in wanted:
        seed = 1 + [*HUGGING_FACE, *TIMM].index(name)
        (hugging_face if name in HUGGING_FACE else timm)(name, seed)
