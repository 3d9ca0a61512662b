"""Checkpoints of the peers: Hugging Face, timm, and the official releases of DeiT and Swin.

`names` turns their tensor names into refvit's, `infer` reads sizes off names and shapes,
`hugging_face` and `timm` read the settings beside them, `preprocess` how images are made ready.
"""

from refvit.peers.load import configuration, load_directory, load_lone

__all__ = ["configuration", "load_directory", "load_lone"]
