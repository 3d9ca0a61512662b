"""The named sizes of the papers, as a table that can be checked against them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from refvit.models.swin import SwinConfig
from refvit.models.vit import ViTConfig


def distilled(cfg: ViTConfig) -> ViTConfig:
    """Return `cfg` with a distillation token and its head (Touvron et al. 2021, section 4)."""
    return replace(cfg, distillation="heads")


def swin(
    width: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int = 7
) -> SwinConfig:
    """Return a Swin whose MLPs are four times as wide, with one square window."""
    hidden = tuple(4 * width * 2**i for i in range(len(depths)))
    return SwinConfig(width, depths, heads, hidden, ((window, window),) * len(depths))


NANO = ViTConfig(48, 4, 4, 192, image=(32, 32), patch=(4, 4), classes=10)
FASHION = ViTConfig(96, 6, 6, 192, image=(28, 28), patch=(4, 4), channels=1, classes=10)
VARIANTS: Mapping[str, ViTConfig | SwinConfig] = {
    #                       width depth heads hidden   parameters   source
    "vit_tiny": ViTConfig(192, 12, 3, 768),  #    5,717,416  Touvron et al. 2021, Table 1 (Ti)
    "vit_small": ViTConfig(384, 12, 6, 1536),  #   22,050,664  Touvron et al. 2021, Table 1 (S)
    "vit_base": ViTConfig(768, 12, 12, 3072),  #   86,567,656  Dosovitskiy et al. 2021, Table 1
    "vit_large": ViTConfig(1024, 24, 16, 4096),  #  304,326,632  Dosovitskiy et al. 2021, Table 1
    # Dosovitskiy et al. 2021, Table 1, with patches of 14: 632,045,800
    "vit_huge": ViTConfig(1280, 32, 16, 5120, patch=(14, 14)),
    "deit_tiny": ViTConfig(192, 12, 3, 768),  #    5,717,416  Touvron et al. 2021, Table 1
    "deit_small": ViTConfig(384, 12, 6, 1536),  #   22,050,664  Touvron et al. 2021, Table 1
    "deit_base": ViTConfig(768, 12, 12, 3072),  #   86,567,656  Touvron et al. 2021, Table 1
    "deit_tiny_distilled": distilled(ViTConfig(192, 12, 3, 768)),  #    5,910,800  timm
    "deit_small_distilled": distilled(ViTConfig(384, 12, 6, 1536)),  #   22,436,432  timm
    "deit_base_distilled": distilled(ViTConfig(768, 12, 12, 3072)),  #   87,338,192  timm
    #                   width depths         heads              parameters   Liu et al. 2021
    "swin_tiny": swin(96, (2, 2, 6, 2), (3, 6, 12, 24)),  #    28,288,354
    "swin_small": swin(96, (2, 2, 18, 2), (3, 6, 12, 24)),  #   49,606,258
    "swin_base": swin(128, (2, 2, 18, 2), (4, 8, 16, 32)),  #   87,768,224
    "swin_large": swin(192, (2, 2, 18, 2), (6, 12, 24, 48)),  #  196,532,476
    # refvit's own, trained on shapes10: 119,194 parameters
    "nano_vit": NANO,
    "nano_deit": distilled(NANO),  # 119,780
    "nano_swin": replace(swin(24, (2, 4), (2, 4), 4), image=(32, 32), patch=(2, 2), classes=10),
    # and on images like those of Fashion-MNIST, 28x28 and grey
    "fashion_vit": FASHION,
    "fashion_deit": distilled(FASHION),
    "fashion_swin": replace(
        swin(32, (2, 4), (2, 4), 7), image=(28, 28), patch=(2, 2), channels=1, classes=10
    ),
}


def variant(name: str) -> ViTConfig | SwinConfig:
    """Return the configuration called `name`; ValueError lists the names there are."""
    if name not in VARIANTS:
        raise ValueError(f"no variant {name!r}; there are {', '.join(VARIANTS)}")
    return VARIANTS[name]
