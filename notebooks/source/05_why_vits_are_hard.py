# %% [markdown]
# # Why Vision Transformers are hard
#
# **You will be able to** say which three distributions of a ViT no uniform grid fits, predict how
# many codes an outlier leaves to its neighbours, break a model without changing its float function,
# and mend it the same way.
#
# Needs notebooks 02 (grids) and 04 (observers, dynamic scales). About 60 minutes; nothing is
# downloaded.

# %%
import matplotlib.pyplot as plt
import numpy as np

import refvit
from refvit import plot
from refvit.methods import METHODS, changed, observed, resolved
from refvit.quant import (
    PRESETS,
    Spec,
    TwinGrid,
    channel_ranges,
    folds,
    inject_outliers,
    quantize_model,
    reparameterise,
    smooth,
)

model = refvit.load("nano_vit")
normalise, shapes10 = model.preprocess.normalise, refvit.data.shapes10
calibration = normalise(shapes10("calibration", 64)[0])
images, labels = shapes10("test", 400)
test = normalise(images)


def accuracy(classify):
    return np.mean(classify(test).argmax(1) == labels)


# %% [markdown]
# ## 1. A puzzle from the literature
#
# FQ-ViT (Lin et al. 2022) puts ViT-B on 8 bits by plain min-max, for every weight and activation,
# and publishes what is left of its accuracy on ImageNet: 23.64 %, of 84.5 % in float. DeiT-S keeps
# 75.05 % of 79.9 %. Both are Vision Transformers of the same design; eight bits ruin one of them.
#
# Our own small model, which was trained on drawn shapes, hardly notices 8 bits, or 6:

# %%
exact = accuracy(model)
print(f"float {exact:.1%}")
for recipe in ("w8a8", "w6a6"):
    print(f"{recipe}  {accuracy(refvit.quantize(model, calibration, recipe)):.1%}")

# %% [markdown]
# So what is different? A value of a ViT is a matrix: a row for each **token**, a column for each
# **channel**. Call the greatest magnitude of a column its **reach**. In large ViTs a few channels
# reach many times as far as the others, in every image: **outlier channels**. FQ-ViT found them in
# what LayerNorm reads, RepQ-ViT (Li et al. 2023) in what it returns.
#
# **Your turn: 5.1.** Find them.

# %% exercise nb05.outlier_channels

# %%
NORM = "blocks.1.norm1"
reach = {site: np.abs(ends).max(0) for site, ends in channel_ranges(model, calibration).items()}
for site, each in reach.items():
    print(f"{site:<16} greatest reach {each.max() / np.median(each):.1f} times the median")
assert max(each.max() / np.median(each) for each in reach.values()) < 3

# %% [markdown]
# Our model has none. To study them we shall put some in, and prove that nothing else changes.
#
# ## 2. The same float function
#
# LayerNorm gives every channel $c$ a factor and an offset of its own, and a linear layer reads the
# result through one column of its weight $W$ for each channel:
#
# $$y_c = n_c \, \gamma_c + \beta_c, \qquad z = W y = \sum_c W_{:c} \, y_c$$
#
# Multiply $\gamma_c$ and $\beta_c$ by $r$, divide the column $W_{:c}$ by $r$: $z$ is what it was.
# Such a move of a factor from one tensor into the next is called a **fold**.
#
# **Your turn: 5.2.** Inject outliers that the float output does not see.

# %% exercise nb05.with_outliers

# %% [markdown]
# `inject_outliers` does that to three channels, drawn by a seed, of every LayerNorm that only
# linear layers read.

# %%
print(len(folds(model)), "norms can be folded, for example", folds(model)[0])
worse = inject_outliers(model, 64)
assert np.array_equal(worse(test), model(test))  # 64 is a power of two: bit for bit
print("logits of 400 images, with outliers and without: the same, bit for bit")


# %%
def reach_of(model):
    """The reach of every channel of one norm."""
    return np.abs(channel_ranges(model, calibration)[NORM]).max(0)


outliers = np.flatnonzero(worse.params[NORM].weight != model.params[NORM].weight)
fig, axs = plt.subplots(1, 2, figsize=(11, 3.7), sharey=True)
for ax, each, title in zip(axs, (model, worse), ("as trained", "3 channels 64 times"), strict=True):
    found = reach_of(each)
    step = found.max() / 31  # of 6 bits
    marked = outliers if each is worse else []
    plot.channels(found, step / 2, marked, ax).set_title(f"{NORM}, {title}")
    ax.set_ylim(0.03, 5000)
    lost = np.mean(found < step / 2)
    note = f"below the line: code 0 at 6 bits\n{lost:.0%} of the channels never leave it"
    ax.text(0.02, 0.97, note, transform=ax.transAxes, va="top", fontsize=11)
axs[0].set_ylabel("reach of a channel, max |y|")
fig.tight_layout()
plot.picture(
    fig,
    "Bars for the reach of 48 channels. As trained all stand far above half a 6-bit step; with "
    "three outliers, hatched, half a step is as high as the other bars: many are below it.",
)

# %% [markdown]
# ## 3. What an outlier leaves to the others
#
# One symmetric grid for the whole value covers its largest channel. How much of it do the ordinary
# channels get?
#
# **Your turn: 5.3.** Predict; the check quantizes and counts. (Notebook 03 asks the same of the
# rows of a weight.)

# %% exercise nb05.codes_left

# %%
print("ratio  " + "".join(f"{ratio:>6}" for ratio in (1, 4, 16, 64, 256)))
for bits in (8, 6):
    top = 2 ** (bits - 1) - 1
    ordinary = np.linspace(-1, 1, 2001)
    counts = [len(np.unique(np.rint(ordinary * top / r))) for r in (1, 4, 16, 64, 256)]
    print(f"{bits} bits " + "".join(f"{count:>6}" for count in counts))
    assert counts[3 if bits == 6 else 4] == 1

# %% [markdown]
# One code is no code: at ratio 64, six bits say nothing of the ordinary channels. Two bits more buy
# a factor of four. So if the number of codes left is all that matters, accuracy at 8 bits and
# ratio $4r$ must be that at 6 bits and ratio $r$. A sharp prediction; here is the experiment. Every
# model below has the same float function.

# %%
factors = np.array([1, 4, 8, 16, 32, 64, 128, 256])
recipes = {"W8A8": "w8a8", "W6A6": "w6a6"}
top1 = {name: [] for name in (*recipes, "float")}
left = {name: [] for name in recipes}
for factor in factors:
    hard = inject_outliers(model, float(factor))
    top1["float"].append(accuracy(hard))
    usual = [np.median(np.abs(ends).max(0)) for ends in channel_ranges(hard, calibration).values()]
    sites = list(reach)
    for name, recipe in recipes.items():
        quantized = refvit.quantize(hard, calibration, recipe)
        top1[name].append(accuracy(quantized))
        steps = [quantized.qparams[site].scale for site in sites]
        left[name].append(np.mean(2 * np.rint(np.array(usual) / steps) + 1))

assert top1["float"] == [exact] * len(factors)
print("factor   W8A8   W6A6  float   codes left to the median channel")
for row in zip(factors, *top1.values(), left["W8A8"], left["W6A6"], strict=True):
    print("{:>6}{:>7.1%}{:>7.1%}{:>7.1%}{:>9.1f}{:>8.1f}".format(*row))
six = dict(zip(factors.tolist(), top1["W6A6"], strict=True))
eight = dict(zip(factors.tolist(), top1["W8A8"], strict=True))
assert all(abs(six[factor] - eight[4 * factor]) < 0.1 for factor in (4, 8, 16, 32, 64))
assert six[64] < 0.15 < 0.5 < six[16] < 0.9 < six[1]

# %%
fig, axs = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
plot.accuracies(factors, top1, 0.1, axs[0])
axs[0].set_xscale("log", base=2)
axs[0].set_xticks(factors, factors)
axs[0].set(xlabel="three channels of every LayerNorm, times", title="the same float function")
plot.accuracies(left, {name: top1[name] for name in recipes}, 0.1, axs[1])
axs[1].set_xscale("log", base=2)
axs[1].set_xticks([1, 3, 5, 9, 17, 33, 65, 129], [1, 3, 5, 9, 17, 33, 65, 129])
axs[1].set(xlabel="codes left to the median channel", ylabel="", title="one curve for both widths")
fig.tight_layout()
plot.picture(
    fig,
    "Left: accuracy over the outlier factor; float is a flat line, 6 bits fall to chance by 32, 8 "
    "bits by 128. Right: the same points over the number of codes left lie on one curve.",
)

# %% [markdown]
# The two curves become one: what counts is neither the width nor the outlier but the **codes left**
# to an ordinary channel. That is the first difficulty of ViTs, and the answer to the puzzle: a
# float function says nothing about how well it can be quantized.
#
# Does a better range help? Notebook 04 had two cures for ranges. An outlier *channel* is one in
# every token and every image, so neither has anything to hold on to:

# %%
w6a6 = PRESETS["w6a6"]
cures = {
    "min-max": refvit.quantize(worse, calibration, "w6a6"),
    "least square error": observed("mse")(worse, calibration, w6a6),
    "a scale for each token": METHODS["dynamic"](worse, calibration, w6a6),
    "norms alone at 6 bits, rest at 8": quantize_model(
        worse, calibration, changed(resolved(worse, PRESETS["w8a8"]), "*norm*", bits=6)
    ),
}
for name, quantized in cures.items():
    print(f"{name:<34}{accuracy(quantized):.1%}")
    assert accuracy(quantized) < 0.25

# %% [markdown]
# The last line says that the norms' outputs alone are enough to ruin the model.
#
# ## 4. Fold it back
#
# If a fold can do this, a fold can undo it. **SmoothQuant** (Xiao et al. 2023, equation 4) divides
# each channel of the activation by
#
# $$s_c = \max|y_c|^{\alpha} \,/\, \max|W_{:c}|^{1 - \alpha}$$
#
# and multiplies the column of $W$ by it. At $\alpha = 1$ all channels end alike
# and the weights take the whole difference; at $\alpha = 0$ it is the other way round.
#
# **Your turn: 5.4 and 5.5.** The scale; then the property that every fold must have.

# %% exercise nb05.smoothing_scale

# %% exercise nb05.folds_invisibly

# %% [markdown]
# **RepQ-ViT** (Li et al. 2023, section 3.2) asks for the same from the other end: calibrate a grid
# for every channel, then fold what differs, so that one grid serves them all.

# %%
mended = {
    "SmoothQuant, alpha 0.5": smooth(worse, calibration),
    "RepQ-ViT": reparameterise(worse, calibration),
}
for name, each in mended.items():
    drift = np.abs(each(test) - model(test)).max()
    found = accuracy(refvit.quantize(each, calibration, "w6a6"))
    print(f"{name:<24} W6A6 {found:.1%}; logits of the float model move by {drift:.0e}")
    assert drift < 1e-4
    assert found > 0.9

# %%
fig, axs = plt.subplots(1, 3, figsize=(12, 3.5), sharey=True)
for ax, (name, each) in zip(axs, {"3 channels 64 times": worse, **mended}.items(), strict=True):
    found = reach_of(each)
    plot.channels(found, found.max() / 62, outliers, ax).set_title(name)
axs[0].set(ylabel="reach of a channel, max |y|", ylim=(0.003, 2000))
axs[0].text(0.02, 0.97, "grey: code 0 at 6 bits", transform=axs[0].transAxes, va="top", fontsize=11)
fig.tight_layout()
plot.picture(
    fig,
    "Bars of channel reaches for the model with outliers, after SmoothQuant and after RepQ-ViT: in "
    "the second all bars are well above half a step, in the third they are equal.",
)

# %% [markdown]
# Before and after, the float model is one and the same; all that moved is a scale.
#
# ## 5. Softmax: most probabilities are tiny
#
# The second difficulty are attention weights. A row of $N$ probabilities sums to 1, so nearly all
# of them are far below the few that matter. Equal steps are wrong at both ends: too coarse for the
# many, needlessly fine for the few. Powers of two, a code $c$ for $2^{-c}$, have the same
# *relative* step everywhere (Miyashita et al. 2016; FQ-ViT, section 3.4), and a product with one is
# a shift.
#
# Where does one power give way to the next? Nearest in the logarithm: at $2^{-c - 1/2}$, which is
# 0.707 and not 0.75 of the greater one.
#
# **Your turn: 5.6.**

# %% exercise nb05.log2_codes

# %%
record = refvit.ops.Record()
model(calibration, tap=record)
softmax = record.values["blocks.2.attn.softmax"]
uniform = np.arange(16) / 15 * softmax.max()
powers = 2.0 ** -np.arange(15)
fig, ax = plt.subplots(figsize=(9, 3.8))
shown = softmax[softmax > 2.0**-16]
plot.values_and_levels(shown, {"equal steps": uniform, "log2": powers}, ax, log=True)
ax.set(xlabel="probability (blocks.2.attn.softmax, above 2^-16)", xlim=(2.0**-16, 1.1))
tiny = np.mean(softmax < uniform[1] / 2)
print(f"{tiny:.0%} of the probabilities get code 0 of the equal steps")
plot.picture(
    fig,
    "Histogram of probabilities on a logarithmic axis, two rows of ticks below: equal steps crowd "
    "at the right end, powers of two are spread over the whole of it.",
)


# %%
def with_spec(pattern, spec):
    """Accuracy of W8A8 with another spec for some sites."""
    recipe = changed(resolved(model, PRESETS["w8a8"]), pattern, lambda _: spec)
    return accuracy(quantize_model(model, calibration, recipe))


print("softmax        equal steps   log2")
for bits in (4, 3):
    found = [
        with_spec("*.softmax", Spec(bits, signed=False, quantizer=q)) for q in ("linear", "log2")
    ]
    print(f"{bits} bits        {found[0]:>9.1%}{found[1]:>10.1%}")
    assert found[1] > found[0] + 0.03

# %% [markdown]
# ## 6. GELU: two sides of different kind
#
# The third is GELU's output. It never goes below -0.17 and reaches beyond 4 here: a narrow,
# crowded side and a wide, thin one. A symmetric grid spends half of its codes on negatives.
#
# **Your turn: 5.7.** Predict how many of them are never used.

# %% exercise nb05.wasted_codes

# %% [markdown]
# PTQ4ViT (Yuan et al. 2022, section 3.2) uses the code's sign bit to choose between two steps, a
# **twin** grid: a fine one for negatives, a coarse one for the rest. The coarse step is the fine
# one times $2^m$, so that a shift by $m$ brings both to one scale. How far it reaches is left to
# the search of notebook 04 for the least square error: the one drawn below clips at 1.8.
#
# **Your turn: 5.8.**

# %% exercise nb05.twin_round

# %%
act = record.values["blocks.2.mlp.act"]
twin = quantize_model(
    model, calibration,
    changed(resolved(model, PRESETS["w8a8"]), "*.act",
            lambda _: Spec(3, quantizer="twin", observer="mse")),
).qparams["blocks.2.mlp.act"]  # fmt: skip
assert isinstance(twin, TwinGrid)
grids = {
    "symmetric": np.arange(-4, 4) * act.max() / 3,
    "twin": twin.decode(np.arange(twin.lo, twin.hi + 1), np.float64),
}
fig, ax = plt.subplots(figsize=(9, 3.6))
plot.values_and_levels(act, grids, ax)
ax.set(yscale="log", xlabel="GELU's output, blocks.2.mlp.act; 3-bit levels", xlim=(-6.2, 4.7))
assert -0.17 < act.min() < 0 < 4 < act.max()
used = np.unique(np.clip(np.rint(act / (act.max() / 3)), -4, 3))
print(f"symmetric, 3 bits: {8 - len(used)} of 8 codes are never used")
print("twin levels:", grids["twin"].round(3))
plot.picture(
    fig,
    "Histogram of GELU outputs with two rows of ticks for 3-bit grids: half of the symmetric "
    "levels lie where there are no values; four twin levels crowd below 0, three spread above it, "
    "up to 1.8.",
)

# %%
print("GELU           symmetric   twin")
for bits in (3, 2):
    found = [
        with_spec("*.act", spec)
        for spec in (Spec(bits), Spec(bits, quantizer="twin", observer="mse"))
    ]
    print(f"{bits} bits        {found[0]:>9.1%}{found[1]:>8.1%}")
    assert found[1] > found[0]

# %% [markdown]
# ## What to remember
#
# * A float function says nothing about how well it can be quantized: a fold of three channels took
#   6 bits from above 90 % to chance, and not one bit of the float output changed.
# * What counts is the number of codes left to an ordinary channel:
#   $2\,\mathrm{rint}(q_{max} / r) + 1$.
# * Neither clipping nor a scale for each token helps against outlier channels; a fold does.
# * Probabilities want relative steps, GELU two different ones.
# * Each cure is a shift or a fold: nothing that integers could not do.
#
# **Papers.** Lin et al. 2022 (FQ-ViT); Xiao et al. 2023 (SmoothQuant); Li et al. 2023 (RepQ-ViT);
# Miyashita et al. 2016 (logarithmic codes); Yuan et al. 2022 (PTQ4ViT); Du, Gong and Chu 2024.
