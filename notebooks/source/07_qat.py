# %% [markdown]
# # Quantization-aware training
#
# **You will be able to** train through a rounding that has no gradient, derive and check the two
# rules that make it work (straight-through and LSQ), and say what such a training does to weights
# at the border of two codes.
#
# It needs notebooks 02 (grids) and 06 (what calibration alone reaches). An hour; half a minute to
# run, of which most is three small trainings.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

import refvit
from refvit import plot
from refvit.autodiff import Var, backward, value_and_gradients
from refvit.losses import soft_distillation
from refvit.methods import method
from refvit.models import forward
from refvit.ops import FloatOps
from refvit.optim import AdamW, clip_by_global_norm, fresh, warmup_cosine
from refvit.params import Params
from refvit.quant import PRESETS, Learnable, LearnedGrid, QParams, fake_quantize, straight_through

model = refvit.load("nano_vit")
normalise, shapes10 = model.preprocess.normalise, refvit.data.shapes10
calibration = normalise(shapes10("calibration", 128)[0])
images, labels = shapes10("test", count=300)
pixels = normalise(images)


def top1(classify):
    return np.mean(classify(pixels).argmax(1) == labels)


# %% [markdown]
# ## 1. Where calibration ends
#
# **What is left to do when no scale is good enough?** With weights and activations of 3 bits a
# tensor has eight values. *Calibration*, which looks at ranges and changes no weight, can choose
# them well or badly, by the largest value seen (`minmax`) or by the least square error (`mse`):

# %%
w3a3 = PRESETS["w3a3"]
start = method("minmax")(model, calibration, w3a3)
calibrated = {"float": model, "min-max": start, "mse": method("mse")(model, calibration, w3a3)}
reached = {name: top1(found) for name, found in calibrated.items()}
print("  ".join(f"{name} {accuracy:.1%}" for name, accuracy in reached.items()))
assert reached["min-max"] < reached["mse"] < reached["float"] - 0.3

# %% [markdown]
# So let the weights move, until the model is good *on its grid*. That is *quantization-aware
# training* (QAT): the forward rounds, and a gradient says how every weight should change. But what
# is the gradient of rounding?
#
# ## 2. A slope, and how to know one
#
# **How would you notice that a gradient is wrong?** Compare it with what a slope is, a difference
# of values over a difference of places, taken from both sides (*central differences*):
#
# $$f'(x) \approx \frac{f(x + h) - f(x - h)}{2h}.$$
#
# Write that as a property. It will be tried on functions with right and with wrong slopes.

# %% exercise nb07.is_the_slope

# %% [markdown]
# The same holds for a model with a hundred thousand weights: along any one direction the loss is a
# function of one number. Here is the loss of 16 images, along the direction in which it is
# steepest: in floats, and with all values on grids of 6 bits. What may move is in `leaves`, by
# name. The gradient comes from a *tape*: it notes every operation of a forward, and goes back
# through them from the last to the first by the chain rule.

# %%
few = pixels[:16].astype(np.float64)
wanted = np.eye(10)[labels[:16]] * 8.0  # logits that are nearly sure of the label


def loss_along(tap_of, tensors, places):
    """The loss at `places` on the line of its own gradient, and the slope that the tape gives."""

    def loss(leaves):
        logits = forward(FloatOps(tap_of(leaves), np.float64), few, Params(leaves), model.config)
        return soft_distillation(logits, wanted, 1.0)

    at = {name: t.astype(np.float64) for name, t in tensors.items()}
    gradient = value_and_gradients(loss, at)[1]
    way = {name: 0.0 if "@" in name else g for name, g in gradient.items()}  # steps stay
    norm = np.sqrt(sum(np.sum(g * g) for g in way.values()))
    moved = [{name: at[name] + place * way[name] / norm for name in at} for place in places]
    return np.array([loss(leaves) for leaves in moved]), norm


places = np.linspace(-0.02, 0.02, 41)
learnable = Learnable(refvit.quantize(model, calibration, "w6a6"))
untouched = dict(model.params.items())
lines = {
    "float": loss_along(lambda leaves: lambda site, value: value, untouched, places),
    "6 bits": loss_along(learnable.tap, learnable.tensors, places),
}

# %%
fig, axs = plt.subplots(1, 2, figsize=(10, 3.8))
for ax, (kind, (line, slope)) in zip(axs, lines.items(), strict=True):
    ax.plot(places, line, ".-", color=plot.BLUE, label="loss")
    ax.plot(places, line[20] + slope * places, "--", color="black", label="slope of the tape")
    near = np.diff(line)[15:25] / np.diff(places)[15:25]
    trend = np.polyfit(places, line, 1)[0]
    print(
        f"{kind:<7} tape {slope:5.2f}, differences {near.min():6.2f} to {near.max():5.2f}", end=""
    )
    print(f", trend of all 41 points {trend:5.2f}")
    ax.set(title=kind, xlabel="distance along the gradient", ylabel="loss")
    ax.legend(frameon=False, loc="lower right")
assert near.min() < 0 < near.max()  # on 6 bits
smooth, of_tape = lines["float"]
assert abs((smooth[21] - smooth[19]) / (places[21] - places[19]) / of_tape - 1) < 0.01
assert 0.5 < trend / slope < 1.5
plot.picture(
    fig,
    "Loss along the gradient. In floats a smooth curve whose tangent is the slope of the tape; on "
    "grids of 6 bits a jagged line that goes up and down, but around the slope of the tape.",
)

# %% [markdown]
# In floats the two agree. On the grid the loss goes in jumps: neighbouring points differ by
# anything, of either sign, and no small difference is near what the tape says. And yet the dashed
# line is about where the loss goes. How does the tape come by it?
#
# ## 3. Straight through
#
# **What should stand in for the slope of a staircase?** The slope of the ramp that it follows: 1
# where values are rounded, 0 where they are clipped (Bengio, Leonard and Courville 2013). With $y =
# \mathrm{clip}(\lfloor x / s \rceil, lo, hi)\, s$ and a gradient $g$ for $y$:
#
# $$\frac{\partial L}{\partial x} := g \cdot [\,lo \cdot s \le x \le hi \cdot s\,].$$
#
# It is a decision, not a theorem. Above, a staircase of 3 bits; in the middle, what is taken for
# its slope; below, what section 4 is about.

# %%
fig, axs = plt.subplots(3, 1, figsize=(8, 7), sharex=True, height_ratios=(3, 2, 3))
plot.slopes(QParams(0.5, bits=3), axs)
fig.tight_layout()
plot.picture(
    fig,
    "Three panels over x. A staircase of eight steps follows a ramp that is clipped at both ends; "
    "its true slope is 0 but straight-through takes it for 1 inside the range; LSQ's slope for the "
    "step is a sawtooth between -1/2 and 1/2 inside and the clipped code outside.",
)

# %% exercise nb07.ste_gradient

# %% [markdown]
# The package's tape has that rule for every grid, and the property of section 2 refuses it, as it
# should:

# %%
grid, x = QParams(0.5, bits=3), np.array([-3.1, -1.3, 0.3, 1.2, 2.9])
leaf = Var(x)
backward(np.sum(straight_through(leaf, grid)))
h = 1e-4
differences = (fake_quantize(x + h, grid) - fake_quantize(x - h, grid)) / (2 * h)
print("x               ", x)
print("straight-through", leaf.grad)
print("differences     ", differences)
assert not differences.any()
assert np.array_equal(leaf.grad, [0, 1, 1, 1, 0])

# %% [markdown]
# ## 4. A step that learns
#
# **Who says that the scale is right?** Calibration chose it before anything was learned. LSQ (Esser
# et al. 2020) gives it a gradient as well. Write $u = x / s$. Where $u$ is clipped, $y = lo \cdot
# s$ or $hi \cdot s$, a plain product. Inside, $y = \lfloor u \rceil s$, and by the product rule
#
# $$\frac{\partial y}{\partial s}
# = \lfloor u \rceil + s\,\frac{\partial \lfloor u \rceil}{\partial s}
# = \lfloor u \rceil + s \cdot 1 \cdot \frac{\partial}{\partial s}\frac{x}{s}
# = \lfloor u \rceil - u,$$
#
# straight-through once more (their equation 3): the rounding error, in steps. It is small in the
# middle of a cell and largest at its border: there a change of the step would change codes. A step
# is shared by many values, whose slopes add up, so it is damped by a *gradient scale* (section 2.2)
#
# $$g_s = 1 / \sqrt{n \cdot hi}.$$

# %% exercise nb07.lsq_step_gradient

# %% [markdown]
# What does this gradient want? Take 2,000 normal values at 3 bits. Push the step downhill on the
# square error until the gradient is 0, and compare with the step that a search finds:

# %%
values = np.random.default_rng(0).normal(size=2000)


def square_error(step):
    return np.mean((fake_quantize(values, QParams(step, 3)) - values) ** 2)


steps = [np.abs(values).max() / 3]  # min-max
for _ in range(60):
    leaf = Var(np.array(steps[-1]))
    error = LearnedGrid(QParams(steps[-1], 3), leaf, count=len(values)).round(values) - values
    backward(np.sum(error * error))
    steps.append(steps[-1] - 0.02 * float(leaf.grad))
tried = np.linspace(0.2, 1.3, 111)
best = tried[np.argmin([square_error(step) for step in tried])]

fig, ax = plt.subplots(figsize=(6.5, 3.6))
ax.plot(tried, [square_error(s) for s in tried], color=plot.GREY, label="square error")
ax.plot(
    steps, [square_error(s) for s in steps], "o", color=plot.BLUE, markersize=4, label="learned"
)
ax.annotate("min-max", (steps[0], square_error(steps[0])), (-60, 4), textcoords="offset points")
ax.set(xlabel="step", ylabel="mean square error", title="2,000 normal values at 3 bits")
ax.legend(frameon=False)
print(f"the search finds {best:.2f}, LSQ ends at {steps[-1]:.3f}")
assert abs(steps[-1] - best) < 0.06
plot.picture(
    fig,
    "Square error against step, a valley. Points of learned steps begin high at min-max and walk "
    "down to the bottom of the valley.",
)

# %% [markdown]
# ## 5. The loop
#
# **What does a training step look like?** As any other. `Learnable` names what is learned: weights,
# norms, biases, and for every grid the logarithm of its step (so that no step falls to 0), called
# `<site>@step`. Its `tap` rounds everything by the rules above while the float forward runs. The
# float model is the *teacher*: the loss is how far the class probabilities are from its own, both
# at *temperature* 2, of logits divided by 2. The labels are not used.
#
# Steps need a rate of their own: one number moves thousands of codes, and at the rate of a weight,
# 0.001, sixty steps of Adam change a logarithm by hardly more than 0.06. Three runs on the same
# images: from min-max ranges with steps held still, and with steps at thirty times the rate; and
# from the ranges of least square error, steps held.

# %%
layer = "blocks.0.mlp.fc1.weight"
source = refvit.sources.Shapes10()


def codes_of(learnable, params):
    return learnable.settled(params).qparams[layer].encode(params[layer]).astype(np.int64)


def train(learnable, faster, count=60, rate=1e-3):
    """Return the quantized model learned, losses [count] and codes [count, ...] of a layer."""
    state, losses, codes = fresh(learnable.tensors), [], []
    for k in range(count):
        batch = normalise(source.train(32 * k, 32, seed=0)[0])
        taught = model(batch)

        def loss(leaves, batch=batch, taught=taught):
            ops = FloatOps(learnable.tap(leaves), batch.dtype)
            return soft_distillation(forward(ops, batch, Params(leaves), model.config), taught, 2.0)

        value, grads = value_and_gradients(loss, state.params)
        grads, _ = clip_by_global_norm(grads, 1.0)
        moved = AdamW(decay=0.0).update(state, grads, warmup_cosine(k, count, 10, rate))
        times = {name: np.float32(faster if "@" in name else 1) for name in grads}
        params = {n: p + times[n] * (moved.params[n] - p) for n, p in state.params.items()}
        state = replace(moved, params=params)
        losses.append(value)
        codes.append(codes_of(learnable, params))
    return learnable.settled(state.params), losses, np.array(codes)


runs = {
    "min-max, steps held": train(Learnable(calibrated["min-max"]), faster=0),
    "min-max, steps learned": train(Learnable(calibrated["min-max"]), faster=30),
    "mse, steps held": train(Learnable(calibrated["mse"]), faster=0),
}

# %%
fig, ax = plt.subplots(figsize=(7.5, 4.2))
plot.losses({name: losses for name, (_, losses, _) in runs.items()}, ax)
ax.set(ylabel="distance from the teacher", title="nano_vit at w3a3, 60 steps", ylim=(0, None))
after = {name: top1(learned) for name, (learned, _, _) in runs.items()}
for name, accuracy in after.items():
    print(f"{name:<24}{reached[name.split(',')[0]]:6.1%} before, {accuracy:6.1%} after")
ends = {name: np.mean(losses[-10:]) for name, (_, losses, _) in runs.items()}
assert after["min-max, steps learned"] > after["min-max, steps held"] + 0.1
assert min(after["min-max, steps learned"], after["mse, steps held"]) > reached["mse"] + 0.1
assert ends["min-max, steps learned"] < 0.6 * ends["min-max, steps held"]
plot.picture(
    fig,
    "Losses of three trainings over 60 steps. From min-max ranges with steps held the loss stays "
    "above one; with learned steps it falls to less than two thirds of that, near the loss of a "
    "training that began at ranges of least square error.",
)

# %% [markdown]
# Sixty batches of 32 images take the model far above the best calibration. From bad ranges weights
# alone are not enough: steps that learn, or steps that were chosen well, are worth more than ten
# points. It is not done there; `refvit train --qat w3a3 --from nano_vit` goes on for longer.
#
# What was learned settles into codes like any other quantized model, and compiles to integers:

# %%
quantized, _, codes = runs["min-max, steps learned"]
integers = np.mean(refvit.compile(quantized)(pixels).argmax(1) == labels)
print(f"simulated {after['min-max, steps learned']:.1%}, in integers {integers:.1%}")
names = [f"blocks.{k}.norm1" for k in range(4)]
shares = [float(quantized.qparams[n].scale / start.qparams[n].scale) for n in names]
print("steps behind the first norms, of what min-max gave them:", np.round(shares, 2))
assert abs(integers - after["min-max, steps learned"]) < 0.05
assert max(shares) < 0.8

# %% [markdown]
# LSQ clips: the learned steps are little more than half of those that covered all that was seen.
#
# ## 6. Weights that do not settle
#
# **What does a weight do whose best value lies between two codes?** Let one weight learn the number
# 0.3 on a grid of whole numbers, by the gradient of $\frac12 (\lfloor w \rceil - 0.3)^2$, straight
# through. At code 0 the gradient is -0.3 and pushes up, at code 1 it is 0.7 and pushes down.
# Neither is ever 0.

# %%
fig, axs = plt.subplots(2, 1, figsize=(8, 4), sharex=True)
for ax, falls in zip(axs, (False, True), strict=True):
    w, trace = 0.1, []
    for k in range(120):
        w -= 0.08 * ((1 - k / 120) if falls else 1) * (np.rint(w) - 0.3)
        trace.append(w)
    ax.plot(trace, color=plot.BLUE, label="w")
    ax.step(
        range(120), np.rint(trace), where="mid", color=plot.LINES[1], linewidth=1, label="its code"
    )
    ax.axhline(0.5, color="black", linestyle=":", linewidth=1, label="border of two codes")
    ax.set(
        ylabel="a rate that falls" if falls else "a rate that stays",
        ylim=(-0.1, 1.1),
        yticks=(0, 0.5, 1),
    )
axs[0].legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
axs[1].set_xlabel("step")
plot.picture(
    fig,
    "A weight climbs to the border between two codes at one half and stays there, its code jumping "
    "between 0 and 1; with a falling rate it does the same in smaller steps.",
)

# %% [markdown]
# The weight hangs at the border, and its code goes to and fro (*oscillates*; Nagel et al. 2022,
# section 2). A rate that falls makes the swings smaller, but the last code is still drawn by lot.
# How much of its time does it spend at the upper one?

# %% exercise nb07.share_above

# %% [markdown]
# So straight-through is right on average, and at any one moment the code is a matter of chance. In
# the training above the rate fell to 0. This is how far the codes of one layer went, and how far
# they got:

# %%
path = np.abs(np.diff(codes, axis=0)).sum()
net = np.abs(codes[-1] - codes[0]).sum()
print(f"{layer}: {path:,} changes of a code in all, of which {path - net:,} led nowhere")
assert path > 1.2 * net

# %% [markdown]
# To see which weights do it, count how often each turned back.

# %% exercise nb07.turns_back

# %% [markdown]
# What damps them: a rate that falls, a running average of the weights, or a loss that pulls every
# weight to the middle of its cell (`Learnable.damping`; Nagel et al. 2022, section 4.1). A table
# in `weights/README.md` has what each is worth for this model.
#
# ## What to remember
#
# * The true slope of rounding is 0. Straight-through takes it for 1 in range and 0 where values are
#   clipped: a decision that works on average.
# * Finite differences tell a right backward from a wrong one, and refuse straight-through: know
#   where you left the truth.
# * LSQ's slope for a step is the rounding error inside and the end of the range outside, times
#   $1/\sqrt{n \cdot hi}$.
# * Steps that learn make up for bad ranges, which weights alone do not.
# * A weight whose best value lies between codes goes to and fro, with the right mean.
#
# **Papers.** Bengio, Leonard and Courville 2013 (straight-through); Esser et al. 2020 (LSQ);
# Bhalgat et al. 2020 (LSQ+, for zero points); Nagel et al. 2022 (oscillations); Hinton, Vinyals and
# Dean 2015 (distillation); Du, Gong and Chu 2024 (the survey this project follows).
