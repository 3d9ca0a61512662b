# %% [markdown]
# # Without any data
#
# **You will be able to** say what calibration takes from images, make a Vision Transformer draw
# images of its own when there are none, measure how real they are, and tell where they can stand in
# for data and where they cannot.
#
# You need notebooks 02 (grids) and 04 (calibration). About 45 minutes; it runs in half a minute.

# %%
import matplotlib.pyplot as plt
import numpy as np

import refvit
from refvit import plot
from refvit.quant import datafree, inject_outliers, prior_labels, quantize_model, round_weights

model = refvit.load("nano_vit")
normalise = model.preprocess.normalise
print(f"{model.config.depth} blocks, {len(model.labels)} classes: {', '.join(model.labels)}")

# %% [markdown]
# ## 1. What does calibration want from images?
#
# A grid of 8-bit codes needs a *range*: the least and the greatest value that it has to hold.
# *Calibration* finds it by running the model on some images and watching every *site*, a named
# value inside the model. But the images may be private, licensed, or lost; often the weights are
# all you are given. **What could you feed the model instead?**
#
# The cheapest answer is noise: independent draws from N(0, 1). The pixels of an image lie between
# -1, black, and 1, white. Noise ends nowhere. *Your turn:* how far does it reach?

# %% exercise nb08.noise_reach

# %%
real = normalise(refvit.data.shapes10("calibration", count=32)[0])
noise = np.random.default_rng(0).standard_normal(real.shape, np.float32)
print(f"{noise.size:,} values: the largest magnitude is {np.abs(noise).max():.2f}")
print(f"real pixels end at {np.abs(real).max():.2f}")

# %% [markdown]
# A grid for that input would spend three quarters of its codes on pixels that no image has. What of
# the sites further in? To put it in one number, take the share that two ranges have in common:
#
# $$\text{overlap}(a, b) = \frac{\text{length of what both cover}}
# {\text{length from the lower end to the higher end}}$$

# %% exercise nb08.range_overlap

# %% [markdown]
# `Record` is a *tap*: it keeps the value of every site. With it the ranges are two lines.


# %%
def overlap(a, b):
    both, whole = min(a[1], b[1]) - max(a[0], b[0]), max(a[1], b[1]) - min(a[0], b[0])
    return max(0.0, both / whole)


def ranges(pixels):
    record = refvit.ops.Record()
    model(pixels, tap=record)
    return {site: (float(v.min()), float(v.max())) for site, v in record.values.items()}


SITES = ["input", "embed", "blocks.0.add1", "blocks.1.mlp.fc2", "blocks.2.add2",
         "blocks.3.attn.context", "blocks.3.mlp.fc2", "blocks.3.add2", "head"]  # fmt: skip
of_real, of_noise = ranges(real), ranges(noise)
for site in SITES:
    print(f"{site:<22} overlap of noise with real {overlap(of_real[site], of_noise[site]):.0%}")

# %%
named = {"real": [of_real[s] for s in SITES], "noise": [of_noise[s] for s in SITES]}
fig, ax = plt.subplots(figsize=(8.5, 4.2))
plot.spans(named, SITES, ax)
assert of_noise["input"][1] > 3 * of_real["input"][1]
assert of_noise["blocks.3.add2"][0] > 0.75 * of_real["blocks.3.add2"][0]
plot.picture(
    fig,
    "Ranges of nine sites, real images and noise: at the input noise is more than four times "
    "as wide, behind the last block it is much narrower.",
)

# %% [markdown]
# Noise is too loud at the input and too quiet behind the last block: there, real images excite what
# the model has learned, and noise does not. Too wide a range costs precision, too narrow a one cuts
# off what matters. So the question becomes: **what tells a picture from noise, seen from inside the
# model?**
#
# ## 2. Patches that differ
#
# Inside an object patches look alike; across its edge they do not. In noise every patch is as good
# as any other. PSAQ-ViT (Li et al. 2022, section 3) looks at what attention gives for each patch,
# $x_i$, the heads averaged, and takes the cosine of every two:
#
# $$\Gamma_{ij} = \frac{x_i \cdot x_j}{\lVert x_i \rVert \, \lVert x_j \rVert}$$

# %% exercise nb08.patch_cosines


# %%
def cosines(context):
    patches = context.mean(0)[model.config.prefix_tokens :]
    unit = patches / np.linalg.norm(patches, axis=1, keepdims=True)
    return unit @ unit.T


def contexts(pixels):
    record = refvit.ops.Record()
    model(pixels, tap=record)
    return [record.values[f"blocks.{b}.attn.context"] for b in range(model.config.depth)]


last = {"real": cosines(contexts(real)[-1][5]), "noise": cosines(contexts(noise)[-1][5])}
fig, axs = plt.subplots(1, 3, figsize=(11, 3.3), width_ratios=[1, 1, 1.35], layout="constrained")
for ax, (name, gamma) in zip(axs, last.items(), strict=False):
    shown = ax.imshow(gamma, vmin=-1, vmax=1, cmap="cividis")
    ax.set(title=f"{name}: cosines of 64 patches", xlabel="patch", ylabel="patch")
fig.colorbar(shown, ax=axs[1])
for k, (name, gamma) in enumerate(last.items()):
    style = {"histtype": "step", "linewidth": 2, "linestyle": ("-", "--")[k]}
    axs[2].hist(gamma.ravel(), np.linspace(-1, 1, 41), color=plot.LINES[k], label=name, **style)
axs[2].set(title="how they are spread", xlabel="cosine", ylabel="pairs of patches")
axs[2].legend(frameon=False, loc="upper left")
plot.picture(
    fig,
    "Two matrices of cosines between 64 patches, of a real image with light and dark "
    "areas and of noise, evenly light; and their histograms, wide for the image and narrow for "
    "noise.",
)

# %% [markdown]
# The image has groups of patches; the noise is one group. How diverse are the cosines? *Entropy*
# says it in one number. With $p_k$ the share of the cosines in bin $k$ of a histogram,
#
# $$H = -\sum_k p_k \ln p_k$$

# %% exercise nb08.histogram_entropy


# %%
def entropy(values, bins=50):
    counts, _ = np.histogram(values, bins, range=(-1, 1))
    p = counts[counts > 0] / values.size
    return float(-np.sum(p * np.log(p)))


def by_block(pixels):
    return [float(np.mean([entropy(cosines(c)) for c in found])) for found in contexts(pixels)]


table = {"real": by_block(real), "noise": by_block(noise)}
print("mean entropy    " + "".join(f"block {b}  " for b in range(4)))
for name, found in table.items():
    print(f"{name:<14}" + "".join(f"{h:9.2f}" for h in found))
assert table["real"][3] > table["noise"][3] + 0.4
assert all(abs(a - b) < 0.35 for a, b in zip(table["real"][:3], table["noise"][:3], strict=True))

# %% [markdown]
# In this small model the first three blocks cannot tell the two; the last one can. So a loss that
# rewards entropy pulls away from noise. What does it pull towards? **Which histogram has the
# greatest entropy?** Put it as a property: a statement that is true of every right function, and
# that some counts refute for a wrong one.

# %% exercise nb08.even_is_greatest

# %% [markdown]
# Why an even spread wins: $\ln$ bends downwards, so the mean of $\ln (1/p)$ is at most the $\ln$ of
# the mean of $1/p$, which is $\ln n$ (Jensen), with equality where all $p$ are the same.
#
# **A histogram has no slope.** Move a value a little and it stays in its bin: nothing to learn
# from. PSAQ-ViT therefore puts a small bell around every cosine, a *kernel density*, and takes the
# entropy of that at ten points (section 3; width $h = 0.01$):
#
# $$\hat p(x) = \frac{1}{M} \sum_i \frac{1}{h\sqrt{2\pi}} \,e^{-(x - \Gamma_i)^2 / 2h^2},
# \qquad H \approx -\sum_k \hat p(x_k) \ln \hat p(x_k) \, \Delta x$$

# %%
gamma = last["real"].ravel()
points = np.linspace(gamma.min(), gamma.max(), 10)
fine = np.linspace(gamma.min() - 0.03, 1.03, 1500)


def density(x):
    bells = np.exp(-((x[:, None] - gamma) ** 2) / (2 * 0.01**2))
    return bells.mean(1) / (0.01 * np.sqrt(2 * np.pi))


fig, ax = plt.subplots(figsize=(8.5, 3))
ax.plot(fine, density(fine), color=plot.BLUE, label="kernel density, h = 0.01")
ax.plot(points, density(points), "o", color=plot.LINES[1], label="where it is read: ten points")
ax.set(xlabel="cosine", ylabel="density")
ax.legend(frameon=False)
assert np.diff(points)[0] > 5 * 0.01
plot.picture(
    fig,
    "The kernel density of the cosines of a real image, a jagged curve, and the ten points at "
    "which it is read, far further apart than the bells are wide.",
)

# %% [markdown]
# Look at the points: they are several bell widths apart, so what lies between two of them is not
# seen. It is a coarse measure, and it shows:

# %%
coarse = {}
for name, pixels in (("real", real), ("noise", noise)):
    coarse[name], _ = datafree.patch_entropy(model, pixels)
    print(f"entropy at ten points, all blocks, {name:<6}{float(coarse[name]):6.2f}")
assert coarse["noise"] > coarse["real"] + 1

# %% [markdown]
# The figures are below 0: a share is at most 1, but a density may be more, and then $-p \ln p$ is
# negative. Only their order counts. By this measure *noise* is the more diverse! `shapes10` has
# plain backgrounds, whose patches are all but equal; the peak at 1 lies right on the last point
# and counts for its whole interval. On photographs, and with large models, the paper reports the
# opposite. A loss is only a means: whether it helps is decided by what comes out.
#
# ## 3. The other two terms
#
# Entropy alone gives patterns that look like nothing. The paper has two more terms:
#
# * **a class**: each image is given a label, and *cross-entropy* is low when the model is sure of
#   it;
# * **smoothness**: the *total variation* $V$, how unlike neighbouring pixels are, is drawn to a
#   value $V^*$ that photographs have.
#
# $$L = -H \; + \; \text{CE}(\text{class}) \; + \; 0.05 \, \lvert V - V^* \rvert$$

# %% exercise nb08.four_variations

# %%
variation = {
    name: float(datafree.total_variation(p)) for name, p in (("real", real), ("noise", noise))
}
scale = datafree.smooth_scale(model.preprocess, real.shape)
wanted = [v * scale for v in datafree.SMOOTH]
print(f"V of {len(real)} images: real {variation['real']:.0f}, noise {variation['noise']:.0f}")
print(f"wanted, the paper's 2500 to 3000 brought to 32 x 32: {wanted[0]:.0f} to {wanted[1]:.0f}")
assert variation["noise"] > 4 * wanted[1]
assert variation["real"] > wanted[1]

# %% [markdown]
# `shapes10`, whose images have sensor noise, is rougher than photographs. Without data one cannot
# know that, so the paper's value has to do.
#
# ## 4. Noise learns to be images
#
# All of $L$ has a gradient with respect to the *pixels*. The weights stay; the image is trained, by
# Adam, from N(0, 1): in each step it is shifted and mirrored at random, so that it looks right
# anywhere, and clipped to what a screen can show. The released code takes 1,000 steps; here 240
# must do.

# %%
made = {steps: datafree.synthesize(model, 16, seed=0, steps=steps) for steps in (2, 40, 240)}
synthetic = made[240]
labels = prior_labels(model, 16, seed=0)
for steps, pixels in made.items():
    found = model(pixels)
    sure = np.mean(found.argmax(1) == labels)
    h, _ = datafree.patch_entropy(model, pixels)
    print(f"{steps:>4} steps: entropy {float(h):5.2f}, {sure:4.0%} classified as meant")

# %%
images = {f"{steps} steps": model.preprocess.images(p[:6]) for steps, p in made.items()}
fig, ax = plt.subplots(figsize=(6.4, 3.3))
plot.gallery(images, ax)
ax.set_title("meant as: " + ", ".join(model.labels[k] for k in labels[:6]), fontsize=10)
assert float(h) > float(coarse["noise"]) + 1
assert sure > 0.2
plot.picture(
    fig,
    "Six images after 2, 40 and 240 steps: noise at first, then soft coloured blotches, in which "
    "a person hardly sees the shapes that the model sees.",
)

# %% [markdown]
# Images that a run cannot make again are no basis for a comparison. A generator takes a *seed*, and
# is a function of it. Write that as a property too; a faulty one may differ in the last bit only.

# %% exercise nb08.is_reproducible

# %%
first, again, other = (datafree.synthesize(model, 2, seed, steps=4) for seed in (3, 3, 4))
print("same seed, same bytes:", first.tobytes() == again.tobytes())
print("another seed, the same:", first.tobytes() == other.tobytes())
assert first.tobytes() == again.tobytes() != other.tobytes()

# %% [markdown]
# On one machine, that is. The sums of a gradient are rounded differently by another BLAS, and a
# hundred steps enlarge it: keep the images, not only the seed.
#
# Now the picture of this notebook: what was made, beside what it replaces, and the ranges that each
# leads to.

# %%
kinds = {"real": real[:16], "synthesised": synthetic, "noise": noise[:16]}
found = {name: ranges(pixels) for name, pixels in kinds.items()}
common = {
    name: np.mean([overlap(found["real"][s], found[name][s]) for s in SITES]) for name in kinds
}
fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
plot.gallery({n: model.preprocess.images(p[:4]) for n, p in kinds.items()}, left)
left.set_title("four of sixteen images of each kind")
plot.spans({n: [found[n][s] for s in SITES] for n in kinds}, SITES, right)
left.set_xlabel(
    "mean overlap with the ranges of real images\n"
    f"synthesised {common['synthesised']:.0%}, noise {common['noise']:.0%}",
    fontsize=12,
)
assert common["synthesised"] > common["noise"]
plot.picture(
    fig,
    "Left, rows of real images, synthesised ones and noise. Right, the ranges of nine "
    "sites: those of synthesised images agree with real ones at the input and come nearer than "
    "noise in most places.",
)

# %% [markdown]
# ## 5. Do they help?
#
# **Calibrate** on each kind: min-max ranges, `w4a8` (4-bit weights, 8-bit activations), the model
# with three outlier channels in every LayerNorm (notebook 05), so that ranges matter. Then let the
# images do more: GPTQ also **learns** from them how to round weights, as it reads which inputs come
# together.

# %%
worse = inject_outliers(model, 16)
test_images, truth = refvit.data.shapes10("test", count=1000, seed=0)
test = normalise(test_images)
right = {"float": np.mean(worse(test).argmax(1) == truth)}
print(f"float {right['float']:.1%} of {len(truth):,} test images\n{'':<14}min-max   GPTQ")
for name, pixels in kinds.items():
    start = quantize_model(worse, pixels, "w4a8")
    both = (start, round_weights(start, pixels, "gptq"))
    right[name] = [np.mean(q(test).argmax(1) == truth) for q in both]
    print(f"{name:<14}{right[name][0]:7.1%}{right[name][1]:7.1%}")
assert right["synthesised"][1] > right["noise"][1] + 0.005
assert right["noise"][1] > right["noise"][0] + 0.01

# %% [markdown]
# Sixteen images, one seed, a thousand tests: a point more or less is chance. GPTQ, which only needs
# to know which inputs are large together, gains from every kind, from noise the least. Longer runs
# say it more surely. `tests/benchmarks/bench_datafree.py`
# took 500 steps and 4,000 test images: min-max on 32 images with four seeds, and *reconstruction*,
# which learns scales, weights and biases, on 128 images with two. These figures were recorded (in
# `weights/README.md`), not computed here:

# %%
recorded = {  # top-1 in percent, w4a8: calibrated, reconstructed
    "real": (85.14, 89.67),
    "synthesised": (85.47, 87.39),
    "synthesised,\nno entropy": (85.35, 87.59),
    "noise": (84.42, 79.55),
}
fig, ax = plt.subplots(figsize=(8.5, 3.2))
for k, (before, after) in enumerate(recorded.values()):
    ax.annotate("", (after, k), (before, k), arrowprops={"arrowstyle": "->", "color": plot.GREY})
    ax.annotate(f"{after - before:+.1f}", ((after + before) / 2, k - 0.12), ha="center")
for k, (what, marker) in enumerate({"calibrated": "o", "reconstructed": "s"}.items()):
    values = [pair[k] for pair in recorded.values()]
    ax.plot(values, range(4), marker, color=plot.LINES[k], markersize=9, label=what)
ax.set_yticks(range(4), recorded, fontsize=10)
ax.set(xlabel="top-1, percent (recorded)", ylim=(3.5, -0.5), xlim=(78, 92))
ax.grid(axis="x", alpha=0.3)
ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
plot.picture(
    fig,
    "Recorded accuracy by kind of image. Calibrated, all kinds are within about a point; "
    "reconstructed, real images give the most, synthesised ones two points less, and noise ten.",
)

# %%
real_gain, _, _, noise_gain = (after - before for before, after in recorded.values())
lost = recorded["real"][1] - recorded["synthesised"][1]
ahead = recorded["synthesised"][1] - recorded["noise"][1]
print(f"reconstruction on real images: {real_gain:+.1f} points; on noise: {noise_gain:+.1f}")
print(f"synthesised images: {ahead:.1f} points ahead of noise, {lost:.1f} behind real ones")
print(f"entropy in the loss: {recorded['synthesised'][1] - 87.59:+.1f} points")

# %% [markdown]
# Read it so. **For ranges alone** they are as good as real images, and noise is only a point
# behind: even its wrong ranges hold most of what comes. **To learn scales and weights from**, noise
# is worse than nothing, since the model is taught to be right on what it will never see;
# synthesised images win some points, yet real ones stay ahead. And the entropy, the heart of the
# paper, made no difference that could be told from chance for *this* model and data, as section 2
# let us expect. It may for large models and photographs, where PSAQ-ViT reports its gains.
#
# ## What to remember
#
# * Calibration takes ranges from images. Noise has the wrong ones: too wide first, too narrow last.
# * A ViT holds knowledge of its data, and a gradient on pixels gets some of it out.
# * Entropy is greatest on an even spread; as a loss it needs a density, and ten points are coarse.
# * A measure that ranks noise above pictures is worth knowing about before it is optimised.
# * Made images serve for ranges; the more a method learns from images, the more real ones are
#   worth.
#
# **Papers.** Li, Ma, Chen, Xiao and Gu 2022 (PSAQ-ViT); Frantar et al. 2023 (GPTQ); Li et al. 2021
# (BRECQ, reconstruction); Du, Gong and Chu 2024 (the survey this project follows).
