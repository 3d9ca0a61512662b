# %% [markdown]
# # Linear quantizers
#
# **You will be able to** turn real numbers into codes of a few bits and back, predict the error
# that this makes, choose between symmetric and asymmetric, full and restricted grids, and write
# down the laws that every linear quantizer keeps as code that catches one that does not.
#
# You need notebook [00](00_tour.ipynb), NumPy, and about 60 minutes. A *quantizer* replaces a real
# number by one of a few allowed values. Every later notebook does this to weights and activations
# of a Vision Transformer, so here we do it to plain arrays until nothing about it is a surprise.

# %%
import matplotlib.pyplot as plt
import numpy as np

import refvit
from refvit import plot, quant

# %% [markdown]
# ## 1. Codes instead of numbers
#
# **How do you keep a real number in 3 bits?** Three bits tell 8 integers apart. So we agree on one
# real number, the *scale* $s$, store an integer, the *code* $q$, and read it as $s\,q$:
#
# $$q = \mathrm{clip}\bigl(\mathrm{round}(x / s),\; q_{\min},\; q_{\max}\bigr), \qquad
# \hat x = s\,q$$
#
# (Jacob et al. 2018, equation 1, with its zero point at 0; Du, Gong and Chu 2024, section II.) The
# values $s\,q$ are the *grid*, and $s$ is also the distance between two of them, a *step*. A grid
# whose zero is code 0 is *symmetric*. The usual scale makes the largest magnitude the largest code:
# $s = \max|x| / (2^{b-1} - 1)$ for $b$ bits. (`restricted`, below, is explained in section 4.)

# %%
x = np.array([1.5, 0.4, -0.26, 0.0, -1.1])
grid = quant.symmetric(np.abs(x).max(), bits=3, restricted=True)
codes = quant.quantize(x, grid)
print("scale   ", grid.scale, "   codes from", grid.lo, "to", grid.hi)
print("x       ", x)
print("codes   ", codes, codes.dtype)
print("read as ", quant.dequantize(codes, grid, np.float64))

# %% [markdown]
# Draw $\hat x$ over all $x$ and you get a staircase; draw $\hat x - x$ and you get a sawtooth.
# These two are the whole notebook in one picture.

# %%
xs = np.linspace(-2.2, 2.2, 2001)
fig, axs = plt.subplots(2, 1, figsize=(7.5, 7.6), sharex=True, height_ratios=[2, 1])
plot.staircase(grid, xs, axs[0]).set_title("3 bits, scale 0.5: seven values")
axs[0].annotate("", (0.62, 0), (0.62, 0.5), arrowprops={"arrowstyle": "<->"})
axs[0].text(0.68, 0.17, "one step = scale")
plot.sawtooth(grid, xs, axs[1])
fig.align_ylabels()
fig.tight_layout()
alt = (
    "Above, a staircase of seven levels follows the diagonal from -1.5 to 1.5, and is flat beyond. "
)
alt += (
    "Below, the error: a sawtooth between -0.25 and 0.25 that leaves this band where x is clipped."
)
plot.picture(fig, alt)

# %% [markdown]
# Three things to see. Inside, the error is never more than half a step. Beyond the ends it grows
# without limit: $x$ is *clipped*. And 0 lies on the grid, with no error at all.
#
# One detail decides whether two implementations agree bit for bit: **ties**. 2.5 is as near to 2 as
# to 3. NumPy's `rint` takes the even one; many chips add a half and round down; a cast to an
# integer truncates, which is no rounding at all.

# %%
ties = np.arange(-20, 20) + 0.5
ways = {
    "to even, rint": np.rint,
    "upwards, floor(x + 1/2)": lambda x: np.floor(x + 0.5),
    "truncation, a cast": np.trunc,
}
for name, way in ways.items():
    print(f"{name:<24} 0.5 1.5 2.5 -> {way(np.array([0.5, 1.5, 2.5]))}", end="   ")
    print(f"mean error on ties {(way(ties) - ties).mean():+.2f}")
assert np.mean(np.rint(ties) - ties) == 0

# %% [markdown]
# Ties upwards add half a step to every tie; to even, they cancel, and truncation cancels at the
# price of errors of nearly a whole step. `refvit` rounds to even wherever it
# quantizes floats. (Its integer engine rounds ties upwards, since that is one addition; notebook 09
# says why this does no harm.)
#
# **Your turn.** Write the symmetric quantizer. What is the scale when every $x$ is 0?

# %% exercise nb02.symmetric

# %% [markdown]
# ## 2. How large is the error?
#
# **What do you lose?** At most $s/2$ for each value that is not clipped, which is the first law:
#
# $$|\hat x - x| \le s/2 \quad \text{for } |x| \le s\, q_{\max}$$
#
# A law is worth more than an example, because it can be tried on any quantizer. Your next answer is
# such a law, as a function that returns whether it holds. It is tried on quantizers that keep it,
# and on faulty ones that it has to refuse; one of those clips a code too early, to $[-127, 126]$ in
# 8 bits, as the released code of I-BERT does.
#
# **Your turn.**

# %% exercise nb02.half_step_holds

# %% [markdown]
# The worst case is rare. If $x$ is spread over many steps, its place within a step is as good as
# random: the error is spread evenly over $[-s/2, s/2]$ (Bennett 1948). We look at the weights of
# one layer of a trained ViT; `fake_quantize` goes to codes and straight back to reals.

# %%
model = refvit.load("nano_vit")
weight = model.params.blocks[0].mlp.fc1.weight.astype(np.float64)
q8, q2 = (quant.symmetric(np.abs(weight).max(), bits, restricted=True) for bits in (8, 2))

fig, axs = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True)
for ax, q in zip(axs, (q8, q2), strict=True):
    error = (quant.fake_quantize(weight, q) - weight).ravel() / q.scale
    ax.hist(error, bins=np.linspace(-0.5, 0.5, 26), color=plot.BLUE, edgecolor="white")
    ax.axhline(weight.size / 25, color="black", linestyle="--", label="spread evenly")
    zeros = np.mean(quant.quantize(weight, q) == 0)
    ax.set(title=f"{q.bits} bits: {zeros:.0%} of the codes are 0", xlabel="error in steps")
axs[0].set_ylabel("weights")
axs[0].legend(frameon=False, loc="upper left")
fig.tight_layout()
alt = (
    "Histograms of the rounding error of 9,216 weights, in steps from -0.5 to 0.5. At 8 bits it is "
)
alt += "flat, as predicted; at 2 bits, where most codes are 0, it is a hump around 0."
plot.picture(fig, alt)

# %% [markdown]
# At 8 bits the picture holds. At 2 it does not: most weights lie within half a step of 0, and what
# is lost is the weight itself. Keep that in mind: the formulas below are for many steps.
#
# **Your turn.** Predict the mean squared error. Your formula is compared with rounding 64,000
# numbers.

# %% exercise nb02.rounding_noise

# %% [markdown]
# **How much is a bit worth?** One bit more halves the step, so the mean squared error falls to a
# quarter. As the ratio of signal to error, in decibels, that is $10 \log_{10} 4 = 6.02$ dB a bit.
# (Nearly so: from 7 steps on either side to 15. From 1 to 3 it is a third, and 9.5 dB.) Lines are
# predicted by $s^2 / 12$, marks are measured.

# %%
outlier = weight.ravel().copy()
outlier[0] = 8 * np.abs(weight).max()
signals = {
    "spread evenly": np.random.default_rng(0).uniform(-1, 1, 50_000),
    "weights of fc1": weight.ravel(),
    "the same, one of them 8 times the largest": outlier,
}


def decibels(signal, noise_power):
    """The ratio of the mean square of a signal to that of its error, in dB."""
    return 10 * np.log10(np.square(signal).mean() / noise_power)


widths, at_eight = np.arange(2, 11), []
fig, ax = plt.subplots(figsize=(7, 4.3))
for (name, signal), marker, colour in zip(signals.items(), "os^", plot.LINES, strict=False):
    grids = [quant.symmetric(np.abs(signal).max(), b, restricted=True) for b in widths]
    noise = [np.square(quant.fake_quantize(signal, q) - signal).mean() for q in grids]
    measured = np.array([decibels(signal, n) for n in noise])
    predicted = np.array([decibels(signal, q.scale**2 / 12) for q in grids])
    ax.plot(widths, predicted, color=colour, linewidth=1)
    ax.plot(widths, measured, marker, color=colour, label=name)
    print(f"{name}: {measured[6]:.2f} dB at 8 bits, predicted {predicted[6]:.2f}", end="; ")
    print(f"{measured[0]:.2f} dB at 2 bits, predicted {predicted[0]:.2f}")
    at_eight.append(measured[6])
    assert abs(measured[6] - predicted[6]) < 0.3
    assert abs(measured[8] - measured[7] - 6.02) < 0.3
print(f"the outlier costs {(at_eight[1] - at_eight[2]) / 6.02:.1f} bits")
ax.set(
    xlabel="bits",
    ylabel="signal to error, dB",
    title="6 dB a bit; lines: predicted, marks: measured",
)
ax.legend(frameon=False)
ax.grid(alpha=0.3)
alt = "Signal to error in decibels over 2 to 10 bits: three lines that climb 6 dB a bit, "
alt += "9.5 from 2 bits to 3; evenly spread values on top, weights 8 dB below, and far below those "
alt += "the weights with one outlier. At few bits the marks leave the lines."
plot.picture(fig, alt)

# %% [markdown]
# The lines differ by their height alone, and the height is set by one value, the largest: it sets
# the scale, and all others pay. One weight of 9,216 that is eight times as large costs nearly three
# bits. That is the whole problem of calibration (notebook 04).
#
# ## 3. Laws
#
# **What may you rely on, whatever the data?** Besides the half step, three laws are used all the
# time:
#
# * *Zero is exact.* Padding, masked attention and dead channels are zeros. If 0 were a little off,
#   every one of them would add the same small error, and these do not cancel.
# * *Order is kept* (monotone): $x \le y$ gives $\hat x \le \hat y$. So a maximum stays a maximum,
#   up to values that fall together.
# * *Twice is once* (idempotent): a value on the grid stays what it is. So you may quantize what
#   has been quantized, and a saved model loads as the same model.
#
# **Your turn.** Write each as a property, strong enough to refuse every faulty quantizer and no
# stronger: truncation, for one, keeps the order too.

# %% exercise nb02.zero_is_exact

# %% exercise nb02.grid_is_monotone

# %% exercise nb02.grid_is_idempotent

# %% [markdown]
# ## 4. One code more: the full range
#
# **Where is the eighth code?** Three bits in two's complement hold $-4$ to $3$. The grid of section
# 1 is *restricted*: it leaves out $-4$ so that both sides are alike. The *full range* keeps it.
# Three scales are in use:
#
# | scale | the largest magnitude becomes | used by |
# |---|---|---|
# | $\max\lvert x\rvert / (2^{b-1} - 1)$ | a code exactly, on both sides | I-BERT, `refvit` |
# | $\max\lvert x\rvert / (2^{b-1} - 1/2)$ | half a step beyond the top code | FQ-ViT |
# | $\max\lvert x\rvert / 2^{b-1}$ | a code if negative, else a step beyond the top | fixed point |
#
# A smaller scale makes every error smaller, and is paid for by clipping the largest value.
# (`refvit` takes the first scale and yet keeps the least code, for values that calibration has not
# seen.)

# %%
rms, largest = {}, np.abs(weight).max()
for bits in (2, 3, 4, 8):
    top = 2 ** (bits - 1) - 1
    grids = [
        quant.QParams(largest / top, bits, restricted=True),
        quant.QParams(largest / (top + 0.5), bits),
        quant.QParams(largest / (top + 1), bits),
    ]
    rms[bits] = [np.sqrt(np.mean((quant.fake_quantize(weight, q) - weight) ** 2)) for q in grids]
    more = rms[bits][0] / rms[bits][2] - 1
    print(f"{bits} bits, root of the mean square error:", np.round(rms[bits], 5), end="")
    print(f"; the first is {more:.1%} above the last")
assert rms[8][0] / rms[8][2] < 1.02
assert 1.4 < rms[2][0] / rms[2][2] < 1.6

# %% [markdown]
# At 8 bits the choice changes the error by about a per cent; at 2 bits the first is half as large
# again as the last. So the
# restricted range is the habit at 8 bits, where a product of two codes is then never $(-128)(-128)$
# (Jacob et al. 2018, appendix B), and a waste at 2 bits, where it drops one code of four.

# %%
names = ("max / 3, restricted", "max / 3.5", "max / 4")
named = {
    names[0]: quant.QParams(1 / 3, 3, restricted=True),
    names[1]: quant.QParams(1 / 3.5, 3),
    names[2]: quant.QParams(1 / 4, 3),
}
fig, ax = plt.subplots(figsize=(9, 2.9))
plot.levels(named, -1, 1, ax).set_title("3 bits for data from -1 to 1 (shaded)")
fig.tight_layout()
alt = "Values of three 3-bit grids on a line from -1 to 1: seven evenly spaced with both ends met, "
alt += "eight from -1.14 to 0.86, eight from -1 to 0.75."
plot.picture(fig, alt)

# %% [markdown]
# **Your turn.** The third row, in codes. Mind what happens at the top.

# %% exercise nb02.full_range_codes

# %% [markdown]
# ## 5. Data on one side of zero: asymmetric grids
#
# **What if the values are not alike on both sides?** GELU, the curve inside the MLP, lets positive
# numbers pass and presses negative ones to just below 0. Predict first what a symmetric grid does
# with what comes out.
#
# **Your turn.** A number, from your head.

# %% exercise nb02.gelu_codes_used

# %% [markdown]
# The cure is to move the grid. An *asymmetric* grid has a second number, the *zero point* $z$, the
# code that stands for 0 (Jacob et al. 2018, equation 1):
#
# $$\hat x = s\,(q - z), \qquad s = \frac{x_{\max} - x_{\min}}{2^b - 1}, \qquad
# z = \mathrm{round}(-x_{\min} / s)$$
#
# $z$ is rounded to an integer because it has to be a code: then 0 is exact. The price is that the
# ends move by up to half a step. And 0 must lie between $x_{\min}$ and $x_{\max}$, or $z$ would be
# no code at all: a range from 1 to 3 is widened to begin at 0.

# %%
record = refvit.ops.Record()
images, _ = refvit.data.shapes10("test", count=16)
model(model.preprocess.normalise(images), tap=record)
after_gelu = record.values["blocks.0.mlp.act"].astype(np.float64)
lo, hi = after_gelu.min(), after_gelu.max()
print(f"after GELU: from {lo:.2f} to {hi:.2f}; {np.mean(after_gelu < 0):.0%} are below 0")
four = quant.asymmetric(lo, hi, bits=4)
reached = four.scale * np.array(four.range)
print(f"4 bits: scale {four.scale:.3f}, zero point {four.zero_point}, values {reached.round(2)}")
assert np.all(np.abs(reached - [lo, hi]) <= four.scale / 2)

for bits in (3, 4, 6, 8):
    grids = quant.symmetric(hi, bits), quant.asymmetric(lo, hi, bits)
    noise = [np.square(quant.fake_quantize(after_gelu, q) - after_gelu).mean() for q in grids]
    found = [decibels(after_gelu, n) for n in noise]
    print(f"{bits} bits: symmetric {found[0]:5.1f} dB, asymmetric {found[1]:5.1f} dB", end="")
    print(f", gained {found[1] - found[0]:.1f}")
    assert 0 < found[1] - found[0] < 6.1

named = {"symmetric": quant.symmetric(hi, bits=4), "asymmetric": four}
fig, ax = plt.subplots(figsize=(9, 2.6))
plot.levels(named, lo, hi, ax).set_title("4 bits for what comes out of GELU (shaded)")
fig.tight_layout()
alt = "Two rows of 16 values. The symmetric grid has half of them, crosses, below the data; the "
alt += "asymmetric one has all of them on it, twice as dense. Both have zero, ringed."
plot.picture(fig, alt)

# %% [markdown]
# It gains up to what one bit is worth, 6 dB, since hardly a code is spent on values that never
# come.
#
# **Your turn.** First the grid, then its codes. The order of the three steps of the second matters
# more than it seems.

# %% exercise nb02.affine_grid

# %% exercise nb02.affine_codes

# %% [markdown]
# **So why are weights symmetric?** Because a zero point costs in the product. With activations
# $s_a (a - z)$ and symmetric weights $s_w w$, a sum over $k$ is
#
# $$\sum_k s_a (a_k - z)\, s_w w_k = s_a s_w \Bigl(\sum_k a_k w_k - z \sum_k w_k\Bigr)$$
#
# The second sum does not depend on the input: it is computed once and put into the bias. Were the
# weights asymmetric as well, there would be a third term, $z_w \sum_k a_k$, to be summed anew for
# every token (Jacob et al. 2018, section 2.3).

# %%
act = quant.asymmetric(lo, hi, bits=8)
fc2 = model.params.blocks[0].mlp.fc2.weight.astype(np.float64)
sym = quant.symmetric(np.abs(fc2).max(), bits=8, restricted=True)
a = quant.quantize(after_gelu[0], act).astype(np.int64)
w = quant.quantize(fc2, sym).astype(np.int64)
moved = (a - act.zero_point) @ w.T
folded = a @ w.T - act.zero_point * w.sum(1)
assert np.array_equal(moved, folded)
real = quant.fake_quantize(after_gelu[0], act) @ quant.fake_quantize(fc2, sym).T
assert np.allclose(act.scale * sym.scale * folded, real, atol=1e-9)
print("integers first, scales last: equal to", real.shape, "sums of reals")

# %% [markdown]
# That is also where integer-only inference begins: the scales leave the sum, and what remains are
# sums of products of small integers. A whole model is a table of such grids:

# %%
calibration = model.preprocess.normalise(refvit.data.shapes10("calibration", 64)[0])
quantized = refvit.quantize(model, calibration, "w8a8")
for site in ("blocks.0.norm1", "blocks.0.attn.softmax", "blocks.0.mlp.act", "blocks.0.add1"):
    q = quantized.qparams[site]
    print(f"{site:<22} {q.bits:>2} bits, codes {q.lo:>6} to {q.hi:>5}, scale {float(q.scale):.5f}")

# %% [markdown]
# All symmetric, because that makes the plainest engine; softmax is never below 0, so its codes are
# unsigned, and the residual sums have 16 bits. What such choices cost in accuracy is the matter of
# notebook 06.
#
# ## What to remember
#
# * A code is `clip(rint(x / scale) + zero_point)`; its value is `scale * (code - zero_point)`.
# * The error is at most half a step, on average its square is `scale**2 / 12`, and each bit is
#   worth 6 dB, as long as values are spread over many steps and none is clipped.
# * Zero is exact, order is kept, twice is once: test these on any quantizer you meet.
# * Full or restricted hardly matters at 8 bits, and matters at 2 and 3.
# * A zero point wins about a bit where data lie on one side, and is folded into the bias as long as
#   the weights have none.
#
# **Papers.** Bennett 1948 (the error as noise); Jacob et al. 2018 (the affine grid, integer-only
# inference); Krishnamoorthi 2018 (a survey of practice); Kim et al. 2021 (I-BERT); Lin et al. 2022
# (FQ-ViT); Du, Gong and Chu 2024, section II.
