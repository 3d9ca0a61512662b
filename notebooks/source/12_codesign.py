# %% [markdown]
# # Co-design, the capstone
#
# **You will be able to** choose a machine and a number format together: find where time and energy
# go, sweep both, read a Pareto front, and defend a design of your own by measurements.
#
# You need notebooks 06 (recipes, accuracy) and 11 (the accelerator). About 60 minutes; it runs in
# half a minute.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import refvit
from refvit import plot
from refvit.accel.grid import parse_grid
from refvit.explore import explore
from refvit.quant import PRESETS, Recipe, Spec

model = refvit.load("nano_vit")
print(refvit.accel.MACHINES["edge32"].to_toml())

# %% [markdown]
# ## 1. The baseline, and where it spends
#
# Somebody builds cameras that name shapes: one image at a time, `nano_vit`, 8-bit codes (`w8a8`:
# weights and activations of 8 bits), on `edge32`, the machine above: an array of 32 x 32 *PEs*
# (processing elements, a multiplier and an adder each), three *SRAMs* (memories on the chip, for
# operands A and B and for results), a vector unit for softmax, GELU and LayerNorm, and 8 bytes a
# cycle from *DRAM*, the large memory outside. **What would make it faster, and what would save
# energy?** First look.

# %%
base = refvit.simulate(model, "edge32", recipe="w8a8")
share = {}
for row in base.rows:
    share[row.bound] = share.get(row.bound, 0.0) + row.us / base.totals["us"]
print(f"{base.totals['us']:.1f} us, {base.totals['uj_high']:.1f} uJ (high estimate)")
for bound, part in sorted(share.items(), key=lambda item: -item[1]):
    print(f"{part:5.0%} of the time in layers bound by: {bound}")
print(f"the multipliers are busy {base.totals['utilization']:.0%} of the time")

# %%
block = [row for row in base.rows if row.group == "blocks.1"]
fig, axs = plt.subplots(1, 2, figsize=(11, 3.9), sharey=True, layout="constrained")
plot.layers(block, "us", axs[0]).set_title("one block of four: latency")
axs[0].get_legend().set_loc("lower right")
parts = {"array": "uj_array_high", "SRAM": "uj_sram_high", "DRAM": "uj_dram_high"}
left = np.zeros(len(block))
for k, (name, key) in enumerate(parts.items()):
    width = np.array([getattr(row, key) for row in block])
    axs[1].barh(range(len(block)), width, left=left, color=plot.LINES[k], label=name,
                hatch=("", "///", "...")[k], edgecolor="white", linewidth=0)  # fmt: skip
    left += width
axs[1].set(xlabel="microjoules, high estimate", title="energy")
axs[1].legend(frameon=False, loc="upper right")
assert share["memory"] > share["compute"]
plot.picture(
    fig,
    "Latency and energy of the layers of one block. Softmax takes longest; the two layers of the "
    "MLP wait for memory; most energy is that of DRAM and of the SRAMs.",
)

# %% [markdown]
# At batch 1 each weight is loaded, used for the 65 tokens of one image, and dropped: memory is the
# largest part. Keep that in mind and predict: four times as many PEs, nothing else.

# %% exercise nb12.bigger_array

# %%
for change in ({"rows": 64, "cols": 64}, {"dram_bytes_per_cycle": 16.0}, {"vector_lanes": 64}):
    other = refvit.simulate(model, {"base": "edge32", **change}, recipe="w8a8").totals
    said = ", ".join(f"{key} {value}" for key, value in change.items())
    print(f"{said:<26}{other['us'] / base.totals['us']:6.1%} of the time")

# %% [markdown]
# Not the multipliers: what bounds a quarter of the time can win a quarter at most (*Amdahl's law*),
# and here the layers that wait for memory lose what the others win, as a larger array takes longer
# to fill and to drain. What helps is more lanes for softmax, a wider way to memory, which costs
# pins, or **fewer bytes on the way**, which costs accuracy. That last lever is quantization.
#
# ## 2. The recipe's side
#
# Half the bits are half the bytes, if the machine has codes of that width: `edge32` stores codes of
# 4, 8 and 16 bits, and a narrower code takes the next of these.

# %% exercise nb12.weight_bytes

# %%
moved = {}
for bits in (8, 6, 5, 4, 3):
    now = refvit.simulate(model, "edge32", recipe={"*.weight": bits}).totals
    print(f"{bits}-bit weights: {now['dram_bytes']:>8,} DRAM bytes {now['us']:6.1f} us")
    moved[bits] = now["dram_bytes"]
assert moved[6] == moved[8]

# %% [markdown]
# Six bits cost as much as eight, and are less accurate: on this machine they are never worth it.
# That is the first rule of co-design: *a format is as good as the machine that stores it*.
#
# Not all weights are alike. The *MLPs*, the two large layers in each block, have most of them; the
# first and the last layer have few, and errors there hurt. So here is a recipe of our own: MLP
# weights at 4 bits (the first line that matches decides; `axis=0` is a scale for each output), the
# rest as in `w8a8`.

# %%
sizes = {
    name: t.size for name, t in model.params.items() if name.endswith(".weight") and t.ndim > 1
}
mlp = sum(size for name, size in sizes.items() if ".mlp." in name)
print(f"{mlp / sum(sizes.values()):.0%} of the weights of linear layers are in the MLPs")

w8a8 = PRESETS["w8a8"]
print("as it was:", w8a8.spec("blocks.0.mlp.fc1.weight"))
mlp4 = Recipe("mlp4", {"*.mlp.*.weight": Spec(4, axis=0), **w8a8.table})
print("now:      ", mlp4.spec("blocks.0.mlp.fc1.weight"))
assert mlp > 0.5 * sum(sizes.values())

# %% [markdown]
# ## 3. What "better" means with three goals
#
# Accuracy, time and energy pull in different directions. Write each as a cost, less being better.
# Point $a$ **dominates** $b$ if
#
# $$a_k \le b_k \text{ for every } k \quad\text{and}\quad a_k < b_k \text{ for at least one } k.$$
#
# Nobody needs a dominated point. All others form the **Pareto front**: on it, every gain has a
# price.

# %% exercise nb12.pareto_front

# %% [markdown]
# How would you test somebody else's front? Not by computing it again, but by what has to be true of
# it. The statement has two halves, and each alone is easily fooled.

# %% exercise nb12.front_holds

# %% [markdown]
# ## 4. The sweep
#
# Machines: every combination of array sides, two *dataflows* (`ws` keeps weights in the PEs, `os`
# the sums) and SRAM sizes, none with more than the baseline's PEs. Recipes: four presets and ours.
# `explore` simulates every pair, and measures accuracy once a recipe: it calibrates on 32 images,
# compiles the **integer engine**, which computes as the hardware would, and runs 300 test images.

# %%
grid = parse_grid(
    "edge32 rows=16,32 cols=16,32 dataflow=ws,os sram_a_bytes=sram_b_bytes=16K,32K,128K "
    "sram_o_bytes=32K,64K,256K".split()
)
with tempfile.TemporaryDirectory() as folder:
    ours = Path(folder, "mlp4.toml")
    ours.write_text(mlp4.to_toml())
    found = explore(
        model, grid, ["w8a8", "w6a6", str(ours), "w4a8", "w4a4"], refvit.sources.Shapes10(),
        count=300, images=32,
    )  # fmt: skip
points = found.points
top1 = {Path(p.recipe).stem: p.top1 for p in points}
print(f"{len(grid)} machines, {len(points)} designs, {len(found.front)} on the front")
for p in found.front:
    said = p.machine.removeprefix("edge32 ").replace("sram_a_bytes=sram_b_bytes", "a=b")
    said = said.replace("sram_o_bytes", "o").replace("dataflow=", "")
    print(f"{Path(p.recipe).stem:<6}{p.top1:7.1%}{p.us:7.1f} us{p.uj_high:6.1f} uJ  {said}")

# %% [markdown]
# Three hundred images are few. If a share $p$ of $n$ images is right, chance moves it by about
# $\sqrt{p (1 - p) / n}$, the *standard error*. All recipes saw the same images, so their difference
# is somewhat surer than that.

# %%
p = top1["w8a8"]
error = np.sqrt(p * (1 - p) / 300)
print(f"w8a8: {p:.1%}, standard error {100 * error:.1f} points")
print("points lost:", {name: round(100 * (p - right), 1) for name, right in top1.items()})
assert 0.01 < error < 0.02

# %%
here = next(q for q in explore(model, [refvit.accel.machine("edge32")]).points)
fig, ax = plt.subplots(figsize=(9.5, 5.4))
shown = [q for q in points if q.us < 1.3 * here.us]
plot.front(shown, ax=ax)
ax.plot(here.us, here.uj_high, "*", color="black", markersize=15)
ax.annotate("baseline:\nw8a8 on edge32", (here.us, here.uj_high), (here.us - 5.5, here.uj_high + 2))
ax.annotate("better", (0.02, 0.83), (0.1, 0.92), xycoords="axes fraction", fontsize=11,
            arrowprops={"arrowstyle": "->"})  # fmt: skip
ax.set_title("nano_vit, one image: what each design costs; large marks: the Pareto front")
ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=11)
w6 = [q for q in points if q.recipe == "w6a6"]
assert not any(q.front for q in w6)
plot.picture(
    fig,
    "Energy over latency of several hundred designs by recipe, the Pareto front marked. "
    "Fronts of 4-bit recipes lie below and left of 8-bit ones; 6-bit designs cost as much as "
    "8-bit ones and none is on the front; the baseline star lies far above the front.",
)

# %% [markdown]
# Read the picture:
#
# * Each recipe has a front of its own: `ws` machines at its fast end, `os` ones, whose SRAMs are
#   asked less often, at its frugal end.
# * The step from one front to the next is what accuracy buys, and some buy little: activations of
#   4 bits (`w4a4`) save about a microjoule and lose most of what is lost.
# * Six-bit designs lie on the eight-bit ones, with less accuracy: dominated, every one.
# * The baseline is far from the front of its own recipe. Its SRAMs are too large: in a larger
#   memory, each access costs more.
#
# **So shrink the SRAMs?** Here is where the two sides meet.


# %%
def design(machine, recipe):
    return refvit.simulate(model, {"base": "edge32", **machine}, recipe=recipe)


small = {"sram_a_bytes": 16384, "sram_b_bytes": 16384, "sram_o_bytes": 32768}
table = {
    "neither": design({}, "w8a8"),
    "recipe alone": design({}, mlp4),
    "machine alone": design(small, "w8a8"),
    "both": design(small, mlp4),
    "both, os": design({**small, "dataflow": "os"}, mlp4),
}
keys = ("us", "uj_high", "uj_sram_high", "uj_dram_high")
print(f"{'':<14}      us      uJ:   SRAM    DRAM")
for name, report in table.items():
    print(f"{name:<14}" + "".join(f"{report.totals[key]:8.1f}" for key in keys))
cost = {name: (report.totals["us"], report.totals["uj_high"]) for name, report in table.items()}
assert cost["machine alone"][0] > cost["neither"][0]
assert cost["machine alone"][1] > cost["neither"][1]
assert cost["both"][1] < 0.8 * cost["recipe alone"][1]
assert table["both, os"].totals["uj_sram_high"] < table["both"].totals["uj_sram_high"]

# %%
fig, ax = plt.subplots(figsize=(8, 3.6))
at = {"neither": (10, 6), "recipe alone": (-12, -4), "machine alone": (10, 8), "both": (-12, -4)}
for k, (name, offset) in enumerate(at.items()):
    ax.plot(*cost[name], "oDs^"[k], color=plot.LINES[k], markersize=11)
    side = "left" if offset[0] > 0 else "right"
    ax.annotate(name, cost[name], offset, textcoords="offset points", fontsize=11, ha=side)
    if k:
        ax.annotate(
            "",
            cost[name],
            cost["neither"],
            zorder=0,
            arrowprops={"arrowstyle": "->", "color": plot.GREY, "shrinkA": 8, "shrinkB": 8},
        )
ax.set(xlabel="microseconds", ylabel="uJ, high estimate", xlim=(63, 101), ylim=(38, 92))
ax.grid(alpha=0.3)
plot.picture(
    fig,
    "Four designs by latency and energy. The small machine alone is slower and takes more energy "
    "than the baseline; the recipe alone is a little better; both together take much less energy.",
)

# %% [markdown]
# The small machine *alone* is worse in both. Its SRAMs save what they should, but DRAM costs more
# than that. Why? Ask the layers of one block for their DRAM bytes:

# %%
rows = {name: {row.name: row for row in report.rows} for name, report in table.items()}
print(f"{'DRAM bytes of':<15}" + "".join(f"{name:>15}" for name in at))
for layer in ("add1", "norm2", "mlp.fc1", "mlp.fc2", "add2"):
    moved = [rows[name][f"blocks.1.{layer}"].dram_bytes for name in at]
    print(f"{layer:<15}" + "".join(f"{n:>15,}" for n in moved))
stream, fc1 = 65 * 48 * 2, 192 * 48
print(f"fc1: {fc1:,} bytes at 8 bits, {fc1 // 2:,} at 4; half of SRAM B: {16384 // 2:,}")
assert fc1 > 8192 > fc1 // 2
assert rows["machine alone"]["blocks.1.add1"].dram_bytes == stream
assert rows["both"]["blocks.1.add1"].dram_bytes == 0

# %% [markdown]
# The *residual stream*, 65 tokens of 48 values of 16 bits, waits on the chip from `add1` to `add2`.
# On the small machine the 8-bit weights of `fc1` do not fit half of their SRAM (the other half
# loads the next tile), so they pass through all of it, and there is no room to wait: the stream
# goes to DRAM and comes back, twice. With 4-bit weights there is room. The same small machine is a
# loss with one recipe and a gain with another: that is why it is called co-design.
#
# ## 5. A budget
#
# A customer says: at most so many microseconds, at least so many right; then the battery decides.

# %% exercise nb12.cheapest_within

# %%
us, uj, right = (np.array([getattr(q, key) for q in points]) for key in ("us", "uj_high", "top1"))
for most, least in ((80, 0.94), (80, 0.93), (72, 0.93), (72, 0.7), (60, 0.7)):
    allowed = (us <= most) & (right >= least)
    said = "no design"
    if allowed.any():
        k = np.argmin(np.where(allowed, uj, np.inf))
        said = f"{uj[k]:.1f} uJ, {Path(points[k].recipe).stem}, {right[k]:.1%}"
    print(f"at most {most} us, at least {least:.0%}: {said}")

# %% [markdown]
# ## 6. Your design
#
# Now yours. The judge builds your machine, simulates your recipe on it, compiles the integer
# engine, and runs it on 300 test images. Try some by hand first, with `design` above, or with a
# sweep of your own; other answers than the solution are right as well.

# %% exercise nb12.my_design

# %%
labels = refvit.data.shapes10("test", count=300, seed=0)[1]
pixels = model.preprocess.normalise(refvit.data.shapes10("test", count=300, seed=0)[0])
few = model.preprocess.normalise(refvit.data.shapes10("calibration", 32)[0])
engines = {r.name: refvit.compile(refvit.quantize(model, few, r)) for r in (w8a8, mlp4)}
measured = {name: np.mean(e(pixels).argmax(1) == labels) for name, e in engines.items()}
for name, recipe in (("neither", "w8a8"), ("both", "mlp4")):
    print(f"{name:<9}{measured[recipe]:6.1%} right{cost[name][0]:6.1f} us{cost[name][1]:6.1f} uJ")
faster, less = (1 - now / was for now, was in zip(cost["both"], cost["neither"], strict=True))
print(f"{faster:.0%} faster, {less:.0%} less energy")
assert abs(measured["mlp4"] - top1["mlp4"]) < 0.01

# %% [markdown]
# What is *not* in these figures: leakage, the clock tree, wires between units, and more that the
# last lines of `report.table()` name. And the best of several recipes on 300 images is a little
# lucky: measure a winner again, on images that the choice has not seen.

# %%
fresh, truth = refvit.data.shapes10("test", count=700, seed=0, start=300)
fresh = model.preprocess.normalise(fresh)
again = {name: np.mean(engine(fresh).argmax(1) == truth) for name, engine in engines.items()}
print("on 700 fresh images:", {name: f"{value:.1%}" for name, value in again.items()})
assert again["w8a8"] - again["mlp4"] < 0.025

# %% [markdown]
# ## What to remember
#
# * Look first: what bounds a quarter of the time can win a quarter at most, however large.
# * A format is as good as the machine that stores it: 6 bits cost 8 where there is nothing between.
# * With several goals there is no best design, only a front, and a budget that picks from it.
# * Recipe and machine interact: what is bad alone can be good together. Sweep both.
# * A front says which costs are modelled; an accuracy has a standard error; a winner is measured
#   again on fresh images.
#
# **Papers.** Amdahl 1967; Jouppi et al. 2017 (TPU); Kim et al. 2023 (full-stack co-design for
# Transformers); Parashar et al. 2019 (Timeloop); Du, Gong and Chu 2024 (the survey this project
# follows).
