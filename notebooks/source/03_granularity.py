# %% [markdown]
# # Granularity
#
# **You will be able to** choose how many weights share one scale, say what that promises and what
# it does not, count what it costs in bits and bytes, and pack codes of four bits into a file.
#
# You need notebook [02](02_quantizers.ipynb) (codes, scales, the error of half a step) and about 60
# minutes. *Granularity* is the question of who shares a scale: the whole matrix (*per tensor*), a
# row (*per channel*), or a few weights of a row (*per group*).

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

import refvit
from refvit import plot, quant
from refvit.compare import weight_bytes

model = refvit.load("nano_vit")
images, labels = refvit.data.shapes10("test", count=300)
pixels = model.preprocess.normalise(images)
calibration = model.preprocess.normalise(refvit.data.shapes10("calibration", 16)[0])

# %% [markdown]
# ## 1. One scale for many rows
#
# **Who sets the scale of a weight matrix?** In a linear layer $y = W x + b$, row $r$ of $W$ makes
# output channel $r$. With one scale for the tensor, $s = \max|W| / (2^{b-1} - 1)$, a single weight
# decides for all of them. Here is the query projection of the first block of our small ViT.

# %%
weight = model.params.blocks[0].attn.q.weight.astype(np.float64)
fig, axs = plt.subplots(1, 2, figsize=(11, 5.4), width_ratios=[1.5, 1])
plot.weight_map(weight, axs[0]).set_title("48 x 48 weights of blocks.0.attn.q")
plot.row_ranges(weight, 4, axs[1])
fig.tight_layout()
alt = (
    "Left, a heat map of a 48 by 48 weight matrix, with one dark cell in row 30. Right, a bar for "
)
alt += "the largest magnitude of every row: row 30 reaches code 7, the top, most rows 3 to 5."
plot.picture(fig, alt)

# %% [markdown]
# The dark cell in row 30 pays for itself; every other row pays for it too. The dashed line is where
# the top code lies, and a bar that ends half way uses half of the codes, one bit less. Had each row
# a scale of its own,
#
# $$s_r = \max_c |W_{rc}| \,/\, (2^{b-1} - 1),$$
#
# every bar would reach the top (Krishnamoorthi 2018; Nagel et al. 2021, section 2.4).

# %%
row, column = np.unravel_index(np.abs(weight).argmax(), weight.shape)
reach = np.abs(weight).max(1)
grid = quant.symmetric(reach.max(), bits=4, restricted=True)
codes = np.abs(quant.quantize(weight, grid)).max(1)
print(f"the largest weight is in row {row}, column {column}: {weight[row, column]:+.3f}")
print(f"greatest code of a row: median {np.median(codes):.0f} of {grid.hi}, least {codes.min()}")
print(f"rows that use every code: {np.sum(codes == grid.hi)} of {len(codes)}")
tops = [np.abs(t).max(1) for name, t in model.params.items() if t.ndim == 2]
spread = [top.max() / top.min() for top in tops]
print(
    f"largest row over smallest, {len(tops)} layers: {min(spread):.1f} to {max(spread):.1f} times"
)
assert (row, np.sum(codes == grid.hi)) == (30, 1)

# %% [markdown]
# **Your turn.** First the scales; some rows may be all zero, as those of pruned channels are. Then
# predict what a small row is left with on the grid of the whole matrix.

# %% exercise nb03.row_scales

# %% exercise nb03.row_levels

# %% [markdown]
# At 8 bits a row that is 64 times smaller than the largest keeps five codes, little more than 2
# bits.
#
# ## 2. Why rows, and not columns
#
# **Why not give every weight its own scale, or every column?** Because of the sum. With integer
# codes $Q$ of the weights and $a$ of the input,
#
# $$y_r = \sum_c s_r Q_{rc}\; s_a a_c = s_r s_a \sum_c Q_{rc}\, a_c .$$
#
# The scale of a row is the same for every term, so it leaves the sum: what the hardware adds up are
# products of integers, and each *accumulator* (the register that holds a sum) is scaled once, at
# the end. A scale of a column would have to be multiplied inside, for every single product. For the
# same reason activations get one scale for the tensor, or one for each token, and not one for each
# channel.

# %%
a = quant.quantize(np.linspace(-1, 1, 48), quant.symmetric(1.0, bits=8)).astype(np.int32)
by_row = quant.symmetric(reach, bits=8, axis=0, restricted=True)
Q = quant.quantize(weight, by_row).astype(np.int32)
outside = by_row.scale * (Q @ a)
inside = quant.dequantize(Q, by_row, np.float64) @ a
print("largest accumulator", np.abs(Q @ a).max(), "  scaled after the sum or before it:", end=" ")
print("the same" if np.allclose(outside, inside, rtol=1e-12) else "different")
assert np.allclose(outside, inside, rtol=1e-12)
small = quant.quantize(np.linspace(-1, 1, 999) / 64, quant.symmetric(1.0, bits=8))
assert len(np.unique(small)) == 5  # what a row is left with that is 64 times smaller

# %% [markdown]
# **Your turn.** Mind the dtypes: 8-bit codes do not sum in 8 bits.

# %% exercise nb03.scaled_product

# %% [markdown]
# **Does it matter?** In this model rows differ by a factor of two or three, as printed above. In
# others they differ by a hundred; Nagel et al. 2019 (figure 2) show it for MobileNetV2. We can make
# such a model. A score of attention is a sum $\sum_c q_c k_c$: multiply row $c$ of the queries'
# weights, and its bias, by 16, divide those of the keys by 16, and no score changes.
# `stretch_queries` does that to three rows of every block. It is the same function, with other
# weights.
#
# A *recipe* says what becomes of each value: by a pattern of its name, the bits, and with `axis=0`
# a scale for every row. Here weights get 4 bits, all else 16. `.rounded` is the float model with
# its weights put on their grids.

# %%
stretched = quant.stretch_queries(model, 16)
assert np.array_equal(stretched(pixels[:50]), model(pixels[:50]))

whole = quant.Recipe("whole", {"*.weight": quant.Spec(4), "*": quant.Spec(16)})
rows = quant.Recipe("rows", {"*.weight": quant.Spec(4, axis=0), "*": quant.Spec(16)})


def top1(classify):
    """The share of the test images that a model gets right."""
    return np.mean(classify(pixels).argmax(1) == labels)


factors = (1, 4, 8, 16, 64)
found = {"one for the tensor": [], "one for every row": []}
for factor in factors:
    harder = quant.stretch_queries(model, factor)
    for recipe, shares in zip((whole, rows), found.values(), strict=True):
        rounded = refvit.quantize(harder, calibration, recipe).rounded  # weights alone
        shares.append(top1(rounded))
for name, shares in found.items():
    print(f"{name:<18}", "  ".join(f"x{f}: {s:.1%}" for f, s in zip(factors, shares, strict=True)))
assert len(set(found["one for every row"])) == 1
assert found["one for the tensor"][-1] < 0.2 < 0.9 < found["one for every row"][-1]

# %%
fig, axs = plt.subplots(1, 2, figsize=(11, 4.4), width_ratios=[1, 1.2])
plot.row_ranges(stretched.params.blocks[0].attn.q.weight, 4, axs[0])
axs[0].set_ylabel("row")
for (name, shares), style, colour in zip(found.items(), ("o--", "s-"), plot.LINES, strict=False):
    axs[1].plot(factors, shares, style, color=colour, label=name)
axs[1].axhline(0.1, color=plot.GREY, linestyle=":", label="chance")
axs[1].set(xscale="log", xticks=factors, xticklabels=factors, ylim=(0, 1), ylabel="top-1")
axs[1].set(xlabel="three rows of every block's queries, times", title="weights at 4 bits")
axs[1].minorticks_off()
axs[1].legend(frameon=False, title="scales", loc="center left")
fig.tight_layout()
alt = "Left, after stretching by 16, three bars are long and the others hardly seen. Right, top-1 "
alt += "at 4 bits: flat above 90 per cent with scales of rows, falling to chance with one scale."
plot.picture(fig, alt)

# %% [markdown]
# With a scale for every row nothing happens at all, digit for digit: a row that is 16 times larger
# gets a scale that is 16 times larger, and the same codes. One scale falls to chance.
#
# ## 3. What a scale for every row promises
#
# **Is finer always better?** The promise is about the worst case. A row's own step is never larger
# than the step of the matrix, and the error is at most half a step:
#
# $$|\hat W_{rc} - W_{rc}| \;\le\; s_r / 2 \;\le\; s / 2 .$$
#
# **Your turn.** Write the first inequality as a property. It is tried on quantizers by rows and by
# pairs of weights, which keep it, and on coarser ones, which do not.

# %% exercise nb03.row_errors_are_bounded

# %% [markdown]
# But a bound is not the error. Where a row happens to lie on the coarse grid, a fine one cannot do
# better. It is good to have seen such a matrix before claiming that "per-channel is never
# worse".
#
# **Your turn.** Find one.

# %% exercise nb03.unlucky_weights

# %% [markdown]
# On real weights, how often is a row unlucky?

# %%
squares, layers = [], [name for name, t in model.params.items() if name.endswith("fc1.weight")]
for name in layers:
    w = model.params[name].astype(np.float64)
    fine = quant.symmetric(np.abs(w).max(1), bits=4, axis=0)
    coarse = quant.symmetric(np.abs(w).max(), bits=4)
    squares += [[np.square(quant.fake_quantize(w, q) - w).sum(1) for q in (fine, coarse)]]
fine, coarse = np.concatenate(squares, axis=1)
print(f"of {len(fine)} rows, {np.sum(fine > coarse)} are worse with a scale of their own")
print(f"summed over all rows, the squared error is {coarse.sum() / fine.sum():.1f} times smaller")
assert fine.sum() < coarse.sum() / 1.5

# %% [markdown]
# ## 4. Groups
#
# **Why stop at rows?** In one row, too, a single weight sets the scale for all. At 4 bits and below
# it is usual to cut each row into *groups* of 32 to 128 weights, each with its own scale (Shen et
# al. 2020 for BERT, Frantar et al. 2023 for large language models).

# %%
fc2 = model.params.blocks[3].mlp.fc2.weight.astype(np.float64)
fig, ax = plt.subplots(figsize=(8, 3.6))
one = fc2[np.abs(fc2).max(1).argmax()]
ax.bar(np.arange(192), np.abs(one), width=1.0, color=plot.GREY, label="|w| of one row")
for group, style, colour in ((192, "--", plot.LINES[1]), (16, "-", plot.BLUE)):
    tops = quant.grouped(one[None], group)[0]
    name = "its scale times the top code" if group == 192 else "the same, groups of 16"
    ax.stairs(tops, np.append(np.arange(0, 192, group), 192) - 0.5, color=colour, linestyle=style,
              linewidth=2, baseline=None, label=name)  # fmt: skip
ax.set(xlabel="input (column)", ylabel="magnitude", xlim=(-0.5, 191.5), ylim=(0, 1.15))
ax.legend(frameon=False, loc="upper left", ncols=3)
fig.tight_layout()
alt = "Magnitudes of the 192 weights of one row, below a flat dashed line at the largest, and "
alt += "below a stepped line that follows the largest of every 16 and is mostly half as high."
plot.picture(fig, alt)

# %% [markdown]
# The room between a line and the bars below it is what the codes waste.
#
# **Your turn.** The scales of groups. Rows need not be a multiple of the group.

# %% exercise nb03.group_scales

# %% [markdown]
# **What does it cost?** Each scale is stored too. Shared by $g$ weights, a scale of $b_s$ bits
# makes the *effective bits* of a weight
#
# $$b_{\mathrm{eff}} = b + b_s / g .$$
#
# 4 bits in groups of 16 with scales of 16 bits are really 5.
#
# **Your turn.** Once as a formula, with a last group that may be shorter, and once as a number of
# bytes, which is compared with a packed matrix.

# %% exercise nb03.bits_per_weight

# %% exercise nb03.grouped_bytes

# %% [markdown]
# There is a second price. A scale of a group leaves only its part of the sum, so an output has
# $C / g$ accumulators to scale and add instead of one. (For that reason the integer engine of
# `refvit` takes rows, and groups are simulated only.)
#
# So the fair question is not "are groups better?" but "better than what else for these bits?" Left,
# all linear layers of our model at 3, 4 and 5 bits, with scales of 32 bits. Right, wide rows as in
# a large model, 4,096 random Gaussian weights each, with scales of 16 bits.


# %%
def decibels(pairs):
    """The ratio of the mean square of weights to that of their errors, in dB."""
    noise = sum(np.square(a - b).sum(dtype=np.float64) for a, b in pairs)
    return 10 * np.log10(sum(np.square(a).sum(dtype=np.float64) for a, _ in pairs) / noise)


names = [name for name, t in model.params.items() if t.ndim == 2]
count = sum(model.params[name].size for name in names)
small = {
    "tensor": quant.Spec(4),
    "row": quant.Spec(4, axis=0),
    "16": quant.Spec(4, axis=0, group=16),
}
measured = {name: [] for name in small}
for name, spec in small.items():
    for bits in (3, 4, 5):
        table = {"*.weight": replace(spec, bits=bits), "*": quant.Spec(16)}
        quantized = refvit.quantize(model, calibration, quant.Recipe(name, table))
        effective, rounded = 8 * weight_bytes(quantized) / count, quantized.rounded
        found_db = decibels([(model.params[n], rounded.params[n]) for n in names])
        measured[name].append((effective, found_db))
        print(f"{bits} bits, by {name:<6}: {effective:.2f} in all, {found_db:4.1f} dB", end=", ")
        print(f"top-1 {top1(rounded):.1%}")
try:
    refvit.compile(quantized)
except ValueError as refusal:
    print(refusal)

wide, large = np.random.default_rng(0).standard_normal((32, 4096)), {"row": [], "128": [], "32": []}
for name, points in large.items():
    group = 4096 if name == "row" else int(name)
    for bits in (3, 4, 5):
        q = quant.symmetric(quant.grouped(wide, group), bits, axis=0, group=group)
        points.append((bits + 16 / group, decibels([(wide, quant.fake_quantize(wide, q))])))
    print(
        f"largest of {group:>4} Gaussian weights: {quant.grouped(wide, group).mean():.1f}, a mean"
    )

# %%
fig, axs = plt.subplots(1, 2, figsize=(11, 4.3))
titles = "this model, rows of 48 and 192", "rows of 4,096 Gaussian weights"
for ax, lines, title in zip(axs, (measured, large), titles, strict=True):
    for name, points in lines.items():
        place = list({**measured, **large}).index(name)
        label = f"{name} weights" if name.isdigit() else name
        ax.plot(*np.transpose(points), "os^Dv"[place] + "-", color=plot.LINES[place], label=label)
    ax.set(title=title, xlabel="bits of a weight, scales included", ylabel="weights to error, dB")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, title="a scale for every", loc="lower right")
fig.tight_layout()
alt = "Weights to error in decibels over bits with scales. Left, rows lie just above the tensor, "
alt += "groups of 16 far below both. Right, groups of 128 and of 32 lie above rows."
x, y = np.transpose(measured["tensor"])
for name, above in (("row", True), ("16", False)):
    assert all(
        (db > np.interp(bits, x, y)) == above for bits, db in measured[name] if bits <= x[-1]
    )
x, y = np.transpose(large["row"])
assert all(db > np.interp(bits, x, y) for name in ("128", "32") for bits, db in large[name][:2])
plot.picture(fig, alt)

# %% [markdown]
# The same question has two answers. In our narrow layers a scale of 32 bits for 16 weights costs
# two bits, and two more bits of code would have bought far more. In wide rows 16 bits for 128
# weights cost an eighth of a bit and save more than that, because the largest of 128 Gaussian
# values is smaller than the largest of 4,096. Rows pay in our model, if only just: they are narrow,
# and not very different.
#
# ## 5. Packing
#
# **Where does the half byte go?** Memory comes in bytes, so two 4-bit codes share one. In *two's
# complement* a negative code $q$ of 4 bits is stored as $q + 16$: $-1$ is `1111`. A half byte is a
# *nibble*.

# %%
codes = np.array([1, -2, 7, -8, -1], np.int8)
stream = quant.pack(codes, 4)
print("codes", codes)
print("bytes", [f"{byte:08b}" for byte in stream], "= upper nibble, lower nibble")
print("back ", quant.unpack(stream, 4, codes.shape))
assert len(stream) == quant.packed_bytes(len(codes), 4) == 3

every = np.array([[low, high] for high in range(-8, 8) for low in range(-8, 8)], np.int8)
packed = [int(quant.pack(pair, 4)[0]) for pair in every]
assert sorted(packed) == list(range(256))
print("256 pairs of codes make", len(set(packed)), "different bytes")

# %% [markdown]
# The first code is in the lower nibble, as ONNX specifies for its int4; others begin with the
# upper, and a reader that expects the wrong one gets every pair swapped, without any error. So
# packing is the place for a law: nothing is lost. There are 256 pairs of codes and 256 bytes, and
# packing is a *bijection*: every byte comes from exactly one pair.
#
# **Your turn.** In, out, and the law.

# %% exercise nb03.pack_nibbles

# %% exercise nb03.unpack_nibbles

# %% exercise nb03.packing_tells_apart

# %% [markdown]
# ## What to remember
#
# * One scale for a tensor is set by one weight; rows that are smaller lose bits.
# * A scale of a row leaves the sum, so it is free in the product. One of a column does not.
# * Finer scales promise a smaller bound, never a smaller error in each case.
# * Rows can be stretched without changing the function; scales of rows do not notice, one scale
#   does.
# * Groups cost bits, `bits + scale_bits / group`, and sums. Compare at equal effective bits.
# * Packing is a bijection, and its order of nibbles a convention: write it down, and test it.
#
# **Papers.** Krishnamoorthi 2018 (per channel); Nagel et al. 2019 (rows of different size); Nagel
# et al. 2021 (a white paper on practice); Shen et al. 2020 (Q-BERT, groups); Frantar et al. 2023
# (GPTQ).
