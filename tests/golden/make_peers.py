"""Make the two small peer checkpoints: `python make_peers.py`, with torch, transformers and timm.

Each folder holds config.json, model.safetensors, and peer.npz with the pixels and the peer's
float64 logits. Weights are random and scaled up until activations are alive; the norms' gains and
biases are random too, and eps is large enough to be noticed where the library lets it be set.
Both libraries import torchvision, so the two operators its extension brings are declared first.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
OPERATORS = torch.library.Library("torchvision", "DEF")
OPERATORS.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
OPERATORS.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


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
        logits = forward(model.double(), pixels.double())
    np.savez_compressed(folder / "peer.npz", pixels=pixels.numpy(), logits=logits.numpy())


def hugging_face():
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
        image_size=16, patch_size=8, num_channels=3, layer_norm_eps=1e-3, num_labels=5,
    )  # fmt: skip
    model = ViTForImageClassification(config)
    about = json.loads(config.to_json_string(use_diff=False))
    keep = {k: about[k] for k in about if isinstance(about[k], str | int | float | dict | bool)}
    keep["model_type"] = "vit"
    write(HERE / "hf_vit", model, keep, lambda m, x: m(x).logits, (3, 16, 16), 1)


def timm():
    from timm.models.vision_transformer import VisionTransformer

    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3,
             "mlp_ratio": 2.0, "num_classes": 5}  # fmt: skip
    model = VisionTransformer(**sizes)
    config = {"architecture": "vit", "model_class": "VisionTransformer", **sizes}
    write(HERE / "timm_vit", model, config, lambda m, x: m(x), (3, 16, 16), 2)


if __name__ == "__main__":
    hugging_face()
    timm()
