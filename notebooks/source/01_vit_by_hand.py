# %% [markdown]
# # A ViT by hand
#
# **You will be able to** write the forward of a Vision Transformer in thirty lines of NumPy that
# agree with a trained model; say what each line is for; follow attention from the answer back to
# the image; and say what DeiT and Swin change, and what that costs.
#
# You need to know matrix products, and no notebook before this one; [the tour](00_tour.ipynb) shows
# where it leads. About 75 minutes with the nine exercises. What is quantized later are exactly the
# values that you meet here.

# %%
import matplotlib.pyplot as plt
import numpy as np

import refvit
from refvit import explain, plot
from refvit.models import variant, workload_records
from refvit.ops import FloatOps
from refvit.ops import functional as F

model = refvit.load("nano_vit")
p, config = model.params, model.config
images, labels = refvit.data.shapes10("test", count=500, seed=0)
pixels = model.preprocess.normalise(images)
trace = model.trace(pixels[:8])  # every value of a forward on eight images, by name
rearrange = FloatOps().rearrange  # moves axes as a pattern says

# %% [markdown]
# ## 1. An image as a set of tokens
#
# **How does an image become something that a transformer can read?** A transformer works on a list
# of vectors, its *tokens*. So the image [C, H, W] (channels, height, width) is cut into squares of
# $P \times P$ pixels, the *patches*, and the pixels of each are written as one row. That gives
# $N = HW / P^2$ rows of $P^2 C$ numbers (Dosovitskiy et al. 2021, section 3.1).

# %%
image = images[23]
tokens = rearrange(pixels[23], "c (y i) (x j) -> (y x) (c i j)", i=4, j=4)
assert tokens.shape == (64, 48)
chosen = 27  # counted from 0, as tokens are

fig, axs = plt.subplots(1, 3, figsize=(11.5, 4.4), width_ratios=(1, 0.3, 1.1))
plot.token_grid(image, (4, 4), first=0, ax=axs[0]).set_title("1. cut into 64 patches")
y, x = 4 * (chosen // 8), 4 * (chosen % 8)
axs[0].add_patch(plt.Rectangle((x - 0.5, y - 0.5), 4, 4, fill=False, color="black", linewidth=3))
axs[1].imshow(image[y : y + 4, x : x + 4])
axs[1].set(xticks=[], yticks=[], title=f"2. patch {chosen}")
axs[2].imshow(tokens, aspect="auto", cmap="cividis", interpolation="nearest")
axs[2].annotate(
    f"patch {chosen}", (47.5, chosen), (49, chosen), va="center", arrowprops={"arrowstyle": "->"}
)
for k, name in enumerate(("red", "green", "blue")):
    axs[2].text(16 * k + 7.5, -1.3, name, ha="center")
axs[2].set(xlabel="48 numbers: 16 of each channel", ylabel="token", yticks=range(0, 64, 9))
axs[2].set_title("3. a row each: 64 tokens", pad=20)
fig.tight_layout()
plot.picture(
    fig,
    "A heart cut into 8 by 8 numbered patches, one of them enlarged, and the matrix of 64 tokens "
    "by 48 numbers in which that patch is one row.",
)

# %% [markdown]
# **Your turn.** With reshape and transpose alone; `rearrange` above does the same. The second
# exercise is the way back: if there is one, nothing was lost.

# %% exercise nb01.patchify

# %% exercise nb01.unpatchify

# %%
back = rearrange(tokens, "(y x) (c i j) -> c (y i) (x j)", y=8, i=4, j=4)
assert np.array_equal(back, pixels[23])  # a bijection: every pixel once, and in its place
counted = rearrange(np.arange(3 * 32 * 32).reshape(3, 32, 32), "c (y i) (x j) -> (y x) (c i j)",
                    i=4, j=4)  # fmt: skip
assert np.array_equal(np.sort(counted, axis=None), np.arange(3072))
print("the first token holds pixels", counted[0, :6], "... of the first channel")

# %% [markdown]
# Then three small things (equation 1 of the paper): a linear layer $E$ takes each row to the width
# $D$ of the model; a learned *class token* is put before them, which has no pixels and will gather
# the answer; and a learned vector for every place, the *position embedding*, is added.
#
# $$z_0 = [x_{class};\ x_1 E;\ \ldots;\ x_N E] + E_{pos}$$


# %%
def linear(x, layer):
    return x @ layer.weight.T + layer.bias


def embed(pixels, places=p.pos_embed, order=slice(None)):
    x = rearrange(pixels, "b c (y i) (x j) -> b (y x) (c i j)", i=4, j=4)
    x = linear(x, p.patch_embed)[:, order]  # `order` is for an experiment below
    first = np.broadcast_to(p.cls_token, (len(x), 1, config.width))
    return np.concatenate([first, x], axis=1) + places


def near(found, expected):
    """Whether two arrays agree to a few units of float32."""
    return np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


assert near(embed(pixels[:8]), trace["embed"])
print("by hand as in the model:", embed(pixels[:8]).shape)

# %% [markdown]
# Nothing told the model that patch 2 lies beside patch 1. It had to learn that. How alike are the
# embeddings of two places? (Dosovitskiy et al. 2021, figure 7, shows this for ViT-L.)

# %%
places = p.pos_embed[0, 1:] - p.pos_embed[0, 1:].mean(0)
unit = places / np.linalg.norm(places, axis=1, keepdims=True)
alike = (unit @ unit.T).reshape(8, 8, 8, 8)
beside = np.mean([alike[y, x, y, x + 1] for y in range(8) for x in range(7)])
across = np.mean([alike[y, x, 7 - y, 7 - x] for y in range(8) for x in range(8)])
print(f"mean cosine of all pairs {alike.mean():.2f}, of neighbours in a row {beside:.2f}", end=", ")
print(f"of places across the centre {across:.2f}")
assert min(beside, across) > alike.mean() + 0.2

fig, axs = plt.subplots(1, 4, figsize=(12, 3.1))
for ax, (y, x) in zip(axs, ((1, 1), (1, 6), (4, 3), (6, 6)), strict=True):
    shown = ax.imshow(alike[y, x], cmap="cividis", vmin=-0.6, vmax=1)
    ax.plot(x, y, "s", color="white", markersize=9, markeredgecolor="black")
    ax.set(title=f"row {y}, column {x}", xticks=[], yticks=[])
fig.colorbar(shown, ax=axs, label="cosine", shrink=0.9)
plot.picture(
    fig,
    "For four places, marked by squares, how alike the position embeddings of all 64 places are: "
    "the most alike lie around the place, and around its mirror image across the centre.",
)

# %% [markdown]
# The model has found out what lies together. It also takes a place and the one across the centre
# for alike, and it may: the shapes come in all rotations. Nothing but data made this matrix.
#
# ## 2. Attention
#
# **How do tokens exchange what they know?** Each one asks and each one answers. Three linear layers
# make a *query* $q$, a *key* $k$ and a *value* $v$ of every token. The product of token $i$'s query
# with token $j$'s key is the *score*; softmax makes the scores of a row positive and sum to 1; with
# these weights token $i$ takes a mean of all values (Vaswani et al. 2017, equation 1):
#
# $$\mathrm{attention}(q, k, v) = \mathrm{softmax}\!\left(\frac{q k^T}{\sqrt d}\right) v, \qquad
# \mathrm{softmax}(s)_j = \frac{e^{s_j}}{\sum_n e^{s_n}}$$
#
# Why $\sqrt d$? A product of two vectors of $d$ independent numbers of deviation 1 has deviation
# $\sqrt d$, and a softmax of large scores is all or nothing.

# %%
draw = np.random.default_rng(0)
for d in (4, 64, 1024):
    scores = draw.standard_normal((100, d)) @ draw.standard_normal((d, 65))
    top = [F.softmax(s).max(1).mean() for s in (scores, scores / np.sqrt(d))]
    print(f"d = {d:>4}: deviation {scores.std():5.1f}, greatest weight {top[0]:.2f}", end="")
    print(f", with the root {top[1]:.2f}")
    assert abs(scores.std() / np.sqrt(d) - 1) < 0.2

# %% exercise nb01.attention_head

# %% [markdown]
# A model has several *heads*: the width is cut into equal parts, each with an attention of its
# own, and a last linear layer mixes what they found. Here are the four of `nano_vit`.


# %%
def attention(x, layer, heads=config.heads):
    q, k, v = (rearrange(linear(x, layer[name]), "b n (h d) -> b h n d", h=heads) for name in "qkv")
    weights = F.softmax(q @ k.swapaxes(2, 3) / np.float32(np.sqrt(q.shape[-1])))
    return linear(rearrange(weights @ v, "b h n d -> b n (h d)"), layer.proj)


block = p.blocks[0]
assert near(attention(trace["blocks.0.norm1"], block.attn), trace["blocks.0.attn.proj"])
weights = trace["blocks.0.attn.softmax"]
print("weights [images, heads, queries, keys]:", weights.shape)
assert np.allclose(weights.sum(-1), 1, atol=1e-5)

# %% [markdown]
# Look at the formula again: where does it say which token comes first? Nowhere. If the tokens are
# shuffled, the results are shuffled in the same way and are otherwise the same. The word is
# *permutation-equivariant*.
#
# **Your turn** to write a law. The check runs your property on layers for which it is true, and
# then on faulty ones, each of which it has to refuse.

# %% exercise nb01.permutes_along

# %% [markdown]
# ## 3. The whole forward
#
# A *block* is attention of several heads (multi-head self-attention, MSA) and an *MLP*, two linear
# layers with GELU between them, which work on each token alone. Each of the two reads a normalised
# copy of the tokens and *adds* its result (equations 2 and 3; the sum that all blocks add to is the
# *residual stream*). At the end a linear layer reads the class token (equation 4). It is called
# *the head*, and has nothing but the name in common with the heads of attention.
#
# $$z' = z + \mathrm{MSA}(\mathrm{LN}(z)), \qquad z'' = z' + \mathrm{MLP}(\mathrm{LN}(z'))$$
#
# LayerNorm (LN) takes each token's mean off and divides by its deviation (`eps` keeps a deviation
# of 0 harmless); a learned factor and a learned offset follow. GELU is a smooth step that
# multiplies: $x\,\Phi(x)$, with the normal distribution function $\Phi$.


# %%
def norm(x, layer, eps=config.eps):
    centred = x - x.mean(-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(eps))
    return centred / spread * layer.weight + layer.bias


def forward(pixels, places=p.pos_embed, order=slice(None)):
    z = embed(pixels, places, order)
    for i in range(config.depth):
        block = p.blocks[i]
        z = z + attention(norm(z, block.norm1), block.attn)
        hidden = F.gelu(linear(norm(z, block.norm2), block.mlp.fc1))
        z = z + linear(hidden, block.mlp.fc2)
    return linear(norm(z[:, 0], p.norm), p.head)


logits, expected = forward(pixels), model(pixels)
error = np.abs(logits - expected).max()
print(f"by hand against the model: largest difference {error:.1e} of {np.abs(expected).max():.1f}")
print("same class for all 500 images:", np.array_equal(logits.argmax(1), expected.argmax(1)))
assert error < 1e-3
print(f"top-1 accuracy {np.mean(logits.argmax(1) == labels):.1%}")

# %% [markdown]
# That is all of ViT. Its size and its work follow from the shapes: a product of [M, K] by [K, N]
# takes $M K N$ multiply-accumulates (MACs). The same forward, run on shapes, counts them; beside
# it, what the papers say.

# %%
published = {"vit_base": ("86M", ""), "deit_small": ("22M", "4.6G"), "swin_small": ("50M", "8.7G")}
print(f"{'':<12}{'parameters':>12}{'published':>11}{'MACs':>16}{'published':>11}")
for name, (parameters, macs) in published.items():
    records = workload_records(variant(name))
    count, work = sum(r.params for r in records), sum(r.macs for r in records)
    print(f"{name:<12}{count:>12,}{parameters:>11}{work:>16,}{macs:>11}")
    assert count / 1e6 - int(parameters[:-1]) < 0.6  # one is cut, the others are rounded
    assert not macs or f"{work / 1e9:.1f}G" == macs

# %% [markdown]
# Dosovitskiy et al. 2021 (table 1) write 86M where 87M would be nearer; the other two lines are
# from Liu et al. 2021 (table 1), whose "FLOPs" are MACs.
#
# Now the experiment that section 2 called for. Shuffle the 64 patches, all images in the same way:
# once with position embeddings, once without.

# %%
order = np.random.default_rng(1).permutation(64)
none = np.zeros_like(p.pos_embed)
for title, given in (("with places", p.pos_embed), ("without", none)):
    plain, shuffled = forward(pixels, given), forward(pixels, given, order)
    right = [np.mean(found.argmax(1) == labels) for found in (plain, shuffled)]
    change = np.abs(plain - shuffled).max()
    print(f"{title:<12} in order {right[0]:.1%}, shuffled {right[1]:.1%}", end=", ")
    print(f"largest change of a logit {change:.1e}")
    assert (change < 1e-3) == (title == "without")

whole = rearrange(images[[3, 12, 35]], "b (y i) (x j) c -> b (y x) i j c", i=4, j=4)
mixed = rearrange(whole[:, order], "b (y x) i j c -> b (y i) (x j) c", y=8)
fig, axs = plt.subplots(1, 6, figsize=(11, 2.2))
for k, ax in enumerate(axs):
    ax.imshow((images[[3, 12, 35]], mixed)[k % 2][k // 2], interpolation="nearest")
    ax.set(xticks=[], yticks=[], title=("image", "shuffled")[k % 2])
plot.picture(fig, "Three images, and beside each the same patches in another order.")

# %% [markdown]
# Without places the order changes nothing but last digits: such a model sees a bag of patches. (It
# is bad at that, as it was trained with places.) What a ViT knows of how patches lie is in one
# learned matrix of 65 rows.
#
# ## 4. Where does it look?
#
# **Which patches did the answer come from?** The last block's attention of the class token is no
# good answer: its tokens have been mixed by the blocks before. *Rollout* follows the mixing (Abnar
# and Zuidema 2020). The residual connection adds what a token had to what it takes, so block $l$
# mixes by $\hat A_l = (A_l + I) / 2$, with $A_l$ the mean of its heads, and all of them by the
# product
#
# $$R = \hat A_L \cdots \hat A_2 \hat A_1$$

# %% exercise nb01.rollout

# %%
shown = [3, 12, 23, 39, 29]
weights = explain.attention_weights(model, pixels[shown])
rolled = explain.attention_rollout(weights)[:, 0, 1:].reshape(-1, 8, 8)
last = weights[-1].mean(1)[:, 0, 1:].reshape(-1, 8, 8)
itself = explain.attention_rollout(weights)[:, 0, 0].mean()
print(f"{itself:.0%} of the class token at the end is itself; colours share out the rest, each")
print("picture's from 0 to its greatest share")

fig, axs = plt.subplots(3, 5, figsize=(9.5, 6))
for k, which in enumerate(shown):
    axs[0, k].imshow(images[which], interpolation="nearest")
    axs[0, k].set_title(model.labels[labels[which]])
    plot.heat(last[k], images[which], axs[1, k])
    plot.heat(rolled[k], images[which], axs[2, k])
for ax, name in zip(axs[:, 0], ("image", "last block", "rollout"), strict=True):
    ax.set_ylabel(name, fontsize=12)
for ax in axs.flat:
    ax.set(xticks=[], yticks=[])
fig.tight_layout()
plot.picture(
    fig,
    "Five images; below each the attention of the class token in the last block, a few bright "
    "patches, and its rollout through all blocks, which covers the shape more evenly.",
)

# %% [markdown]
# Rollout is a summary of weights, not a proof of what mattered: it knows nothing of the values, nor
# of the MLPs.
#
# ## 5. DeiT: a second token
#
# **Can a ViT learn from another network?** DeiT (Touvron et al. 2021, section 4) adds a
# *distillation token* beside the class token. It takes part in all blocks, has a head of its own,
# and in training that head is asked for what a teacher network says, while the class token's is
# asked for the label. Afterwards the two heads' results are averaged. Nothing else changes.

# %% exercise nb01.deit_extra

# %%
deit = refvit.load("nano_deit")
seen = deit.trace(deit.preprocess.normalise(images))
assert seen["embed"].shape[1] == 64 + 2
mean = (seen["head"] + seen["head_dist"]) / 2
assert near(mean, seen["heads_mean"])
for name in ("head", "head_dist", "heads_mean"):
    print(f"{name:<11} top-1 {np.mean(seen[name].argmax(1) == labels):.1%}")
agree = np.mean(seen["head"].argmax(1) == seen["head_dist"].argmax(1))
print(f"the two heads agree on {agree:.1%} of the images")
assert agree > 0.9

# %% [markdown]
# ## 6. Swin: attention in windows
#
# **What if the image has many more patches?** In a ViT every token meets every other: twice the
# side, four times the tokens, sixteen times the scores. Swin (Liu et al. 2021) cuts the grid of
# tokens into windows of $M \times M$ and lets tokens meet inside their window only. (Its blocks
# come in *stages*, each on a coarser grid than the one before; Swin-T is the smallest published.)
# For a grid $h \times w$ of width $C$ (equations 1 and 2 of the paper; W-MSA is MSA in windows):
#
# $$\Omega(\mathrm{MSA}) = 4\,hw\,C^2 + 2\,(hw)^2\,C, \qquad
# \Omega(\mathrm{W\text{-}MSA}) = 4\,hw\,C^2 + 2\,M^2\,hw\,C$$
#
# Do not believe it: say where each of the six products is in it.

# %% exercise nb01.window_macs

# %%
sides = np.array([7, 14, 28, 56, 112])
work = {}
for name, window in (("all tokens meet", None), ("windows of 7 x 7", 7)):
    met = sides**2 if window is None else np.full(len(sides), window**2)
    work[name] = 4 * sides**2 * 96**2 + 2 * sides**2 * met * 96
ratio = work["all tokens meet"] / work["windows of 7 x 7"]
print(f"at 56 x 56 tokens of width 96, Swin-T's first stage: {ratio[3]:.0f} times the work")
assert ratio[0] == 1

fig, ax = plt.subplots(figsize=(6.5, 3.8))
for (name, macs), style in zip(work.items(), ("s--", "o-"), strict=True):
    colour = plot.GREY if style == "s--" else plot.BLUE
    ax.plot(sides, macs, style, color=colour, linewidth=2, label=name)
ax.set(xscale="log", yscale="log", xlabel="side of the grid, tokens", ylabel="MACs of attention")
ax.set_xticks(sides, [str(n) for n in sides])
ax.minorticks_off()
ax.grid(alpha=0.3)
ax.legend(frameon=False)
plot.picture(
    fig,
    "Multiply-accumulates over the side of the grid, both axes logarithmic: attention of all "
    "tokens grows with the fourth power in the end, attention in windows with the second.",
)

# %% [markdown]
# The price: a token never meets its neighbour across a border. So every other block *shifts* the
# windows by half their side. Instead of cutting odd windows at the edges, Swin rolls the grid up
# and left, cyclically, and cuts regular ones. Then tokens from two sides of the image share a
# window, and a *mask* keeps them apart (section 3.2, figure 4). Where the mask is true, $-100$ is
# added to the score, which leaves no weight to speak of; `refvit` leaves exactly 0.
#
# The picture has the masks of the trained `nano_swin`, in the second block of its second stage:
# dark is where a weight is exactly 0. Then it is your turn to make them, and to count.

# %%
swin = refvit.load("nano_swin")
flow = swin.trace(swin.preprocess.normalise(images[:8]))
apart = flow["stages.1.blocks.1.attn.softmax"][:4, 0] == 0  # the windows of one image, one head

fig = plt.figure(figsize=(11.5, 4.8))
spec = fig.add_gridspec(2, 4, width_ratios=(2, 2, 1, 1), wspace=0.15, hspace=0.35)
titles = "one block: windows of 4 x 4", "the next: rolled by 2, then cut"
for k, title in enumerate(titles):
    ax = plot.windows((8, 8), 4, 2 * k, first=0, ax=fig.add_subplot(spec[:, k]))
    ax.set_title(title)
ax.set_xlabel("came round from the left: hatched,\nfrom the top: dotted, from both: crossed")
for k, name in enumerate(("top left", "top right", "bottom left", "bottom right")):
    ax = plot.pairs(apart[k], fig.add_subplot(spec[k // 2, 2 + k % 2]))
    ax.set_title(f"{name}\n{apart[k].sum()} of 256 dark", fontsize=10)
    ax.set(xlabel="key" if k > 1 else "", ylabel="" if k % 2 else "query")
assert [int(m.sum()) for m in apart] == [0, 128, 128, 192]
plot.picture(
    fig,
    "Two grids of 8 by 8 numbered tokens, before and after rolling by 2; tokens that came round an "
    "edge are marked. Right, the masks of the four windows: none, halves, halves, four parts.",
)

# %% exercise nb01.window_mask

# %% exercise nb01.pairs_apart

# %% [markdown]
# One thing more: Swin has no position embedding. Each head has a table with a number for every
# *offset* between two tokens of a window, and adds it to their score (equation 4). In a window of
# $M \times M$ there are $(2M - 1)^2$ offsets. That shifted block, by hand:

# %%
at = "stages.0.blocks.1"
layer, M = swin.params[f"{at}.attn"], 4
z = rearrange(flow[f"{at}.norm1"], "b (y x) c -> b y x c", y=16)
z = np.roll(z, (-2, -2), axis=(1, 2))
z = rearrange(z, "b (y i) (x j) c -> (b y x) (i j) c", i=M, j=M)
q, k, v = (rearrange(linear(z, layer[n]), "b n (h d) -> b h n d", h=2) for n in "qkv")
scores = q @ k.swapaxes(2, 3) / np.float32(np.sqrt(q.shape[-1]))

y, x = np.indices((M, M)).reshape(2, -1)
down, across = y[:, None] - y + M - 1, x[:, None] - x + M - 1  # from 0 to 2M - 2
scores = scores + layer.bias_table[down * (2 * M - 1) + across].transpose(2, 0, 1)
assert layer.bias_table.shape == ((2 * M - 1) ** 2, 2)

found, expected = F.softmax(scores), flow[f"{at}.attn.softmax"]
whole = [w for w in range(16) if not (expected[w] == 0).any()]  # windows that no mask cuts
print(f"{len(whole)} of 16 windows of an image need no mask; there by hand as in the model:",
      near(found[whole], expected[whole]))  # fmt: skip
assert len(whole) == 9
assert near(found[whole], expected[whole])
for stage in swin.config.stages:
    side = stage.window[0] * 32 // stage.grid[0]
    print(f"grid {stage.grid}, width {stage.width}: a window of 4 x 4 tokens spans {side} pixels")

# %% [markdown]
# Between stages, four neighbours are merged to one token of twice the width, so that the same
# window sees twice as far, as the last lines say.
#
# ## What to remember
#
# * Patches are a bijection: a ViT begins by losing nothing, not even what it cannot use.
# * Attention is a mean of values, weighted by softmax of scores; it sees a set, and only the
#   position embedding makes an image of it.
# * A block adds to the residual stream twice: what tokens take from others, and what each makes of
#   it alone.
# * Rollout multiplies (A + I) / 2 through the blocks, the later one on the left.
# * DeiT adds a token, its place and a head; Swin adds windows, a mask and a table of offsets.
# * Windows make attention linear in the number of tokens.
#
# **Papers.** Vaswani et al. 2017 (attention); Dosovitskiy et al. 2021 (ViT); Touvron et al. 2021
# (DeiT); Liu et al. 2021 (Swin); Abnar and Zuidema 2020 (rollout); Ba et al. 2016 (LayerNorm);
# Hendrycks and Gimpel 2016 (GELU).
