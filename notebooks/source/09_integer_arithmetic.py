# %% [markdown]
# # Integer arithmetic
#
# **You will be able to** compute a layer with integers alone and round it once; bound every sum
# from its weights and show the input that reaches the bound; say when a floating-point unit
# computes integers exactly; and draw one block of a ViT with the bits on every edge.
#
# It needs notebook 02 (scale, code) and 60 minutes. A *code* is the small integer stored for a
# real number, a *scale* the real that one step of codes is worth: real = scale x code. The model
# here has weights and activations of 8 bits, `w8a8`; its *engine* computes with codes alone.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np

import refvit
from refvit import plot
from refvit.integer import FAST, PLAIN

model = refvit.load("nano_vit")
calibration = model.preprocess.normalise(refvit.data.shapes10("calibration", 128)[0])
quantized = refvit.quantize(model, calibration, recipe="w8a8")
engine = refvit.compile(quantized)
fc1, fc2 = (engine.constants.blocks[0].mlp[name] for name in ("fc1", "fc2"))
print(engine)

# %% [markdown]
# ## 1. A product of codes
#
# **What does a layer compute, when it has only codes?** Put $x = s_x q_x$ and $w = s_w q_w$ into a
# dot product, and the scales come out of the sum (Jacob et al. 2018, section 2.2):
#
# $$y = \sum_k w_k x_k + b = s_w s_x \Bigl(\sum_k q_{w,k}\, q_{x,k} + q_b\Bigr), \qquad
# q_b = \mathrm{round}\bigl(b / (s_w s_x)\bigr)$$
#
# The bracket is whole numbers only. The register it is summed in is the *accumulator*. It needs
# more bits than the codes, and NumPy will not say so: an array of `int8` wraps in silence.

# %%
real_w, real_x = np.array([0.50, -0.31, 1.00]), np.array([1.20, 0.40, -0.70])
s_w, s_x = 1.00 / 127, 1.20 / 127
q_w, q_x = (np.rint(r / s).astype(np.int8) for r, s in ((real_w, s_w), (real_x, s_x)))
acc = q_w.astype(np.int32) @ q_x.astype(np.int32)
print("codes      ", q_w, q_x)
print("accumulator", acc, " in int8 it would be", q_w @ q_x)
print(f"s_w s_x acc = {s_w * s_x * acc:.5f}, in reals {real_w @ real_x:.5f}")

# %% [markdown]
# The small difference is the rounding of the inputs to codes; the sum itself is exact.
#
# **Your turn: 9.1.**

# %% exercise nb09.accumulate

# %% [markdown]
# ## 2. A real factor, without reals
#
# **How does the sum become a code of the next layer?** That has a scale $s_y$ of its own, so the
# accumulator is multiplied by $r = s_w s_x / s_y$: a real number, and usually a small one. All
# scales are known when the model is compiled. So $r$ can be written beforehand as a *multiplier*
# $m$ and a *shift* $n$ (Jacob et al. 2018, equation 6):
#
# $$r \approx m / 2^n, \qquad 2^{23} \le |m| < 2^{24}$$
#
# To divide by $2^n$ is to drop $n$ bits. Every bit of $m$ halves the error of the scale. How many
# are enough? The factor errs by a share, so its error is worst at the largest code.

# %%
m, n = (int(k) for k in refvit.integer.dyadic(0.3))
print(f"0.3 ~ {m:,} / 2^{n} = {m / 2**n:.10f}")

factors = np.exp(np.random.default_rng(0).uniform(-9, 0, 20_000))
fraction, exponent = np.frexp(factors)
widths = np.arange(3, 32)
worst = np.array([np.abs(np.rint(fraction * 2.0**b) / 2.0**b / fraction - 1).max() for b in widths])
error = {"8-bit output": 128 * worst, "16-bit output": 32768 * worst}
for name, steps in error.items():
    print(
        f"{name}: {steps[widths == 8][0]:.2g} steps with 8 bits, "
        f"{steps[widths == 24][0]:.1g} with 24"
    )
assert (worst <= 2.0**-widths).all()
assert error["16-bit output"][widths == 24] < 0.002

fig, ax = plt.subplots(figsize=(8, 3.8))
plot.curves(widths, error, ax)
ax.get_lines()[-1].set(linestyle="-.")  # not by colour alone
ax.legend(frameon=False, loc="lower left")
ax.axhline(0.5, color="black", linestyle="--", linewidth=0.9)
ax.text(3, 0.16, "half a step", fontsize=10)
ax.axvline(24, color="black", linestyle=":", linewidth=1.2)
ax.text(24.2, 2e3, "refvit: 24 bits", fontsize=10)
ax.set(xlabel="bits of the multiplier", ylabel="worst error, in output steps")
plot.picture(
    fig,
    "The worst error from a rounded multiplier falls by half with every bit. At 24 bits it is far "
    "below half an output step, for 8-bit and for 16-bit outputs.",
)

# %% [markdown]
# **Your turn: 9.2.** Write what the compiler does. One factor in $2^{24}$ is special: just below a
# power of two, it rounds up to a multiplier of 25 bits.

# %% exercise nb09.dyadic_pair

# %% [markdown]
# ## 3. One rounding
#
# **What is a shift of a negative number?** `>>` floors: $-1$ shifted by one is $-1$, not 0. With
# half of $2^n$ added first it rounds to the nearest, and a *tie*, a quotient exactly between two
# integers, goes up:
#
# $$\mathrm{requantize}(a) = \mathrm{clip}\bigl((a\,m + 2^{n-1}) \gg n,\; lo,\; hi\bigr)$$
#
# This is clause 2.2 of the engine's specification, and the only rounding of a layer. The product
# has 32 + 24 = 56 bits: the one 64-bit value of the engine. Other rules give other codes, so
# hardware that follows one of them is off by one somewhere:

# %%
print(refvit.integer.clauses()["2.2"], "\n")
acc = np.arange(-5, 6)
rules = {
    "acc / 2": acc / 2,
    "requantize": refvit.integer.requantize(acc, *refvit.integer.dyadic(0.5), -128, 127),
    "np.rint (half to even)": np.rint(acc / 2).astype(int),
    "C lround (half away)": (np.sign(acc) * ((np.abs(acc) + 1) // 2)),
    "shift alone (floor)": acc >> 1,
    "C division (truncation)": np.trunc(acc / 2).astype(int),
}
for name, row in rules.items():
    print(f"{name:<24}", " ".join(f"{v:>4}" for v in row))

# %% [markdown]
# **Your turn: 9.3.** It is judged against exact fractions, at the ends of `int32` too.

# %% exercise nb09.requantized

# %% [markdown]
# **Why insist on one?** Because the first of two roundings can make a tie out of what was none.
# 0.49 rounds to 0. Rounded to halves first it is 0.5, and that rounds to 1. gemmlowp, the library
# behind Jacob et al., rounds the product after 31 bits and the rest of the shift again; I-BERT
# rounds both addends of a residual addition to codes before it adds them. How often does it matter?

# %%
acc = np.arange(-300_000, 300_001)
m, n = int(fc1.multiplier[0]), int(fc1.shift[0])
once = (acc * m + (1 << (n - 1))) >> n
high = (acc * (m << 7) + (1 << 30)) >> 31  # the same factor, as 31 bits
rest = n + 7 - 31
twice = (high + (1 << (rest - 1))) >> rest
print(f"gemmlowp's order: {np.mean(once != twice):.2%} of the codes of fc1 differ")

rng = np.random.default_rng(0)
a, b = rng.uniform(-100, 100, (2, 100_000))
both = np.rint(a) + np.rint(b)
print(
    f"addends rounded first: {np.mean(both != np.rint(a + b)):.1%} of sums differ, "
    f"rms error {np.std(both - a - b):.3f} for {np.std(np.rint(a + b) - a - b):.3f}"
)
assert np.mean(once != twice) > 0
assert (np.floor(0.49 + 0.5), np.floor(np.floor(2 * 0.49 + 0.5) / 2 + 0.5)) == (0, 1)
assert abs(np.mean(both != np.rint(a + b)) - 0.25) < 0.01

x = np.arange(0, 2, 1 / 512)
single, double = np.floor(x + 0.5), np.floor(np.floor(x * 4 + 0.5) / 4 + 0.5)
fig, ax = plt.subplots(figsize=(8, 3.6))
ax.plot(x, single - x, color=plot.GREY, linewidth=5, alpha=0.6, label="rounded once")
ax.plot(
    x, double - x, "--", color=plot.LINES[1], linewidth=2, label="to quarters, then to integers"
)
ax.axhspan(-0.5, 0.5, color=plot.BLUE, alpha=0.08)
ax.text(1.0, -0.44, "within half a step", ha="center", color=plot.BLUE, fontsize=10)
ax.set(xlabel="exact quotient", ylabel="error, in steps", ylim=(-0.6, 0.95))
ax.legend(frameon=False, loc="upper center", ncols=2)
plot.picture(
    fig,
    "Error against the exact quotient: a single rounding stays within half a step, two roundings "
    "leave that band by an eighth of a step just below every tie.",
)

# %% [markdown]
# **Your turn: 9.4, a property.** Not a rounding this time but a judge of roundings: true of any
# function that rounds once to the nearest, false of those that do not.

# %% exercise nb09.rounds_once

# %% [markdown]
# ## 4. How far can a sum go?
#
# **Who says that 32 bits are enough?** Not the data: an image that was never tried may be worse.
# The weights say it. They are fixed, and every input code lies in $[lo, hi]$, so each product has a
# largest value of its own, and the accumulator lies between the sums of the least and of the
# greatest:
#
# $$\sum_k \min(w_k\,lo,\, w_k\,hi) + b \;\le\; \sum_k w_k x_k + b \;\le\;
# \sum_k \max(w_k\,lo,\, w_k\,hi) + b$$
#
# **Your turn: 9.5 and 9.6.** The bound, and a *witness*: an input that reaches it. A bound with a
# witness cannot be improved.

# %% exercise nb09.accumulator_range

# %% exercise nb09.worst_codes

# %% [markdown]
# **Predict: 9.7.** The sums of `fc2` have 192 products. How many bits does the compiler prove to be
# enough? Shapes alone say 23; the weights say less, and what GELU can leave, less again: GELU is
# never below -0.17, and its codes never below what that rounds to.

# %%
heaviest = np.abs(fc2.weight.astype(int)).sum(1).max()
print(f"fc2: weight {fc2.weight.shape} {fc2.weight.dtype}, heaviest row sum|w| = {heaviest:,}")
print(f"192 products of 128 x 128 need {1 + (192 * 128 * 128).bit_length()} bits")
least = -0.17 / engine.scales["blocks.0.mlp.act"]
print(f"the least value of GELU is {least:.2f} steps of its scale")
assert round(least) == -4

# %% exercise nb09.proved_bits

# %% [markdown]
# Now the proofs beside what 500 images reach, and beside a witness for each layer.

# %%
images, _ = refvit.data.shapes10("test", count=500, seed=0)
codes = {}
engine.run(engine.encode(model.preprocess.normalise(images)), tap=codes.__setitem__)
proved = {p.site: max(-p.lo, p.hi) for p in engine.proofs if p.what == "accumulator"}
reads = {
    "attn.q": "norm1",
    "attn.k": "norm1",
    "attn.v": "norm1",
    "mlp.fc1": "norm2",
    "mlp.fc2": "mlp.act",
}
rows = {}
for name, source in reads.items():
    layer, x = engine.constants[f"blocks.0.{name}"], codes[f"blocks.0.{source}"]
    w = layer.weight.astype(np.int32)
    lo, hi = (-4, 127) if name == "mlp.fc2" else (-128, 127)
    up, down = (np.where(w * sign > 0, hi, lo) for sign in (1, -1))  # a witness for each row
    sums = np.array([(w * chosen).sum(1) for chosen in (up, down)])
    witness = int(np.abs([sums, sums + layer.bias]).max())  # before the bias, and after it
    seen = int(np.abs(x.astype(np.int32) @ w.T + layer.bias).max())
    rows[name] = (seen, witness, proved[f"blocks.0.{name}"], w.shape[1] * 128 * 128)
    print(
        f"{name:<8} seen {seen:>8,}  witness {witness:>8,}  proved {rows[name][2]:>8,}  "
        f"by shape {rows[name][3]:>10,}"
    )
assert all(4 * seen < witness == bound for seen, witness, bound, _ in rows.values())

fig, ax = plt.subplots(figsize=(8.5, 3.4))
styles = (
    ("500 images", "o"),
    ("witness", "x"),
    ("proved from the weights", "|"),
    ("by shape", "s"),
)
for k, (label, marker) in enumerate(styles):
    bits = [math.log2(row[k]) for row in rows.values()]
    ax.plot(
        bits,
        range(len(rows)),
        marker,
        markersize=11 if marker == "|" else 8,
        linestyle="",
        color=(plot.BLUE, "black", plot.LINES[1], plot.GREY)[k],
        label=label,
        markeredgewidth=2,
    )
ax.axvline(31, color="black", linestyle="--", linewidth=0.9)
ax.text(30.9, 0.1, "int32 ends", ha="right", fontsize=10)
ax.set(
    xlabel="log2 of the largest accumulator",
    xlim=(13, 32),
    ylim=(4.6, -0.6),
    xticks=range(14, 32, 2),
)
ax.set_yticks(range(len(rows)), rows)
ax.grid(axis="x", alpha=0.3)
ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
plot.picture(
    fig,
    "For five layers of a block, the largest accumulator on a logarithmic axis: 500 images stay "
    "below the proved bound, the witness lies on it, the bound by shape is larger, int32 far off.",
)

# %% [markdown]
# Here a proof is a range, stated when the engine is compiled. Every witness reaches its proof, to
# the unit (sums without the bias count as well: hardware may add it last). The images stay more
# than two bits below: a bound taken from them would be a guess.
#
# ## 5. One past it
#
# **When does a sum of 8-bit products leave `int32`, then?** The largest product is
# $(-128)(-128) = 2^{14}$, the greatest `int32` is $2^{31} - 1$.

# %%
print("the longest row of ViT-Huge:", refvit.models.VARIANTS["vit_huge"].hidden)
for length in (131_071, 131_072):
    row = np.full(length, -128, np.int8)
    print(f"{length:,} products of -128 by -128: {PLAIN.matmul(row[None], row[:, None])[0, 0]:,}")

# %% [markdown]
# One more product, and the largest positive sum is read as the most negative. No ViT has rows as
# long. Narrow accumulators are another matter.
#
# **Your turn: 9.8.** The greatest length, for any widths.

# %% exercise nb09.longest_row

# %% [markdown]
# ## 6. Integers by floating point
#
# **Why does an integer engine call BLAS,** the library behind NumPy's `@`? Because it has fast
# matrix products for floats only.
# That is allowed where it is exact, and exactness can be proved. A `float32` has a *significand* of
# 24 bits, so it holds every integer up to $2^{24}$; then come gaps. Every partial sum of $K$
# products, in any order and on any number of threads, has magnitude at most
#
# $$K \cdot \max|a| \cdot \max|b| \;\le\; 2^{24}$$
#
# and where that holds nothing is ever rounded: float addition *is* integer addition. For two `int8`
# operands it means $K \le 1024$. `refvit` cuts longer rows into pieces of that length, and sums
# wider codes in `float64`, which reaches $2^{53}$.

# %%
rng = np.random.default_rng(0)
a, b = (rng.integers(-128, 128, size).astype(np.int8) for size in ((200, 3072), (3072, 200)))
floats = a.astype(np.float32) @ b.astype(np.float32)
print(
    "random codes, K = 3072: float32 is wrong in", np.sum(floats != PLAIN.matmul(a, b)), "of 40,000"
)
print(f"they reach {np.abs(floats).max():,.0f} of {2**24:,}")
for digits, name in ((24, "float32"), (53, "float64")):
    gap = np.array([2**digits, 2**digits + 1], np.int64).astype(name)
    print(f"{name}: 2^{digits} + 1 is held as 2^{digits} + {int(gap[1]) - 2**digits}")
print("K at most", 2**24 // (128 * 128), "for int8 by int8 in float32")

# %%
lengths = np.array([48, 64, 192, 384, 768, 1024, 1536, 3072, 5120])
pairs = {
    "int4 x int8": 8 * 128,
    "int8 x int8": 128 * 128,
    "uint8 x int8": 255 * 128,
    "int16 x int8": 32768 * 128,
}
fig, ax = plt.subplots(figsize=(8.5, 4))
for k, (name, product) in enumerate(pairs.items()):
    ax.plot(
        lengths,
        np.log2(lengths * float(product)),
        "o-v-s-^-"[2 * k : 2 * k + 2],
        color=plot.LINES[k],
        label=name,
    )
for bits, name in (
    (24, "float32 is exact up to here"),
    (31, "int32 ends"),
    (53, "float64 is exact up to here"),
):
    ax.axhline(bits, color="black", linestyle="--", linewidth=0.9)
    ax.text(50, bits + 0.4, name, fontsize=10)
ax.set(xscale="log", xlabel="length K of the sum", ylabel="log2 of the largest sum", ylim=(14, 56))
ax.set_xticks(lengths[[0, 2, 3, 5, 7]], lengths[[0, 2, 3, 5, 7]])
ax.minorticks_off()
ax.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 0.88))
plot.picture(
    fig,
    "Largest possible sum against its length for four pairs of codes, with the ends of float32, "
    "int32 and float64: int8 by int8 meets the end of float32 at K = 1024, float64 is never near.",
)

# %% [markdown]
# Random codes do not come near the gap: a test on random data passes, and proves nothing.
#
# **Your turn: 9.9 and 9.10.** The law behind 1024, and then a witness one past it.

# %% exercise nb09.exact_length

# %% exercise nb09.beyond_float32

# %%
a = np.full((1, 3071), -128, np.int8)
a[0, 1024:] = 1  # 2**24, and then ones
exact = PLAIN.matmul(a, a.T)[0, 0]
print(f"exact {exact:,}, the nearest float32 {np.float32(exact):,.0f}", end=", ")
print(f"refvit's pieces {FAST.matmul(a, a.T)[0, 0]:,.0f}")
assert FAST.matmul(a, a.T)[0, 0] == exact != np.float32(exact)
pixels = model.preprocess.normalise(images[:50])
print("engine, both arithmetics:", np.array_equal(engine(pixels, FAST), engine(pixels, PLAIN)))

# %% [markdown]
# ## 7. One block, every width
#
# Now the whole of a block. An edge is what is stored between two operators, at the width that the
# recipe, here `w8a8`, gives it; the number in a box is the widest integer inside, as proved.

# %%
last, total = (engine.scales[f"blocks.3.{site}"] for site in ("mlp.fc2", "add2"))
typical = np.median(np.abs(codes["blocks.3.mlp.fc2"])) * last / (256 * total)
print(f"a typical addend of the last block: {typical:.1f} steps of an 8-bit residual")
widest = {p.bits for p in engine.proofs if "blocks.0" in p.site and p.what == "accumulator"}
assert (min(widest), max(widest), round(typical)) == (17, 21, 6)
fig, ax = plt.subplots(figsize=(13, 5.2))
plot.dataflow(engine, "blocks.0", ax)
plot.picture(
    fig,
    "Data flow of one encoder block: 8-bit codes on the branches, 16 bits on the residual; sums of "
    "products need 17 to 21 of 32 bits, additions 25, softmax, GELU and LayerNorm 29 to 32.",
)

# %% [markdown]
# Two things to see. The residual has 16 bits, because every block adds to it and rounds it again;
# in 8 bits, a typical addend of the last block would be six steps. And the danger is not where
# the work is: products need 17 to 21 bits, while softmax, GELU and LayerNorm use nearly all there
# are. Notebook 10 is about those.
#
# ## What to remember
#
# * Scales come out of a sum of products; what is left is integers and one real factor, written as
#   multiplier and shift when the model is compiled.
# * Round once, with a stated rule for ties. Two roundings make ties where there were none.
# * A bound comes from weights and ranges, not from data. A witness shows that it is tight.
# * Floats add integers exactly up to $2^{24}$ or $2^{53}$. It is a proof about $K$, which random
#   tests can neither replace nor refute.
# * Sums of products are harmless in a ViT; the kernels between them are not.
#
# **Papers.** Jacob et al. 2018 (integer-arithmetic-only inference, gemmlowp); Kim et al. 2021
# (I-BERT); Krishnamoorthi 2018 (white paper on quantizing networks); Du, Gong and Chu 2024 (the
# survey this project follows).
