"""The named sizes of the papers, as a table that can be checked against them."""

from __future__ import annotations

from refvit.models.vit import ViTConfig

VARIANTS: dict[str, ViTConfig] = {
    #                       width depth heads hidden   parameters   source
    "vit_tiny": ViTConfig(192, 12, 3, 768),  #    5,717,416  Touvron et al. 2021, Table 1 (Ti)
    "vit_small": ViTConfig(384, 12, 6, 1536),  #   22,050,664  Touvron et al. 2021, Table 1 (S)
    "vit_base": ViTConfig(768, 12, 12, 3072),  #   86,567,656  Dosovitskiy et al. 2021, Table 1
    "vit_large": ViTConfig(1024, 24, 16, 4096),  #  304,326,632  Dosovitskiy et al. 2021, Table 1
    "deit_tiny": ViTConfig(192, 12, 3, 768),  #    5,717,416  Touvron et al. 2021, Table 1
    "deit_small": ViTConfig(384, 12, 6, 1536),  #   22,050,664  Touvron et al. 2021, Table 1
    "deit_base": ViTConfig(768, 12, 12, 3072),  #   86,567,656  Touvron et al. 2021, Table 1
    # refvit's own, trained on shapes10: 119,194 parameters
    "nano_vit": ViTConfig(48, 4, 4, 192, image=(32, 32), patch=(4, 4), classes=10),
}


def variant(name: str) -> ViTConfig:
    """Return the configuration called `name`; ValueError lists the names there are."""
    if name not in VARIANTS:
        raise ValueError(f"no variant {name!r}; there are {', '.join(VARIANTS)}")
    return VARIANTS[name]
