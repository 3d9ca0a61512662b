"""Integer kernels: softmax, GELU and LayerNorm, each with its constants and its proof."""
