# %% [markdown]
# # Calibration: static and dynamic
#
# **You will be able to** choose the range of a grid from a few images, say what each way of
# choosing loses, keep the statistics in memory that does not grow, and tell when a range should be
# found at run time instead.
#
# Needs notebook 02 (scale, code, symmetric grid). About 60 minutes; nothing is downloaded.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

import refvit
from refvit import plot
from refvit.methods import METHODS, changed, observed, resolved
from refvit.quant import Histogram, fake_quantize, observer, symmetric

model = refvit.load("nano_vit")
normalise, shapes10 = model.preprocess.normalise, refvit.data.shapes10
calibration = normalise(shapes10("calibration", 128)[0])
images, labels = shapes10("test", 500)
test = normalise(images)

# %% [markdown]
# ## 1. Whose range?
#
# A weight is known before any image comes; its largest magnitude is a fact. An **activation**, what
# a layer hands to the next, is different for every image. *Static* quantization fixes its scale
# beforehand. **Calibration** runs the float model on a few images; at every value an **observer**
# keeps what it needs to name a range, `[lo, hi]`, which the grid then covers.
#
# In refvit a *tap*, a function `(site, value) -> value`, sees every value of a forward pass by its
# name. This one notes the maximum of every value inside the four blocks, image by image. (Weights
# pass by as well; they have no row for each image, and are left out.)

# %%
maxima = {}


def watch(site, value):
    if site.startswith("blocks.") and len(value) == len(everything):
        maxima[site] = value.reshape(len(value), -1).max(1)
    return value


everything = np.concatenate([calibration, test])
model(everything, tap=watch)
print(len(maxima), "values, each with", len(everything), "maxima")

# %% [markdown]
# Two observers need only two numbers. **Min-max** keeps the least and the greatest value seen. The
# **moving average** (Jacob et al. 2018, section 3.1) lets every batch of images pull the ends a
# little, with a momentum $\mu$:
#
# $$hi \leftarrow \mu \, hi + (1 - \mu) \max(\text{batch})$$

# %%
top = maxima["blocks.2.mlp.fc2"][:128]
average = [top[0]]
for seen in top[1:]:
    average.append(0.9 * average[-1] + 0.1 * seen)

fig, ax = plt.subplots(figsize=(8, 3.4))
ax.plot(top, "o", color=plot.GREY, markersize=4, label="maximum of one image")
ax.plot(np.maximum.accumulate(top), "-", color=plot.LINES[1], label="min-max so far", linewidth=2)
ax.plot(average, "--", color=plot.BLUE, label="moving average, momentum 0.9", linewidth=2)
ax.set(xlabel="image of the calibration set", ylabel="maximum of mlp.fc2, block 2", ylim=(0, 6))
ax.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), columnspacing=1)
plot.picture(
    fig,
    "Maxima of 128 images as dots; the min-max line only climbs, in ever rarer steps, the moving "
    "average stays in the middle of the dots.",
)

# %% [markdown]
# **Your turn: 4.1.** Ends that forget.

# %% exercise nb04.moving_ends

# %% [markdown]
# ## 2. How often is a range exceeded?
#
# Min-max only climbs, so surely after 128 images it is safe? Nothing need be known about images to
# answer that, only that old and new ones come from the same source in random order.
#
# **Your turn: 4.2.** Predict, before you read on. The check counts orders.

# %% exercise nb04.chance_beyond

# %% [markdown]
# With one fresh image the chance is $1 / (n + 1)$; for the 500 test images together it is large.
# Random orders of our images agree, averaged over all values of the blocks:

# %%
rng = np.random.default_rng(0)
tops = np.stack(list(maxima.values()))


def exceeded(n, m, times=200):
    """How often one of m images goes beyond n others, over random orders and all values."""
    orders = (rng.permutation(tops.shape[1])[: n + m] for _ in range(times))
    pairs = [(tops[:, o[:n]].max(1), tops[:, o[n:]].max(1)) for o in orders]
    return np.mean([fresh > old for old, fresh in pairs])


for n, m in ((1, 1), (8, 1), (32, 1), (128, 1), (128, 500)):
    predicted, measured = m / (n + m), exceeded(n, m)
    print(f"{n:>3} calibration images, {m:>3} fresh: predicted {predicted:.3f}, is {measured:.3f}")
    assert abs(predicted - measured) < 0.06
ours = np.sum(tops[:, 128:].max(1) > tops[:, :128].max(1))
print(f"our own split: {ours} of {len(tops)} ranges are exceeded by some test image")

# %% [markdown]
# So some values are always clipped. That is no disaster; the next sections clip on purpose.
#
# ## 3. A distribution in bounded memory
#
# To clip well one has to know how values are spread, and they cannot all be kept. A
# **histogram** counts them in bins; but of what width, when the greatest value is still to come?
# refvit's `Histogram` has a reach that is a power of two. If a value falls outside, the reach
# doubles and neighbouring bins merge. No count is lost, and nothing is read twice.
#
# **Your turn: 4.3 and 4.4.** Write the merging. Then write the *property* that every streaming
# histogram must have; it is tried on two that are right and several that are not.

# %% exercise nb04.merge_bins

# %% exercise nb04.streams_like_whole

# %%
record = refvit.ops.Record()
model(calibration, tap=record)
values = record.values["patch_embed"]  # [128 images, 64 patches, 48 channels]
whole, parts = Histogram(), Histogram()
whole.update(values)
for batch in np.array_split(values, 16):
    parts.update(batch)
assert parts.reach == whole.reach
assert np.array_equal(parts.counts, whole.counts)
print(f"{values.size:,} values in {len(whole.counts)} bins of {whole.width:.5f}; 16 batches or one")

# %% [markdown]
# ## 4. Clip or round?
#
# A grid of $b$ bits that ends at $c$ has steps of $s = c / (2^{b-1} - 1)$. Values inside are off by
# up to $s/2$, on average $s^2/12$ squared; values outside are off by how far they are outside:
#
# $$\mathrm{MSE}(c) \approx \frac{s(c)^2}{12} + \frac1n \sum_{|x_i| > c} (|x_i| - c)^2$$
#
# A small $c$ buys fine steps for the many and pays with the few.


# %%
def lost(x, point, bits):
    """The mean square error of rounding, and that of clipping, on the grid that ends at `point`."""
    grid = symmetric(point, bits, restricted=True)
    square, inside = (fake_quantize(x, grid) - x) ** 2, np.abs(x) <= point
    return np.mean(square * inside), np.mean(square * ~inside)


flat = values.ravel().astype(np.float64)
points = np.linspace(0.3, np.abs(flat).max(), 40)
fig, axs = plt.subplots(1, 2, figsize=(10.5, 3.5), sharey=True)
for ax, bits in zip(axs, (4, 8), strict=True):
    rounded, clipped = np.array([lost(flat, point, bits) for point in points]).T
    both = rounded + clipped
    ax.plot(points, rounded, "--", color=plot.BLUE, label="rounding, inside")
    ax.plot(points, np.where(clipped > 0, clipped, np.nan), "-.", color=plot.LINES[1],
            label="clipping, outside")  # fmt: skip
    ax.plot(points, both, color="black", linewidth=2, label="both")
    ax.plot(points[both.argmin()], both.min(), "*", color="black", markersize=13)
    ax.set(yscale="log", ylim=(2e-6, 0.2), xlabel="clipping point", title=f"{bits} bits")
    ax.grid(alpha=0.3)
    share = both.min() / both[-1]
    print(f"{bits} bits: least at {points[both.argmin()]:.2f}, {share:.0%} of what min-max loses")
axs[0].set_ylabel("mean square error")
axs[1].legend(frameon=False, fontsize=10, loc="upper right")
plot.picture(
    fig,
    "Error over the clipping point for 4 and for 8 bits: rounding grows with the range, clipping "
    "falls; their sum is least at a third of the range for 4 bits, at three quarters for 8.",
)

# %% [markdown]
# The fewer the bits, the more there is to win by clipping.
#
# **Your turn: 4.5.** The observer that searches the point. As the full range is among the
# candidates, it can never lose more than min-max.

# %% exercise nb04.best_clip

# %% [markdown]
# ## 5. Four thresholds
#
# * **Min-max**: nothing is clipped.
# * **Percentile**: a fixed share, here 0.01 % at each end, lies beyond (McKinstry et al. 2019).
# * **MSE**: the point of least square error.
# * **KL**: the point where the distribution of codes differs least from that of values (Migacz
#   2017). The difference is the relative entropy of two histograms, $p$ of the values, clipped, and
#   $q$ of the codes, spread again over the bins they stand for:
#
# $$\mathrm{KL}(p \,\|\, q) = \sum_i p_i \log (p_i / q_i)$$
#
# **Your turn: 4.6.**

# %% exercise nb04.relative_entropy


# %%
def ends(values, bits=4):
    """Return where each observer ends a symmetric grid."""
    found = {}
    kinds = {"minmax": "min-max", "percentile": "percentile", "entropy": "KL", "mse": "MSE"}
    for kind, name in kinds.items():
        seen = observer(kind)
        seen.update(values)
        lo, hi = seen.range(bits, symmetric=True, signed=True)
        found[name] = max(-lo, hi)
    return found


chosen = ends(values)
error = {}
for name, end in chosen.items():
    error[name] = np.mean((fake_quantize(flat, symmetric(end, 4)) - flat) ** 2)
    print(f"{name:<11} ends at {end:.2f}, mean square error {error[name]:.5f}")
assert min(error, key=error.get) == "MSE"
assert list(error.values()) == sorted(error.values(), reverse=True)

# %%
fig, ax = plt.subplots(figsize=(9, 4.4))
plot.thresholds(values, chosen, ax).set_title("patch_embed of 128 images: where 4 bits shall end")
plot.picture(
    fig,
    "Histogram of magnitudes on a logarithmic scale and four lines: min-max at the end of "
    "a long tail, then percentile, KL and MSE, each cutting off more.",
)

# %% [markdown]
# The least error of one value is not yet the best model: what a layer does with it decides.
# Here each observer in turn serves all activations under the recipe `w4a4`: 4 bits for weights and
# for what products read, 8 for what softmax and GELU read, 16 for the residual stream, the sum that
# runs through all blocks. Weights keep min-max. `observed` is calibration with one observer;
# `resolved` writes a recipe out, a line for every value by its name, and `changed` edits lines.


# %%
def accuracy(classify):
    return np.mean(classify(test).argmax(1) == labels)


w4a4 = refvit.quant.PRESETS["w4a4"]
names = {"minmax": "min-max", "percentile": "percentile", "mse": "MSE", "entropy": "KL"}
top1 = {name: accuracy(observed(kind)(model, calibration, w4a4)) for kind, name in names.items()}
usual = resolved(model, w4a4)  # a line for every site
spared = ("*.weight", "*.softmax")
table = changed(usual, "*", observer="entropy")
for pattern in spared:
    table = changed(table, pattern, observer="minmax")
top1["KL, softmax by min-max"] = accuracy(refvit.quantize(model, calibration, table))
for name, share in top1.items():
    print(f"{name:<24}{share:.1%}")
assert top1["KL"] < top1["min-max"] < top1["MSE"]
assert top1["KL, softmax by min-max"] > top1["min-max"]

# %% [markdown]
# KL alone is the worst, and the harm is in one place. Probabilities after softmax are nearly
# all tiny: clipping the few large ones hardly changes the *shape* of the distribution, which is all
# that KL looks at, and those few are the attention.

# %%
softmax = record.values["blocks.2.attn.softmax"]
for name, end in ends(softmax).items():
    print(f"{name:<11} ends at {end:.2f} of a greatest probability of {softmax.max():.2f}")
print(f"beyond the end of KL: {np.mean(softmax > ends(softmax)['KL']):.1%} of the probabilities,")
print(f"which have {softmax[softmax > ends(softmax)['KL']].sum() / softmax.sum():.0%} of the mass")

# %% [markdown]
# ## 6. Dynamic: ask the value itself
#
# *Dynamic* quantization finds the scale when the value comes: no calibration, no range that is
# wrong, and each **token**, a row of the value, may have a scale of its own.
#
# **Your turn: 4.7 and 4.8.** A scale for each row; then the property that no static grid has: if
# the input doubles, the scale doubles, and the codes stay.

# %% exercise nb04.token_codes

# %% exercise nb04.is_scale_equivariant

# %% [markdown]
# What is it good for? Calibrate on images that are not like those to come: darkened ones, and
# plain grey. `dynamic` gives every value of 8 bits or fewer a scale for each token; the 16-bit
# residual stream stays static.

# %%
w8a8 = refvit.quant.PRESETS["w8a8"]
raw = shapes10("calibration", 128)[0]
sets = {"the right images": raw, "darkened": raw // 4, "plain grey": np.full_like(raw, 128)}
rows = {}
for name, pictures in sets.items():
    pixels = normalise(pictures)
    found = (METHODS[kind](model, pixels, w8a8) for kind in ("minmax", "dynamic"))
    rows[name] = [accuracy(quantized) for quantized in found]
    print(f"{name:<18} static {rows[name][0]:6.1%}   dynamic {rows[name][1]:6.1%}")
rows["w4a4, right images"] = [
    top1["min-max"],
    accuracy(METHODS["dynamic"](model, calibration, w4a4)),
]
print(f"4 bits             static {rows['w4a4, right images'][0]:6.1%}   "
      f"dynamic {rows['w4a4, right images'][1]:6.1%}")  # fmt: skip
fully = changed(
    resolved(model, w8a8), "*", lambda s: s if s.axis == 0 else replace(s, dynamic="token")
)  # all but weights, which have a scale for each output, axis 0
grey = normalise(sets["plain grey"])
streamed = accuracy(refvit.quantize(model, grey, fully))
print(f"plain grey, with a dynamic stream too: {streamed:.1%}")
token = np.abs(record.values["blocks.2.mlp.fc2"]).max(-1)
print(f"a median token of mlp.fc2 reaches {np.median(token) / token.max():.0%} of the greatest")
assert streamed > 0.9
assert all(dynamic > static - 0.01 for static, dynamic in rows.values())
assert rows["w4a4, right images"][1] > rows["w4a4, right images"][0] + 0.1

# %%
fig, ax = plt.subplots(figsize=(8, 3.2))
places = np.arange(len(rows))
for shift, name, colour, hatch in (
    (-0.2, "static", plot.GREY, ""),
    (0.2, "dynamic", plot.BLUE, "//"),
):
    shares = [100 * row[name == "dynamic"] for row in rows.values()]
    bars = ax.barh(places + shift, shares, 0.38, color=colour, hatch=hatch, label=name)
    ax.bar_label(bars, fmt="%.1f", padding=3)
ax.set_yticks(places, rows)
exact = accuracy(model)
ax.set(xlabel=f"top-1 accuracy, % (float: {exact:.1%})", xlim=(0, 105), ylim=(3.6, -0.6))
ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
plot.picture(
    fig,
    "Bars of accuracy, static against dynamic: equal on the right images, dynamic a little better "
    "on darkened ones, far better when calibrated on grey, and far better at 4 bits.",
)

# %% [markdown]
# Two different gifts. Against wrong calibration: it does no harm where scales are dynamic, and what
# the grey images still cost is the static stream, clipped. Against few bits: most tokens reach far
# less than the greatest, and get steps as much finer. With 8 bits and the right images there is
# nothing to win.
#
# ## 7. The price of dynamic
#
# A scale that is found at run time means a maximum over a whole row before its first code can be
# written, and as many scales as there are rows. Here is what one block keeps in 8 bits.

# %%
one = refvit.ops.Record()
model(test[:1], tap=one)
for site, value in one.values.items():
    inside = site.startswith("blocks.0.") and not site.endswith(("weight", "bias"))
    if inside and w8a8.spec(site).bits == 8:
        print(f"{site:<24}{value.shape}")

# %% [markdown]
# **Your turn: 4.9.** Predict; the check runs the model and counts rows.

# %% exercise nb04.run_time_scales

# %% [markdown]
# Against those stand ten static scales a block, known before any image. That is why refvit's
# integer engine, all of whose constants are fixed when it is compiled, refuses dynamic grids:

# %%
try:
    refvit.compile(METHODS["dynamic"](model, calibration, w8a8))
except ValueError as refusal:
    print(refusal)

# %% [markdown]
# ## What to remember
#
# * A range from $n$ images is exceeded by one of $m$ fresh ones with chance $m / (n + m)$, whatever
#   the images are.
# * Clipping trades the error of the few for that of the many; the fewer the bits, the more it pays.
# * Observers differ in what they call a loss. KL keeps shapes, and ruins probabilities.
# * A histogram whose bins merge is the histogram of the whole, whatever the batches were.
# * Dynamic grids forgive wrong calibration and help 4 bits most; they cost a maximum for every row
#   and a scale that no constant can hold.
#
# **Papers.** Jacob et al. 2018 (moving averages); Migacz 2017 (KL); McKinstry et al. 2019
# (percentiles); Du, Gong and Chu 2024, sections II-C and III-A (the survey).
