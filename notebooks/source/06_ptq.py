# %% [markdown]
# # Post-training quantization, end to end
#
# **You will be able to** quantize a trained model without training it, say how few bits its
# weights and its activations get by with and which layers ask for more, and win back what rounding
# took: by biases, by a better rounding, and by bits where they count.
#
# It needs notebooks 02 to 04: grids, granularity, calibration. An hour; half a minute to run.

# %%
import matplotlib.pyplot as plt
import numpy as np

import refvit
from refvit import plot
from refvit.losses import soft_distillation
from refvit.methods import method
from refvit.quant import (
    PRESETS,
    Recipe,
    Spec,
    adaround,
    allocate,
    correct_bias,
    gptq,
    input_moments,
    mean_errors,
    round_weights,
    sensitivity,
    symmetric,
    uniform,
)

model = refvit.load("nano_vit")
normalise, shapes10 = model.preprocess.normalise, refvit.data.shapes10
calibration = normalise(shapes10("calibration", 128)[0])
images, labels = shapes10("test", count=300)
pixels = normalise(images)
exact = model(pixels)
print(f"float32: {np.mean(exact.argmax(1) == labels):.1%} of {len(labels)} test images")

# %% [markdown]
# ## 1. Two passes and no training
#
# **What does it take to quantize a model that somebody else has trained?** No labels, no gradients,
# a hundred images. *Post-training quantization* (PTQ) is
#
# 1. **calibrate**: run a few images; an *observer* at every value keeps its range;
# 2. **choose grids**: a *grid* is a `scale` (the step between neighbours), a `zero_point` (the code
#    of 0; here 0, for grids are symmetric) and a number of bits. A *code* is the integer that
#    stands for a value, `real = scale * (code - zero_point)`;
# 3. **round** weights once, activations whenever they are computed.
#
# A *recipe* says which value gets how many bits: `w4a8` has weights of 4 bits, with a scale for
# each output channel, and activations of 8 where a product reads them.

# %%
quantized = refvit.quantize(model, calibration, "w8a8")
print(quantized)
for name in ("blocks.0.norm1", "blocks.0.attn.q.weight", "blocks.0.attn.q.bias"):
    grid = quantized.qparams[name]
    print(
        f"{name:<24}{grid.bits:>3} bits, {grid.scale.size:>2} scales, {grid.scale.flat[0]:.2e} ..."
    )

# %% [markdown]
# The bias has 32 bits and the product of two scales, its input's and its weight's: that is the unit
# of the *accumulator*, the sum of products that it is added to (Jacob et al. 2018, section 2.4).
#
# ## 2. How few bits?
#
# **Which is harder to round, weights or activations?** Try each alone. Two figures tell how much is
# left: the accuracy, and the mean divergence of the class probabilities $q$ from the float model's
# $p$,
#
# $$\mathrm{KL} = \sum_k p_k \log (p_k / q_k),$$
#
# which is 0 for no change. It needs no labels, and it sees changes that flip no answer yet.


# %%
def top1(classify):
    return np.mean(classify(pixels).argmax(1) == labels)


def divergence(classify):
    return float(soft_distillation(classify(pixels).astype(float), exact.astype(float), 1.0))


bits = (8, 6, 4, 3, 2)
which = {
    "weights alone": lambda b: (b, 16),
    "activations alone": lambda b: (16, b),
    "both": lambda b: (b, b),
}
accuracy = {name: [] for name in which}
for name, widths in which.items():
    for b in bits:
        found = refvit.quantize(model, calibration, uniform(f"{name}{b}", *widths(b)))
        accuracy[name].append(top1(found))
    print(f"{name:<18}", *(f"{b} bits {a:.1%}" for b, a in zip(bits, accuracy[name], strict=True)))

# %%
fig, ax = plt.subplots(figsize=(7.5, 4.4))
plot.accuracy_by_bits(bits, accuracy, len(labels), top1(model), 1 / 10, ax)
ax.set_title("nano_vit, min-max ranges: 4 bits do for weights, 6 for activations")
plot.picture(
    fig,
    "Accuracy against bits. Weights alone keep the float accuracy down to 4 bits; activations "
    "alone lose more than 15 points at 4 bits and more than half of all answers at 3; both "
    "together follow the activations.",
)

# %% [markdown]
# The bars are two standard errors of 300 images, about three points at the top, so the small steps
# there are chance. The large ones are not: activations are the bottleneck.

# %%
at = dict(zip(bits, range(len(bits)), strict=True))
assert accuracy["weights alone"][at[4]] > accuracy["activations alone"][at[4]] + 0.1
assert abs(accuracy["both"][at[4]] - accuracy["activations alone"][at[4]]) < 0.08
assert accuracy["activations alone"][at[4]] < top1(model) - 0.15
assert accuracy["activations alone"][at[3]] < 0.5 * top1(model)
assert (
    min(accuracy["activations alone"][at[6]], accuracy["weights alone"][at[4]]) > top1(model) - 0.04
)

# %% [markdown]
# ## 3. What rounding costs, predicted
#
# **Why does every bit less hurt so much more?** Take one output, $y = \sum_i w_i x_i$, and round
# its weights by errors $e_i$. The output is off by $\sum_i e_i x_i$. Over inputs its mean square
# needs only one matrix, the *moment* $M$ of the inputs:
#
# $$\mathbb{E}\Big(\sum_i e_i x_i\Big)^2 = e^T M e, \qquad M = \mathbb{E}\,[x x^T].$$
#
# An error is anything up to half a step, and errors of different weights know nothing of each
# other. That is enough to predict the figure from the step and $M$ (Bennett 1948, for one signal).

# %% exercise nb06.predicted_error

# %% [markdown]
# Does it hold for trained weights, which nobody drew at random? For every linear of the model, at
# 3, 4 and 8 bits, the prediction against what rounding to the nearest does, the mean over its rows:

# %%
layers = sensitivity(model, calibration[:1], (8,)).layers
moments = input_moments(refvit.quantize(model, calibration, "w4a8"), calibration[:32], layers)
points = {}
for b in (8, 4, 3):
    for layer in layers:
        w, M = model.params[f"{layer}.weight"].astype(float), moments[layer]
        grid = symmetric(np.abs(w).max(1), b, axis=0)
        e = grid.round(w) - w
        measured = np.mean(np.sum((e @ M) * e, axis=1))
        points.setdefault(b, []).append((np.mean(grid.scale**2) / 12 * np.trace(M), measured))

fig, ax = plt.subplots(figsize=(5.2, 4.4))
for k, (b, pairs) in enumerate(points.items()):
    ax.loglog(*np.transpose(pairs), "osD"[k], color=plot.LINES[k], label=f"{b} bits", alpha=0.8)
ends = ax.get_xlim()
ax.plot(ends, ends, color="black", linewidth=1, zorder=0)
ax.set(xlabel="predicted square error, sum over inputs", ylabel="measured", title="26 linears")
ax.legend(frameon=False)
ratios = np.array(
    [measured / predicted for pairs in points.values() for predicted, measured in pairs]
)
print(f"measured / predicted: {ratios.min():.2f} to {ratios.max():.2f}")
totals = {b: np.sum(pairs, axis=0)[1] for b, pairs in points.items()}
print(f"from 4 bits to 3 the measured errors grow {totals[3] / totals[4]:.1f} times")
assert 4 < totals[3] / totals[4] < 7
assert ratios.min() > 0.7
assert ratios.max() < 1.3
plot.picture(
    fig,
    "Measured against predicted output error of 26 linear layers at 8, 4 and 3 bits: all points "
    "lie close to the diagonal over five orders of magnitude.",
)

# %% [markdown]
# The error goes with the square of the step, and with a bit less the step is about twice as wide:
# **a bit costs a factor of four** (6 dB), and a little more where codes are few: a range of 7 steps
# on either side of zero has 3 with a bit less, not 3.5. A classifier shrugs until errors reach the
# size of what separates its classes; then it falls off the cliff of the picture above.
#
# ## 4. Which layer?
#
# **Do all layers need the same bits?** Round one layer and nothing else, and look at the output.
# That is a layer's *sensitivity* (ZeroQ, Cai et al. 2020, section 3.2):
#
# $$\Omega_l(b) = \frac1n \sum_j \mathrm{KL}\big(p(x_j)\,\|\,p_{l,b}(x_j)\big),$$
#
# where $p_{l,b}$ are the probabilities with layer $l$ at $b$ bits.

# %%
widths = (3, 4, 6, 8)
found = sensitivity(model, calibration[:32], widths)
fig, ax = plt.subplots(figsize=(7.5, 6.6))
plot.sensitivities(found, ax)
worst = found.layers[int(found.costs[:, 0].argmax())]
first = np.array([layer.startswith(("patch_embed", "blocks.0")) for layer in found.layers])
share = found.costs[first, 0].sum() / found.costs[:, 0].sum()
dear = np.median(found.costs[first, 0]) / np.median(found.costs[~first, 0])
print(f"most sensitive at 3 bits: {worst}; patch_embed and block 0 have {share:.0%} of the sum")
print(f"a layer of theirs costs {dear:.1f} times as much as another, in the median")
assert worst == "patch_embed"
assert share > 0.5
assert 4 < dear < 12
plot.picture(
    fig,
    "Sensitivity of 26 layers at 3, 4, 6 and 8 bits on a logarithmic axis. The patch embedding and "
    "the first block are several times as sensitive as the blocks behind them; wider codes cost "
    "less.",
)

# %% [markdown]
# Those who come first cost most: all that follows reads their errors. The price of a bit differs
# several times over, so bits should be spent where they are dear. But one layer at a time is an
# assumption: do sensitivities add up?

# %%
for k, b in enumerate(widths):
    together = divergence(refvit.quantize(model, calibration, uniform(f"w{b}a16", b, 16)))
    print(
        f"{b} bits: the sum of the layers {found.costs[:, k].sum():.5f}, all at once {together:.5f}"
    )

# %% [markdown]
# Roughly, as long as they are small; at 3 bits the whole is more than its parts.
#
# ## 5. Bits under a budget
#
# **Which widths are best for a given size?** Choose one for each of 26 layers, such that the bytes
# fit and the sum of sensitivities is least. There are $4^{26}$ choices, but nobody has to try them:
# of two beginnings with the same bytes only the cheaper can be continued to the best end.

# %% exercise nb06.fit_budget

# %%
rest = {site: spec for site, spec in PRESETS["w8a8"].table.items() if site != "*.weight"}


def mixed(budget):
    """The best widths within a budget of bytes, and the model quantized with them."""
    picked = allocate(found.bytes, found.costs, budget)
    pairs = zip(found.layers, picked, strict=True)
    lines = {f"{name}.weight": Spec(widths[k], axis=0) for name, k in pairs}
    return picked, refvit.quantize(model, calibration, Recipe("mixed", lines | rest))


sizes = found.bytes.sum(0)
budgets = np.array([52_000, 56_000, int(sizes[1]), 72_000, 80_000])
of_mixed = [divergence(mixed(budget)[1]) for budget in budgets]
of_uniform = [divergence(refvit.quantize(model, calibration, uniform("u", b, 8))) for b in widths]

# %%
fig, ax = plt.subplots(figsize=(7, 4))
ax.semilogy(sizes / 1000, of_uniform, "o-", color=plot.GREY, label="the same width everywhere")
for size, kl, b in zip(sizes / 1000, of_uniform, widths, strict=True):
    ax.annotate(f"{b} bits", (size, kl), (6, 6), textcoords="offset points")
ax.semilogy(budgets / 1000, of_mixed, "s--", color=plot.BLUE, label="widths under a budget")
ax.set(
    xlabel="weights and their scales, kB",
    ylabel="KL from the float model",
    xlim=(45, 130),
    ylim=(8e-4, 0.5),
)
ax.set_title("activations of 8 bits, 300 test images")
ax.legend(frameon=False)
picked = mixed(int(sizes[1]))[0]
spent = {b: sum(widths[k] == b for k in picked) for b in widths}
print(
    f"in {sizes[1]:,} bytes: KL {of_mixed[2]:.4f}, not {of_uniform[1]:.4f}; layers by width {spent}"
)
assert 0.5 < of_mixed[2] / of_uniform[1] < 0.8
assert of_mixed[0] < 0.4 * of_uniform[0]
plot.picture(
    fig,
    "Divergence against the size of the weights. Mixed widths lie below the line of equal widths: "
    "in the bytes of 4 bits everywhere the divergence is about a third less.",
)

# %% [markdown]
# The widths were chosen on 32 calibration images and judged on others. A machine pays for mixed
# widths, though, unless it multiplies each at its own cost; notebook 12 asks that question.
#
# ## 6. Errors that do not cancel
#
# **Is a rounded layer right on average?** Not if its inputs have a mean: then the rounding errors
# of a row, weighted by that mean, add up to a shift that is the same for every image (Nagel et al.
# 2019, section 4.2). A shift is what a *bias* is for.

# %% exercise nb06.corrected_bias

# %% [markdown]
# In a model the layers are corrected in order, each behind those that are right already.
# `correct_bias` does that in one forward. At 3-bit weights:

# %%
w3a8 = refvit.quantize(model, calibration, "w3a8")
corrected = correct_bias(w3a8, calibration)
site = "blocks.3.mlp.fc2"
before, after = (mean_errors(q, model, calibration)[site] for q in (w3a8, corrected))
fig, ax = plt.subplots(figsize=(8, 3))
places = np.arange(len(before))
ax.bar(places, before, color=plot.GREY, label="nearest")
ax.plot(places, after, "o", color=plot.BLUE, markersize=4, label="biases corrected")
ax.set(xlabel="output channel", ylabel="mean error")
ax.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
ax.set_title(f"{site} at 3 bits", loc="right")
print(f"largest mean error {np.abs(before).max():.3f}, then {np.abs(after).max():.1e}")
assert np.abs(after).max() < 0.01 * np.abs(before).max()
plot.picture(
    fig,
    "Mean output error of 48 channels: bars of either sign before the correction, points on the "
    "zero line after it.",
)

# %% [markdown]
# ## 7. Nearest is not best
#
# **Why round to the nearest?** Because it has the least error in the *weights*. But the model sees
# outputs, and there the errors count by $e^T M e$: they can cancel. Rounding one weight the wrong
# way may set right what its neighbours did. Take a row of 48 weights at 3 bits, and round it up or
# down by chance, each weight more often towards its nearer side (Nagel et al. 2020, section 3, did
# so with a convolution). Beside chance and the nearest stand two searches for a better rounding,
# GPTQ and AdaRound, which are explained below:

# %%
layer, row = "blocks.0.attn.q", 3
weight = model.params[f"{layer}.weight"].astype(float)
M = input_moments(w3a8, calibration, [layer])[layer]
M /= len(calibration) * model.config.tokens
grid = symmetric(np.abs(weight).max(1), 3, axis=0)
step, w = grid.scale[row], weight[row] / grid.scale[row]


def errors(codes):
    e = (codes - w) * step
    return np.sum(e**2), e @ M @ e


rng = np.random.default_rng(0)
tried = np.array([errors(np.floor(w + rng.random(len(w)))) for _ in range(1000)]).T
chosen = {
    "nearest": errors(grid.encode(weight)[row]),
    "GPTQ": errors(gptq(weight, grid, M)[row]),
    "AdaRound": errors(adaround(weight, grid, M)[row]),
}

# %%
fig, ax = plt.subplots(figsize=(7, 4.2))
plot.roundings(*tried, chosen, ax).set_title(
    f"{layer}, row {row}: 1,000 roundings and three chosen"
)
for name, (own, output) in chosen.items():
    print(f"{name:<9} weights off by {own:.3f}, output by {output:.4f}")
better = np.mean(tried[1] < chosen["nearest"][1])
print(f"{better:.1%} of the random roundings have less output error than the nearest")
assert chosen["AdaRound"][0] > chosen["nearest"][0]
assert max(chosen["AdaRound"][1], chosen["GPTQ"][1]) < 0.6 * chosen["nearest"][1]
plot.picture(
    fig,
    "Output error against weight error of roundings of one row. The nearest has the least weight "
    "error; GPTQ and AdaRound have more of it and about half the output error or less.",
)

# %% [markdown]
# First say what a better rounding has to keep, as a property that every search can be held to. Then
# write one.

# %% exercise nb06.never_worse

# %% exercise nb06.search_codes

# %% [markdown]
# Your search looks at one change at a time. AdaRound learns all of a layer's ups and downs
# together; GPTQ rounds column by column and lets the weights still to come make up for the errors
# so far (Frantar et al. 2023). Both need no more than $M$:

# %%
rounded = {name: round_weights(w3a8, calibration, name) for name in ("gptq", "adaround")}
rows = {
    "nearest": w3a8,
    "nearest, biases corrected": corrected,
    "AdaRound": rounded["adaround"],
    "GPTQ": rounded["gptq"],
    "GPTQ, biases corrected": correct_bias(rounded["gptq"], calibration),
}
table = {name: (top1(q), divergence(q)) for name, q in rows.items()}
print("weights of 3 bits, activations of 8")
for name, (accuracy_of, kl) in table.items():
    print(f"{name:<28}{accuracy_of:6.1%}   KL {kl:.3f}")
assert table["nearest"][1] > table["nearest, biases corrected"][1]
assert max(table["GPTQ"][1], table["AdaRound"][1]) < 0.5 * table["nearest"][1]

# %% [markdown]
# As many codes to store, the same machine to run them, less than half the divergence.
#
# ## 8. End to end
#
# At W4A4 activations decide (section 2), so begin with their ranges. `minmax` covers all that was
# seen; `mse` clips where that loses less; `fitted` also brings the channels of LayerNorms together
# and gives probabilities a logarithmic grid (notebook 05).

# %%
w4a4 = PRESETS["w4a4"]
steps = {name: method(name)(model, calibration, w4a4) for name in ("minmax", "mse", "fitted")}
last = correct_bias(round_weights(steps["fitted"], calibration, "gptq"), calibration)
steps["fitted + GPTQ + biases"] = last
way = {name: (top1(q), divergence(q)) for name, q in steps.items()}
for name, (accuracy_of, kl) in way.items():
    print(f"{name:<24}{accuracy_of:6.1%}   KL {kl:.3f}")
kls = [kl for _, kl in way.values()]
assert kls == sorted(kls, reverse=True)
assert way["fitted + GPTQ + biases"][0] > way["minmax"][0] + 0.1

# %% [markdown]
# No label was read and no step trained. What is left at 4 bits and below is for notebook 07, where
# the model learns to live on its grid.
#
# ## What to remember
#
# * PTQ is calibrate, choose grids, round. Recipes say which value gets how many bits.
# * Output error is $\text{step}^2/12$ times the trace of $M$: a bit less is four times the error,
#   and more.
# * Weights get by with fewer bits than activations, late layers with fewer than early ones.
#   Sensitivities of single layers nearly add up, so the best use of a budget of bytes can be found:
#   layer by layer, keeping the cheapest beginning of each size.
# * A layer that is wrong on average gets it back from its bias.
# * Nearest minimises the wrong error. $e^T M e$ is the right one, and a search that begins at the
#   nearest beats it.
#
# **Papers.** Bennett 1948 (Spectra of quantized signals); Jacob et al. 2018; Nagel et al. 2019
# (data-free quantization through bias correction); Nagel et al. 2020 (AdaRound); Cai et al. 2020
# (ZeroQ); Frantar et al. 2023 (GPTQ); Du, Gong and Chu 2024 (the survey this project follows).
