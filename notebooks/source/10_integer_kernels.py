# %% [markdown]
# # Integer softmax, GELU and LayerNorm, and their ancestors
#
# **You will be able to** derive the shift and the constants of an integer kernel from the ranges it
# serves, predict what breaks when they are typed in instead, and let a proof and a law judge
# kernels, your own included.
#
# A Vision Transformer is matrix products, which integers do exactly, and three functions that need
# a root, a division or an exponential. I-BERT (2021) and I-ViT (2023) showed how integers compute
# those. Here you run I-BERT's operators as they were released, bit for bit, next to the kernels of
# `refvit`'s engine. The extras `notebooks` and `test` are needed; nothing is downloaded.

# %%
import textwrap
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np

import refvit
from refvit import plot
from refvit.integer import PLAIN, i_sqrt
from refvit.integer.kernels import gelu, ivit_norm, layer_norm, log_softmax, shiftmax, softmax
from refvit.integer.kernels.profiles import PROFILES
from refvit.integer.kernels.released import ibert_exp, ibert_gelu, ibert_layer_norm
from refvit.lockstep import lockstep
from refvit.ops import functional as F
from refvit.params import Params
from refvit.testing import laws, reference


def judge(check, *args):
    """Return what a check says of a function: that it holds, or the first thing it refuses."""
    try:
        check(*args)
    except (AssertionError, NotImplementedError) as refusal:
        missing = "NotImplementedError" in repr(refusal)
        return "not written yet" if missing else textwrap.fill(str(refusal), 76)
    return "holds"


# %% [markdown]
# ## 1. GELU: a shift of 14 bits
#
# **Where does the 14 come from?** I-BERT replaces the error function by a parabola:
#
# $$\mathrm{GELU}(x) \approx \tfrac{x}{2}\,(1 + L(x)), \qquad
# L(x) = \mathrm{sgn}(x)\,\bigl(1 + a\,(\min(|x|, -b) + b)^2\bigr)$$
#
# with $a = -0.1444$ and $b = -2.5017$: the paper's $-0.2888$ and $-1.769$ once its $x / \sqrt 2$ is
# folded in. In integers, with $x = s\,q$, one unit of $L$ is worth $P = 1 / (0.1444\,s^2) = 6.925
# / s^2$ steps. The release drops 14 bits of that polynomial, whatever $s$ is. Three 8-bit codes
# within $\pm 4$:

# %%
q, scale = np.array([-127, 64, 127]), 4 / 127
print("exact    ", F.gelu(q * scale).round(3))
for shift in (14, 0):
    codes, step = ibert_gelu(q, scale, shift)
    print(f"shift {shift:<3}", (codes * step).round(3) + 0.0)

# %% [markdown]
# GELU(-4) is nearly 0, not -4.7. Now count bits: a polynomial of less than 14 bits does not survive
# losing 14, and one of too many does not fit `int32`. So the right shift has a floor and a ceiling,
# and both move with the scale.


# %%
def trial(bits, shift, reach=8.0):
    """The worst error of the released GELU over inputs within `reach`, and its widest integer."""
    top = 2 ** (bits - 1) - 1
    scale, q = reach / top, np.arange(-top, top + 1, max(1, top >> 12))
    codes, step = ibert_gelu(q, scale, shift)
    widest = max(np.abs(codes).max(), 6.925 / scale**2)  # the product, the polynomial
    return np.abs(codes * step - F.gelu(q * scale)).max(), widest


shifts = np.arange(23)
tried = {f"{b}-bit codes": np.array([trial(b, n) for n in shifts]) for b in (8, 12, 16, 22)}
for name, (error, widest) in ((name, rows[14]) for name, rows in tried.items()):
    print(f"{name} in +-8, shift 14: error {error:8.4f}, largest integer 2^{np.log2(widest):.1f}")

# %%
fig, axs = plt.subplots(1, 2, figsize=(11, 3.7))
x = np.linspace(-4, 4, 200)
axs[0].plot(x, F.gelu(x), color=plot.GREY, linewidth=7, alpha=0.5, label="exact")
styles = {(8, 14): plot.LINES[0], (16, 14): plot.LINES[2], (8, 0): "black"}
for (bits, shift), colour in styles.items():
    top = 2 ** (bits - 1) - 1
    q = np.arange(-top, top + 1, max(1, top >> 8))
    codes, step = ibert_gelu(q, 4 / top, shift)
    style, label = "-" if shift else "--", f"released, {bits} bits, shift {shift}"
    axs[0].plot(q * 4 / top, codes * step, style, color=colour, label=label)
axs[0].set(xlabel="x", title="codes within ±4")
axs[0].legend(frameon=False)
errors = {name: rows[:, 0] for name, rows in tried.items()}
plot.curves(shifts, errors, axs[1], {name: rows[:, 1] < 2**31 for name, rows in tried.items()})
axs[1].axvline(14, color="black", linestyle="--", linewidth=0.8)
axs[1].set(xlabel="shift", ylim=(0.005, 1e4), title="worst error within ±8; dotted: beyond int32")
fig.tight_layout()

# %% [markdown]
# At 14 (dashed) only the 16-bit line is both low and solid. 8-bit codes, which a quantized ViT
# feeds, want no shift at all; the 22-bit sums that I-BERT feeds never fit.
#
# `refvit` takes the scale out of the question. A requantization brings $|x|$ to a fixed grid of
# $2^{-12}$, so the unit of $L$ is one integer for every site, `ONE` $= 6.925 \cdot 2^{24}$. The
# last shift, `keep`, then follows from the width of $q$ alone: it is the least that leaves the
# product `q * 2 * ONE` 28 bits.

# %%
for bits in (4, 8, 12, 16):
    lo, hi = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    constants, proofs = gelu.plan("gelu", 8 / hi, 8 / 32767, lo, hi)
    q = np.arange(lo, hi + 1).astype(np.int8 if bits <= 8 else np.int16)
    codes = gelu.gelu(q, Params(constants), PLAIN, -32768, 32767)
    error = np.abs(codes * (8 / 32767) - F.gelu(q * (8 / hi)))[1:].max()
    derived = f"keep {constants['keep']:>2}, product {proofs[-1].bits} bits with its sign"
    print(f"{bits:>2}-bit codes: {derived}, error {error:.4f}")

# %% [markdown]
# **Your turn: 10.1.** Predict the floor of the released shift. The product is `q` by at most two
# units of $L$. The check runs the release at your shift, and one below it. (Solutions are at the
# end.)


# %%
def least_shift(bits, reach):
    """The least shift >= 0 at which the product of `ibert_gelu` is below 2**31 in magnitude, for
    symmetric codes of `bits` that span +-reach."""
    raise NotImplementedError


def check_shift(fn):
    for bits, reach in ((8, 4), (12, 8), (14, 2), (15, 8), (16, 4), (16, 5), (16, 8)):
        shift, top = fn(bits, reach), 2 ** (bits - 1) - 1
        fits = [np.abs(ibert_gelu(top, reach / top, n)[0]) < 2**31 for n in (shift, shift - 1)]
        assert fits[0], f"{bits} bits within +-{reach}: {shift} is too few"
        assert shift == 0 or not fits[1], f"{bits} bits within +-{reach}: {shift} is not the least"


print(judge(check_shift, least_shift))

# %% [markdown]
# ## 2. The exponential: constants rounded at the wrong place
#
# **How good is an integer exponential at the scale your scores have?** I-BERT splits off octaves,
# $e^{-x} = 2^{-z} e^{p}$ with $-\ln 2 < p \le 0$, and puts a parabola in place of $e^p$. Its three
# constants are floored *in units of the scores*:
#
# $$q_{\ln 2} = \lfloor -0.6931 / s \rfloor, \quad q_b = \lfloor 2.7073 / s \rfloor, \quad
# q_c = \lfloor 2.7921 / s^2 \rfloor, \qquad e^0 \mapsto q_c \cdot 2^{30}$$
#
# I-ViT's ShiftExp uses $2^{1.4375 x}$ by shifts and $2^t \approx 1 + t/2$. `refvit` keeps I-BERT's
# parabola on a fixed grid of $2^{-13}$ octaves. Softmax divides by a sum, so each is compared
# relative to its own $e^0$.


# %%
def exponentials(scale):
    """The integers that stand for exp(-scale * d), d = 0..255, by name; the greatest is first."""
    d = np.arange(256, dtype=np.int32)
    shifts = Params(shiftmax.plan("exp", scale, 1 / 255, -128, 127, 197)[0])
    grid = Params(softmax.plan("exp", scale, 1 / 255, -128, 127, 197)[0])
    return {
        "refvit": softmax.exponential(d, grid, PLAIN),
        "I-BERT": ibert_exp(-d, scale)[0],
        "I-ViT ShiftExp": shiftmax.shift_exp(d, shifts.unit, shifts.octaves),
    }


scales = np.geomspace(0.01, 1, 160)
table = [exponentials(s) for s in scales]
exact = [np.exp(-s * np.arange(256)) for s in scales]
error, peak = {}, {}
for name in table[0]:
    share = [row[name] / row[name][0] for row in table]
    error[name] = np.array([np.abs(p - e).max() for p, e in zip(share, exact, strict=True)])
    peak[name] = np.log2([row[name][0] for row in table])
    print(f"{name:<15} error {error[name].min():.4f} to {error[name].max():.4f}", end=", ")
    print(f"exp(0) from 2^{peak[name].min():.1f} to 2^{peak[name].max():.1f}")
floored = ibert_exp(0, 0.5)[0][0] / 2**30
print(f"at scale 0.5, I-BERT's q_c is {floored:.0f} in place of {2.7921 / 0.5**2:.2f}")

# %%
fig, axs = plt.subplots(1, 2, figsize=(11, 3.7))
plot.curves(scales, error, axs[0]).set_title("worst error of exp, 8-bit scores")
plot.curves(scales, peak, axs[1]).set_title("log2 of the integer for exp(0)")
axs[1].set_yscale("linear")
for ax in axs:
    ax.set(xscale="log", xlabel="scale of the scores")
axs[1].axhline(31, color="black", linestyle="--")
axs[1].text(0.0105, 31.7, "int32 ends here")
fig.tight_layout()

# %% [markdown]
# The published error of I-BERT's parabola, 1.9e-3, holds where the scale is small; the saw teeth
# are its floored constants, and at most scales of 8-bit scores they dominate. Its $2^{30}$ leaves
# `int32` at every scale drawn. ShiftExp errs by its straight line, 0.05, and above that by its own
# floor, that of the codes in one octave. On the fixed grid the constants have 15 bits and more at
# every site, so the curve of `refvit` is the parabola's own error.
#
# ## 3. Softmax rows: where the mass goes
#
# **Do the codes of a row still sum to one?** A row of 197 tokens (ViT at 224 x 224) has a mean
# probability of 1/197. I-ViT's Shiftmax multiplies $e$ by $\lfloor 2^{31} / \sum e \rfloor$ and
# floors: to steps of $2^{-7}$ or, for DeiT, of $2^{-15}$. FQ-ViT codes $-\log_2 p$ in 4 bits
# instead: steps that shrink with $p$.


# %%
def rows(q, scale):
    """What the probability codes of score codes [R, N] stand for, by name."""
    ends, tokens = (-128, 127), q.shape[-1]
    c = Params(shiftmax.plan("s", scale, 1 / 255, *ends, tokens)[0])
    e = shiftmax.shift_exp(softmax.distances(q).astype(np.int32), c.unit, c.octaves)
    share = e * (np.int32(2**31 - 1) // e.sum(-1, keepdims=True, dtype=np.int32))
    log = Params(log_softmax.plan("s", scale, 2.0**-14, *ends, tokens)[0])
    power = log_softmax.log_softmax(q, log, PLAIN, 0, 15)
    return {
        "refvit, 8 bits": reference.softmax(scale)(q) / 255,
        "Shiftmax, 8 bits": (share >> 24) / 2**7,
        "refvit, 4 bits": reference.softmax(scale, 1 / 15)(q) / 15,
        "log2, 4 bits": np.where(power < 15, 2.0**-power, 0),
        "Shiftmax, 16 bits": (share >> 16) / 2**15,
    }


spreads, noise = np.linspace(0, 4, 17), np.random.default_rng(0).standard_normal((64, 197))
scores = [np.rint(noise * sd * 8).clip(-128, 127).astype(np.int8) for sd in spreads]  # scale 1/8
found = [rows(q, 1 / 8) for q in scores]
mass = {name: np.array([row[name].sum(-1).mean() for row in found]) for name in found[0]}
for name, sums in mass.items():
    print(f"{name:<18} uniform row {sums[0]:.3f}, deviation 1: {sums[4]:.3f}, 4: {sums[16]:.3f}")

# %%
fig, axs = plt.subplots(1, 2, figsize=(11, 3.7))
plot.curves(spreads, mass, axs[0]).set_yscale("linear")
axs[0].set(xlabel="deviation of the scores", title="sum of a row of 197 tokens")
exact = F.softmax(scores[10][0] / 8)
order = np.argsort(exact)
coded = {name: p[0][order] for name, p in found[10].items() if name != "Shiftmax, 16 bits"}
ideal = np.geomspace(1e-5, 0.2)
axs[1].plot(ideal, ideal, color=plot.GREY, linewidth=5, alpha=0.4, label="exact")
plot.curves(exact[order], coded, axs[1]).set_yscale("symlog", linthresh=1e-4)
axs[1].set(xscale="log", ylim=(-2e-5, 0.2), xlim=(1e-5, 0.2))
axs[1].set(xlabel="exact probability", title="what the codes of one row stand for")
fig.tight_layout()

# %% [markdown]
# Floored to 8 bits, a uniform row is all zero: attention that looks everywhere sees nothing. Four
# uniform bits are no better. Rounding to 1/255 keeps most of the mass, not all: that is the grid's
# doing, and no kernel mends it. Four bits in powers of two keep as much, each of them off by a
# factor of up to $\sqrt 2$, so that a row may sum to a little more than one. What Shiftmax lacks
# even with 16 bits is lost where it floors $2^{31} /$ sum.
#
# ## 4. LayerNorm: rows nobody tried
#
# **Which rows divide by zero?** LayerNorm is $\gamma\,(x - \mu) / \sqrt{\sigma^2 + \varepsilon} +
# \beta$. The release drops $\varepsilon$, rounds $\mu$ to a code, divides $\beta$ by $\gamma$, and
# drops a number of bits of $x - \mu$ that it learned once for all rows.

# %%
beta, scale, eps = np.full(8, 0.5), 1e-3, 1e-5
quiet, constant, bump = np.tile([1, -1], 4), np.full(8, 7), np.array([5, 0, 0, 0, 0, 0, 0, 0])
cases = {
    "quiet row, eps matters": (quiet, 1.0, 0),
    "constant row": (constant, 1.0, 0),
    "gamma = 0": (quiet, 0.0, 0),
    "small row, static shift 4": (bump, 1.0, 4),
}
print(f"{'first channel of':<27}{'exact':>8}{'released':>10}{'refvit':>8}")
for name, (row, g, shift) in cases.items():
    gamma = np.full(8, g)
    exact = F.layer_norm(row[None] * scale, gamma, beta, eps)[0, 0]
    codes, step = ibert_layer_norm(row, gamma, beta, shift)
    with np.errstate(invalid="ignore"):
        released = (codes * step)[0]
    ours = reference.layer_norm(
        row[None].astype(np.int16), gamma, beta, scale, 1e-3, eps, out_bits=16
    )
    print(f"{name:<27}{exact:>8.3f}{released:>10.3f}{ours[0, 0] * 1e-3:>8.3f}")

# %% [markdown]
# `refvit` never rounds the mean: $y = C q - \sum q$ is an integer, and then
#
# $$\frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} = \frac{\sqrt C\, y}{\sqrt{\sum y^2 + E}}, \qquad
# E = C^3 \varepsilon / s^2$$
#
# Each row brings its own shift, counted from the leading zeros of its largest $y$. $\gamma$ is a
# signed multiplier, so 0 is ordinary. I-ViT takes the root by ten Newton steps from $2^{16}$,
# enough for large variances only.

# %%
C, fine = 192, 2**-11
gamma, zeros = np.ones(C), np.zeros(C)
static = Params(ivit_norm.plan("n", 1e-3, fine, -32768, 32767, gamma, zeros, 0.0)[0])
norms = {
    "refvit": lambda q: reference.layer_norm(q, gamma, zeros, 1e-3, fine, 0.0, out_bits=16) * fine,
    "I-BERT, shift 0": lambda q: np.multiply(*ibert_layer_norm(q, gamma, zeros, 0)),
    "I-BERT, shift 4": lambda q: np.multiply(*ibert_layer_norm(q, gamma, zeros, 4)),
    "I-ViT": lambda q: ivit_norm.i_layer_norm(q, static, PLAIN, -32768, 32767) * fine,
}
deviations, draw = np.geomspace(1, 4000, 25), np.random.default_rng(0).standard_normal((50, C))
error = {name: [] for name in norms}
for q in (np.rint(draw * deviation).astype(np.int16) for deviation in deviations):
    exact = (q - q.mean(-1, keepdims=True)) / q.std(-1, keepdims=True)
    for name, norm in norms.items():
        error[name].append(np.abs(norm(q) - exact).max())
for name, e in error.items():
    print(f"{name:<15} worst error {max(e):.4f}, at deviation {deviations[-1]:.0f} {e[-1]:.4f}")
print(f"int32 holds the sum of {C} squares up to a deviation of {np.sqrt(2**31 / C):.0f}")

# %%
n = np.unique(np.geomspace(1, 2**30, 300).astype(np.int32))
roots = {"floor of the root": i_sqrt(n), "ten Newton steps from 2^16": ivit_norm.newton_sqrt(n)}
print("root of 1024 by ten steps:", ivit_norm.newton_sqrt(np.array([1024], np.int32))[0])
fig, axs = plt.subplots(1, 2, figsize=(11, 3.7))
plot.curves(deviations, error, axs[0]).set_title("worst error of LayerNorm")
axs[0].set(xscale="log", xlabel="deviation of a 16-bit row of 192, in codes")
plot.curves(n, roots, axs[1]).set_title("integer square root of n")
axs[1].set(xscale="log", xlabel="n")
fig.tight_layout()

# %% [markdown]
# I-BERT's error falls with the row's deviation: it is the rounded mean, which a loud row does not
# notice, and beyond about a thousand codes it is the best of all (its values are drawn before any
# rounding to an output grid, the others after one of $2^{-11}$). But there `int32` soon no longer
# holds its sum of squares, which is what the shift is for; and one typed in for the loudest row
# ruins the others. I-ViT's root has not converged for small rows. `refvit` errs by about a
# thousandth at every deviation: its shift follows from the row's own range.
#
# **Your turn: 10.2.** Write an integer root whose every intermediate fits `int32`. The law is
# $r^2 \le n < (r+1)^2$, tried where roots go wrong: at $k^2 - 1$, $k^2$ and the ends.


# %%
def my_isqrt(n):
    """floor(sqrt(n)) of int32 0 <= n < 2**31, integers only."""
    raise NotImplementedError


def check_root(fn):
    k = np.arange(1, 46341)
    n = np.unique(np.concatenate([k * k - 1, k * k, [2**31 - 1]]))
    root = fn(n.astype(np.int32)).astype(np.int64)
    wrong = n[(root * root > n) | (n >= (root + 1) ** 2)]
    assert not len(wrong), (
        f"{len(wrong):,} of {len(n):,} roots are wrong, the last that of {wrong[-1]:,}"
    )


owners = {"yours": my_isqrt, "I-ViT": ivit_norm.newton_sqrt, "refvit": i_sqrt}
print("\n".join(f"{name:<7} {judge(check_root, root)}" for name, root in owners.items()))

# %% [markdown]
# ## 5. Proofs instead of trust
#
# **Who says that nothing overflows?** NumPy wraps `int32` without a word, and so does hardware. The
# compiler therefore computes the range of every value from the ranges of its inputs, and refuses to
# emit an operator whose value does not fit. `refvit prove nano_vit` prints the table; here is the
# part of one block.

# %%
model = refvit.load("nano_vit")
calibration = model.preprocess.normalise(refvit.data.shapes10("calibration", 128)[0])
quantized = refvit.quantize(model, calibration, recipe="w8a8")
engine = refvit.compile(quantized)
block = [p for p in engine.proofs if p.site.startswith("blocks.0.") and p.what != "input code"]
for p in block:
    if p.site[9:] in ("attn.scores", "attn.softmax", "attn.context", "mlp.act", "norm2"):
        print(f"{p.site[9:]:<13}{p.what:<25}{p.lo:>15,} {p.hi:>14,} {p.bits:>3} bits: {p.why}")

# %%
ax = plot.ranges(block)
ax.figure.set_size_inches(7, 4.9)

# %% [markdown]
# Products of codes need 17 to 23 bits: they are never the danger. The kernels are, by design: their
# shifts are chosen so that the widest value just fits.
#
# **A bound is worth what comes near it.** A witness is an input that does: for the sum of
# exponentials, equal scores; for a linear, each code at the end its weight likes.

# %%
proof = {(p.site[9:], p.what): p for p in block}
at = engine.constants.blocks[0]
_, total = softmax.exponentials(np.zeros((1, 65), np.int8), at.attn.softmax, PLAIN, None)
weight, bias = (at.mlp.fc1[name].astype(np.int64) for name in ("weight", "bias"))
worst = ((np.where(weight > 0, 127, -128) * weight).sum(1) + bias).max()
for key, reached in {
    ("attn.softmax", "sum of e + rounding"): int(total.max()),
    ("mlp.fc1", "accumulator"): int(worst),
}.items():
    print(f"{' '.join(key):<33} reaches {reached:>9,} of {proof[key].hi:,}")

# %% [markdown]
# **Now type the constants in.** No `keep` for GELU, two more bits for the reciprocal of softmax,
# one more for the root of LayerNorm:

# %%
typed = (
    (gelu, "PRODUCT_EXACT", 1 << 40),
    (softmax, "RECIPROCAL", 29),
    (layer_norm, "ROOT_BITS", 16),
)
for module, name, value in typed:
    with patch.object(module, name, value):
        try:
            refvit.compile(quantized)
        except OverflowError as refusal:
            print(textwrap.fill(f"{name} = {value}: {refusal}", 96, subsequent_indent="    "))

product = np.array([127], np.int32) * np.int32(2 * gelu.ONE)
print(f"\nand unproved? 127 * {2 * gelu.ONE:,} in int32 is {product[0]:,}, without a warning")

# %% [markdown]
# ## 6. Laws: the smallest row that tells
#
# **Fits is not yet right: who says that a kernel computes its function?** `refvit.testing.laws`
# holds any function on integers, whatever is behind it, to a clause of the specification. It draws
# cases where implementations go wrong and shrinks what fails. The ancestors, on trial:


# %%
def codes_of(reals, step, lo, hi):
    return np.clip(np.rint(np.nan_to_num(reals / step)), lo, hi).astype(np.int64)


def released_gelu(q):
    return codes_of(np.multiply(*ibert_gelu(q, 4 / 127)), 4 / 127, -128, 127)


def released_softmax(q):
    e = ibert_exp(q.astype(np.int32) - q.max(-1, keepdims=True), 0.5)[0]
    return codes_of(e / e.sum(-1, keepdims=True), 1 / 255, 0, 255)


def ivit_softmax(q):
    c = Params(shiftmax.plan("s", 0.5, 1 / 255, -128, 127, q.shape[-1])[0])
    return shiftmax.shiftmax(q, c, PLAIN, 0, 255)


def released_norm(q, gamma, beta, scale, out_scale, eps):
    with np.errstate(invalid="ignore"):
        return codes_of(np.multiply(*ibert_layer_norm(q, gamma, beta)), out_scale, -128, 127)


# %%
trials = {
    "I-BERT GELU": (laws.gelu, released_gelu, 4 / 127),
    "refvit GELU": (laws.gelu, reference.gelu(4 / 127), 4 / 127),
    "I-BERT softmax": (laws.softmax, released_softmax, 0.5),
    "I-ViT softmax": (laws.softmax, ivit_softmax, 0.5),
    "refvit softmax": (laws.softmax, reference.softmax(0.5), 0.5),
    "I-BERT LayerNorm": (laws.layer_norm, released_norm),
    "refvit LayerNorm": (laws.layer_norm, reference.layer_norm),
}
print("\n".join(f"{name}: {judge(*args)}" for name, args in trials.items()))

# %% [markdown]
# A failing case of a thousand numbers has become one code, two scores, a row without variance: each
# line is a test you can keep, with the clause it breaks (`refvit spec` prints them).
#
# **Your turn: 10.3.** Write a softmax of 8-bit scores at scale 0.5, over the last axis, to codes
# of 1/255, that its law accepts. A table may be filled in floats beforehand; from the codes on,
# integers only, none beyond `int32`.


# %%
def my_softmax(q):
    """Codes of 255 * softmax(0.5 * q), for int8 q [..., N] with N up to 256."""
    raise NotImplementedError


print(judge(laws.softmax, my_softmax, 0.5))

# %% [markdown]
# ## 7. What it costs a model
#
# **Do such errors move a prediction?** `refvit profiles nano_vit` compiles one quantized model with
# each set of kernels, classifies, and runs every operator beside its exact meaning on the same
# inputs. The same comparison, on 300 pictures:

# %%
images, truth = refvit.data.shapes10("test", count=300, seed=0)
pixels = model.preprocess.normalise(images)
floats = model(pixels).argmax(1)
lines = [f"float   {np.mean(floats == truth):7.2%}   as float   worst error (cost of an element)"]
for name, profile in PROFILES.items():
    engine = refvit.compile(quantized, name)
    answers, worst = engine(pixels).argmax(1), dict.fromkeys(("softmax", "gelu", "layer_norm"), 0.0)
    for row in lockstep(quantized, engine, calibration[:4]):
        if row.op in worst:
            worst[row.op] = max(worst[row.op], row.error)
    errors = "; ".join(f"{op} {e:.4f} ({getattr(profile, op).cost})" for op, e in worst.items())
    right, same = np.mean(answers == truth), np.mean(answers == floats)
    lines.append(f"{name:<8}{right:7.2%} {same:10.2%}   {errors}")
print("\n".join(lines))

# %% [markdown]
# The errors include half a code of the output grid. `table` is `refvit` with its kernels looked up,
# so its integers are the same. Shiftmax errs some thirty times as much as `refvit`'s softmax, and
# the accuracy does not show it; powers of two err a hundred times as much and cost five pictures.
# So a figure of one model does not tell a good kernel from a poor one: a law does. (`ivit` here has
# derived shifts, and 14 bits in GELU's division, where its release has fixed ones.)

# %% [markdown]
# ## Solutions
#
# Yours may differ: what the check accepts is right.


# %%
### BEGIN SOLUTION
def solved_shift(bits, reach):
    top = 2 ** (bits - 1) - 1
    largest = top * 2 * 6.925 / (reach / top) ** 2  # q by two units of L
    return max(0, int(np.ceil(np.log2(largest))) - 31)


print(judge(check_shift, solved_shift))
### END SOLUTION


# %%
### BEGIN SOLUTION
def solved_isqrt(n):
    root = np.zeros_like(n)
    for bit in range(15, -1, -1):
        more = root | np.int32(1 << bit)
        root = np.where(more <= n // more, more, root)  # more * more could leave int32
    return root


print(judge(check_root, solved_isqrt))
### END SOLUTION

# %%
### BEGIN SOLUTION
EXP = np.rint(2**16 * np.exp(-0.5 * np.arange(256))).astype(np.int32)  # 256 of them: 2^24


def solved_softmax(q):
    e = EXP[q.max(-1, keepdims=True).astype(np.int32) - q]
    total = e.sum(-1, keepdims=True, dtype=np.int32)
    return (510 * e + total) // (2 * total)  # 255 e / total, rounded


print(judge(laws.softmax, solved_softmax, 0.5))
### END SOLUTION

# %% [markdown]
# ## What to remember
#
# * A shift has a floor (the widest value must fit) and a ceiling (enough bits must be left). Both
#   follow from ranges; a typed-in constant is right for one range.
# * Constants belong on a fixed grid. Floored at the scale of the data, they are the error.
# * Output codes can lose what the kernel computed: floored to 7 bits, a uniform row of 197 tokens
#   is all zero.
# * Zero variance, gamma = 0, a quiet row and a loud one are inputs like any other.
# * A proof says that it fits, a law that its error is the stated one, a vector that it is the same
#   to the bit; a table of accuracies says none of it.
#
# **Papers.** Kim, Gholami, Yao, Mahoney and Keutzer 2021 (I-BERT); Li and Gu 2023 (I-ViT); Lin,
# Zhang, Sun, Li and Zhou 2022 (FQ-ViT); Du, Gong and Chu 2024 (the survey this project follows).
