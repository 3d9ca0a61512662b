# %% [markdown]
# # A tour in five minutes
#
# **You will be able to** follow one image through a Vision Transformer three times: in floating
# point, on a grid of 8-bit codes, and in integers alone, and say what each layer costs on a small
# accelerator.
#
# Everything here runs in NumPy on one core. Nothing is downloaded.

# %%
import matplotlib.pyplot as plt
import numpy as np

import refvit
from refvit import plot

model = refvit.load("nano_vit")
print(model.config)

# %% [markdown]
# ## 1. The image
#
# `shapes10` draws its pictures on demand: ten shapes, random colours and places, clutter, noise.
# A picture is a function of its number, so yours are the same as these.

# %%
images, labels = refvit.data.shapes10("test", count=8, seed=0)
names = [model.labels[k] for k in labels]
fig, axs = plt.subplots(1, 8, figsize=(12, 1.9))
for ax, image, name in zip(axs, images, names, strict=True):
    ax.imshow(image, interpolation="nearest")
    ax.set(title=name, xticks=[], yticks=[])

# %% [markdown]
# A ViT does not see pixels but *patches*: 64 squares of 4 x 4. Each becomes one token, a vector of
# 48 numbers; a 65th, the class token, gathers the answer.

# %%
image = images[3]
pixels = model.preprocess(image)[None]
record = refvit.ops.Record()
logits = model(pixels, tap=record)
attention = record.values["blocks.3.attn.softmax"][0].mean(0)

fig, axs = plt.subplots(1, 2, figsize=(9, 3.8))
plot.patches(image, model.config.patch, axs[0]).set_title("64 patches")
plot.attention(attention, model.config.grid, image, axs[1]).set_title("last block, mean of 4 heads")
print("float says:", model.labels[logits[0].argmax()], "- it is:", names[3])

# %% [markdown]
# ## 2. Codes instead of numbers
#
# Quantization puts every value on a grid: `real = scale * code`. The scale comes from
# *calibration*:
# the largest magnitude seen on a few images becomes the largest code.

# %%
calibration = model.preprocess.normalise(refvit.data.shapes10("calibration", 128)[0])
quantized = refvit.quantize(model, calibration, recipe="w8a8")

site = "blocks.0.mlp.act"
fig, axs = plt.subplots(1, 2, figsize=(11, 3.4), sharey=True)
for ax, recipe in zip(axs, ("w8a8", "w4a4"), strict=True):
    grid = refvit.quantize(model, calibration, recipe).qparams[site]
    plot.histogram(record.values[site], grid, ax).set_title(f"{site}, {recipe}")

# %% [markdown]
# ## 3. Integers alone
#
# The simulated model still computes in floats. `compile` turns every scale into integer constants
# and proves that no 32-bit value can overflow, whatever the image. What is left computes with
# `int8` codes and `int32` sums.

# %%
engine = refvit.compile(quantized)
test_images, test_labels = refvit.data.shapes10("test", count=1000, seed=0)
test_pixels = model.preprocess.normalise(test_images)

answers = {
    "float32": model(test_pixels).argmax(1),
    "simulated w8a8": quantized(test_pixels).argmax(1),
    "integer-only w8a8": engine(test_pixels).argmax(1),
    "simulated w4a4": refvit.quantize(model, calibration, "w4a4")(test_pixels).argmax(1),
}
for name, found in answers.items():
    same = np.mean(found == answers["float32"])
    print(f"{name:<18} top-1 {np.mean(found == test_labels):6.1%}   same as float {same:6.1%}")

# %%
widest = refvit.integer.widest(list(engine.proofs))
print(f"{len(engine.proofs)} ranges proved; the widest uses {widest.bits} of {widest.width} bits:")
print(f"{widest.what} at {widest.site}, within [{widest.lo:,}, {widest.hi:,}]")

# %% [markdown]
# ## 4. What the hardware would do
#
# The same model code, run on shapes instead of numbers, is the workload of an accelerator. `edge32`
# has 32 x 32 multipliers and a narrow memory: what this model makes stays on the chip, so only its
# weights and the image have to come.

# %%
report = refvit.simulate(model.config, machine="edge32", bits=8)
print(report.table())

# %% [markdown]
# The four blocks are alike, so one of them is enough to see where time and energy go. GELU takes
# no time: it streams behind `fc1`. Softmax is the longest, and has not one multiply-accumulate.

# %%
shown = [row for row in report.rows if row.group in ("patch_embed", "embed", "blocks.0", "head")]
fig, axs = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True)
plot.layers(shown, "us", axs[0]).set_title("latency")
plot.layers(shown, "uj", axs[1]).set_title("energy")
fig.tight_layout()

# %% [markdown]
# ## What to remember
#
# * One forward has many meanings: the same model code ran on floats, on codes and on shapes.
# * 8 bits cost this model next to nothing; 4 bits by the simplest recipe cost it points.
# * Integers are a contract: proved ranges, one rounding, the same codes on every machine.
# * At batch 1 a small model waits for its weights and its softmax, not for multipliers.
#
# **Papers.** Dosovitskiy et al. 2021 (ViT); Jacob et al. 2018 (integer-only inference); Kim et al.
# 2021 (I-BERT); Du, Gong and Chu 2024 (the survey this project follows).
