# %% [markdown]
# # A tour in five minutes
#
# **You will be able to** follow one image through a Vision Transformer three times, in floating
# point, on a grid of codes and in integers alone; predict the size of a quantized model to the
# byte; and say what each layer costs on a small accelerator.
#
# You need Python and NumPy, and no notebook before this one. Reading takes five minutes, with the
# four exercises fifteen. Everything runs on one core, and nothing is downloaded.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import refvit
from refvit import plot
from refvit.quant import packed_bytes

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
fig, axs = plt.subplots(1, 8, figsize=(11, 1.8))
for ax, image, name in zip(axs, images, names, strict=True):
    ax.imshow(image, interpolation="nearest")
    ax.set(title=name, xticks=[], yticks=[])
plot.picture(fig, f"Eight small noisy pictures of shapes: {', '.join(names)}.")

# %% [markdown]
# A ViT does not see pixels but *patches*: 64 squares of 4 x 4. Each becomes a *token*, a vector of
# 48 numbers; a 65th, the class token, gathers the answer. In every *block*, tokens look at each
# other by four matrices, `q`, `k`, `v` and `proj`: the weights by which one takes from the others
# are its *attention* (Dosovitskiy et al. 2021). Then an *MLP* works on each token alone: two
# matrices, `fc1` and `fc2`, with a curve, GELU, between them. A tap sees every value that flows.

# %%
image, truth = images[3], names[3]
pixels = model.preprocess(image)[None]
record = refvit.ops.Record()
logits = model(pixels, tap=record)
attention = record.values["blocks.3.attn.softmax"][0].mean(0)
assert record.values["embed"].shape == (1, 64 + 1, 48)

fig, axs = plt.subplots(1, 2, figsize=(9, 3.8))
plot.patches(image, model.config.patch, axs[0]).set_title("64 patches")
plot.attention(attention, model.config.grid, image, axs[1]).set_title("last block, mean of 4 heads")
print("float says:", model.labels[logits[0].argmax()], "- it is:", truth)
plot.picture(
    fig, "Left, an image cut into 8 x 8 patches; right, the attention of the class token over it."
)

# %% [markdown]
# The model returns ten numbers for an image, the *logits*; the greatest one is its answer. How
# often is it right? **Your turn:** fill the cell, run it, and run the cell below, which tries your
# function on a hundred small cases. If it is wrong you get the smallest case that shows it.

# %% exercise nb00.top1_accuracy

# %%
test_images, test_labels = refvit.data.shapes10("test", count=1000, seed=0)
test_pixels = model.preprocess.normalise(test_images)
answers = {"FP32": model(test_pixels).argmax(1)}
print(f"top-1 accuracy in float32: {np.mean(answers['FP32'] == test_labels):.1%} of 1000 images")

# %% [markdown]
# ## 2. Codes instead of numbers
#
# The model's numbers are floats of 32 bits (FP32). *Quantization* puts them on a grid, and a
# whole number, the *code*, says which point of the grid is meant (Jacob et al. 2018, section 2.1,
# without zero point):
#
# $$\text{real} \approx \text{scale} \cdot \text{code}$$

# %%
weights = model.params.blocks[0].mlp.fc1.weight[0, :6]
scale = np.abs(weights).max() / 127  # 8 bits: the largest magnitude has the code 127
codes = np.rint(weights / scale).astype(np.int8)
print("weights    ", weights.round(4))
print("codes      ", codes)
print("scale*codes", (scale * codes).round(4))
assert np.abs(scale * codes - weights).max() <= 0.501 * scale

# %% [markdown]
# No weight is off by more than half a step. *Activations*, the values between the layers, get
# their scale by *calibration*: a few images are run, and the largest magnitude seen becomes the
# largest code. "W8A8" has 8 bits for weights and for activations, "W4A4" has 4. A few sensitive
# values, such as the sums that every block adds to, keep more.

# %%
calibration = model.preprocess.normalise(refvit.data.shapes10("calibration", 128)[0])
quantized = {
    name: refvit.quantize(model, calibration, recipe=name.lower()) for name in ("W8A8", "W4A4")
}
site = "blocks.0.mlp.act"
fig, axs = plt.subplots(1, 2, figsize=(11, 3.4), sharey=True)
for ax, (name, simulated) in zip(axs, quantized.items(), strict=True):
    plot.histogram(record.values[site], simulated.qparams[site], ax).set_title(f"{site}, {name}")
plot.picture(
    fig,
    "Histograms of one layer's values with the codes that collect them: 8 bits follow the shape, "
    "4 bits leave a handful of levels.",
)

# %% [markdown]
# ## 3. How large is the file?
#
# Codes of 4 bits are *packed*, two to a byte; of 3 bits, eight to three bytes. Predict before you
# look: first by a function, then for the whole model.

# %% exercise nb00.packed_size

# %% exercise nb00.weights_in_file

# %% [markdown]
# Now write the files and count. An engine is what section 4 computes with; beside the weights it
# holds the other integers (biases, position embeddings, the factors between two scales) and a
# header with names.

# %%
matrices = {n: t for n, t in model.params.items() if n.endswith(".weight") and t.ndim == 2}
counts = {name: t.size for name, t in matrices.items()}
assert sum(counts.values()) == 113_376
assert len(counts) == 26
floats = 4 * sum(t.size for _, t in model.params.items())
engines = {name: refvit.compile(simulated) for name, simulated in quantized.items()}
size = {"FP32": floats}
with tempfile.TemporaryDirectory() as folder:
    for name, engine in engines.items():
        engine.save(path := Path(folder) / "engine.safetensors")
        size[name] = path.stat().st_size
for name, bits in (("W8A8", 8), ("W4A4", 4)):
    packed = sum(packed_bytes(n, bits) for n in counts.values())
    print(f"{name}: weights {packed:,} bytes of {size[name]:,} in the file")
print(f"FP32: {floats:,} bytes of parameters")

# %% [markdown]
# Half the bits are half the bytes for the weights, not for the file: what else is in it stays. For
# a model as small as this one that is a large share.

# %%
saved = size["W8A8"] - size["W4A4"]
print(f"W4A4 saves {saved:,} bytes; half of the weights' bytes is {113_376 // 2:,}")
assert abs(saved - 113_376 // 2) < 200  # the header is some letters longer or shorter
print(f"of the W4A4 file, {1 - 56_688 / size['W4A4']:.0%} is not weights")

# %% [markdown]
# ## 4. Integers alone
#
# The quantized model still computes in floats that lie on grids: it *simulates*. `compile` turns
# every scale into integer constants and proves that no 32-bit value can overflow, whatever the
# image. What is left computes with codes of 8 or 16 bits and sums of 32.

# %%
for name, engine in engines.items():
    answers[name] = engine(test_pixels).argmax(1)
simulated = quantized["W8A8"](test_pixels).argmax(1)
for name, found in answers.items():
    same = np.mean(found == answers["FP32"])
    print(f"{name}: top-1 {np.mean(found == test_labels):6.1%}, same as float {same:6.1%}")
print(f"simulated and integer W8A8 agree on {np.mean(simulated == answers['W8A8']):.1%}")

# %%
widest = refvit.integer.widest(list(engines["W8A8"].proofs))
print(f"{len(engines['W8A8'].proofs)} ranges proved")
print(f"the widest: {widest.bits} of {widest.width} bits, {widest.what} at {widest.site},")
print(f"within [{widest.lo:,}, {widest.hi:,}]")
assert widest.bits <= 32

# %% [markdown]
# ## 5. What the hardware would do
#
# The same model code, run on shapes instead of numbers, is the workload of an accelerator. `edge32`
# has 32 x 32 multipliers, each of which multiplies and adds once a cycle (a *multiply-accumulate*),
# a vector unit for what is no matrix product, and a narrow way to *DRAM*, the memory beside the
# chip. How many bytes come through it for one image?

# %% exercise nb00.loaded_bytes

# %%
reports = {
    name: refvit.simulate(model.config, machine="edge32", recipe=name.lower()) for name in engines
}
for name, report in reports.items():
    bits = int(name[1])
    expected = 113_376 * bits // 8 + 3 * 32 * 32 + (1 + 65) * 48 * 2
    found = report.totals["load_bytes"]
    print(f"{name}: {found:,} bytes loaded  expected: {expected:,}  match: {found == expected}")
    assert found == expected
print(reports["W8A8"].table())

# %% [markdown]
# The four blocks are alike, so one of them is enough to see where time and energy go. GELU, the
# curve inside the MLP, takes no time: it streams behind `fc1`. Softmax, which makes the attention,
# is the longest, and has not one multiply-accumulate. A colour says what a layer waits for: its
# products (compute), DRAM (memory) or the vector unit. Energies are ranges, as two tables differ.

# %%
rows = reports["W8A8"].rows
shown = [row for row in rows if row.group in ("patch_embed", "embed", "blocks.0", "head")]
longest = max(shown, key=lambda row: row.us)
print(f"the longest: {longest.name}, {longest.us:.1f} us, {longest.macs} multiply-accumulates")
assert longest.op == "softmax"
assert longest.macs == sum(row.us for row in shown if row.op == "gelu") == 0
fig, axs = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True)
plot.layers(shown, "us", axs[0]).set_title("latency")
plot.layers(shown, "uj", axs[1]).set_title("energy")
fig.tight_layout()
plot.picture(
    fig,
    "Bars of latency and energy for each layer of one block: softmax takes longest, fc1 and fc2 "
    "most energy.",
)

# %% [markdown]
# And floats? `edge32` has no unit for them, so there is no simulation to compare with, but there is
# a floor. All parameters have to come, 4 bytes each, through the same memory; and a float32
# multiply-accumulate costs 4.6 pJ in the 45 nm process that the tables are for, a multiply of 3.7
# and an add of 0.9 (Horowitz 2014, figure 1.1.9). Whatever else a float machine does is on top.

# %%
machine, totals = reports["W8A8"].machine, reports["W8A8"].totals
floor_us = floats / machine.dram_bytes_per_cycle / machine.clock_mhz
pj_per_byte = [1e6 * totals[f"uj_dram_{end}"] / totals["dram_bytes"] for end in ("low", "high")]
floor_uj = [(floats * pj + totals["macs"] * (3.7 + 0.9)) / 1e6 for pj in pj_per_byte]
print(f"a DRAM byte: {pj_per_byte[0]:.0f} to {pj_per_byte[1]:.0f} pJ")
print(f"FP32: at least {floor_us:.0f} us and {floor_uj[0]:.0f} to {floor_uj[1]:.0f} uJ")
us = {"FP32": floor_us} | {name: report.totals["us"] for name, report in reports.items()}
print(f"W8A8 takes {us['W8A8']:.1f} us, W4A4 {us['W4A4']:.1f} us")
assert us["W4A4"] > us["W8A8"] / 2  # half the bits are not half the time
assert len({report.totals["compute_cycles"] for report in reports.values()}) == 1

# %% [markdown]
# ## 6. The strip
#
# All of it in one picture: an image on which three versions of one model differ, how often each is
# right, and what it costs.

# %%
versions = list(answers)
accuracy = [100 * np.mean(answers[name] == test_labels) for name in versions]
low = [floor_uj[0]] + [report.totals["uj_low"] for report in reports.values()]
high = [floor_uj[1]] + [report.totals["uj_high"] for report in reports.values()]

fig, axs = plt.subplots(1, 5, figsize=(14, 2.9), width_ratios=(0.8, 1, 1, 1, 1))
right = {name: answers[name] == test_labels for name in versions}
which = int(np.argmax(right["FP32"] & right["W8A8"] & ~right["W4A4"]))
axs[0].imshow(test_images[which], interpolation="nearest")
said = [f"{name}: {model.labels[answers[name][which]]}" for name in versions]
title = f"it is: {model.labels[test_labels[which]]}"
axs[0].set(xticks=[], yticks=[], title=title, xlabel="\n".join(said))
axs[0].xaxis.label.set_fontsize(11)
plot.costs(versions, accuracy, axs[1], form="{:.1f}").set_title("top-1 accuracy, %")
plot.costs(versions, [size[n] / 1000 for n in versions], axs[2]).set_title("size, kB")
plot.costs(versions, list(us.values()), axs[3], least={"FP32"}).set_title("latency, microseconds")
plot.costs(versions, low, axs[4], highs=high, least={"FP32"}).set_title("energy, microjoules")
fig.tight_layout()
plot.picture(
    fig,
    "An image and bars for FP32, W8A8 and W4A4: accuracy, size, latency and energy. W8A8 keeps the "
    "accuracy at about a third of the size; W4A4 loses accuracy and gains little time.",
)

# %% [markdown]
# Eight bits cost next to nothing and save most. Four bits by the simplest recipe cost accuracy: why
# that is so, and how much of it comes back, is what notebooks 02 to 08 are about. They also save
# less time than bytes: the products and the softmax take as many cycles as before.

# %%
point = dict(zip(versions, accuracy, strict=True))
print(f"W8A8: {point['W8A8'] - point['FP32']:+.1f} points, {size['W8A8'] / floats:.0%} of the size")
print(f"W4A4: {point['W4A4'] - point['FP32']:+.1f} points, {size['W4A4'] / floats:.0%} of the size")
assert abs(point["W8A8"] - point["FP32"]) < 1
assert point["FP32"] - point["W4A4"] > 5

# %% [markdown]
# ## What to remember
#
# * One forward has many meanings: the same model code ran on floats, on codes and on shapes.
# * A code is a whole number, a scale says what it is worth; n codes of b bits are n b / 8 bytes.
# * 8 bits cost this model next to nothing; 4 bits by the simplest recipe cost it points.
# * Integers come with a proof: ranges that no image leaves (notebook 09 makes them).
# * With one image at a time a small model waits for weights and softmax, not for multipliers.
#
# **Papers.** Dosovitskiy et al. 2021 (ViT); Jacob et al. 2018 (integer-only inference); Horowitz
# 2014 (the energy of arithmetic); Kim et al. 2021 (I-BERT: softmax and GELU in integers); Du, Gong
# and Chu 2024 (the survey this project follows).
