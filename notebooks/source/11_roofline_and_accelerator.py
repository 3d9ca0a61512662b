# %% [markdown]
# # Roofline and the accelerator
#
# **You will be able to** say from a layer's shape what bounds it on a machine, predict its cycles
# on a systolic array and its bytes through finite buffers, and read where time and energy go.
#
# Needs notebook 00, and from 01 the names of a block's layers; some 90 minutes. Everything runs in
# seconds on one core: the accelerator is a model in integers, not hardware.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np

import refvit
from refvit import plot
from refvit.accel import gemm_cycles, machine, step_gemm, tile_stages, timeline, workload

# %% [markdown]
# ## 1. Two speeds
#
# **How fast can a layer be, at best?** An accelerator has two speeds. Its multipliers make a
# number of *operations* a second, its *peak*; a multiply-accumulate (MAC) counts as two. Its
# memory, DRAM on chips of its own, delivers a number of bytes a second, its *bandwidth*. What a
# layer asks for is one number, its *intensity* $I$: operations for every byte that it moves. Then
#
# $$\text{speed} \le \min(\text{peak},\; I \cdot \text{bandwidth}).$$
#
# That is the *roofline* (Williams, Waterman and Patterson 2009). The slope meets the flat roof at
# the *ridge*, $I = \text{peak} / \text{bandwidth}$. Left of it memory bounds a layer, right of it
# the multipliers do. `edge32`, the machine of this notebook, is a small one:

# %%
edge = machine("edge32")
print(f"{edge.rows} x {edge.cols} multipliers of 8 bits, {edge.clock_mhz:.0f} MHz")
per_second = edge.dram_bytes_per_cycle * edge.clock_mhz / 1e3
print(f"{edge.dram_bytes_per_cycle:.0f} bytes a cycle from DRAM: {per_second:.0f} * 10^9 a second")

# %% [markdown]
# **Your turn.** The ridge of any such machine. Mind the units.

# %% exercise nb11.ridge_point

# %% [markdown]
# The same question for machines you may have met. A GPU has twice the peak at 8 bits that it has at
# 16, an array of 8-bit multipliers four times, as it makes a product of 16 bits in four slices. The
# bandwidth stays, so the ridge goes up as much: fewer bits move a layer's bytes in less time, but
# they make it harder to keep up with the multipliers.

# %%
for name in ("edge32", "edge16", "cloud128", "a100-40g", "h100-sxm"):
    eight, sixteen = (refvit.roofline("vit_base", name, bits).ridge for bits in (8, 16))
    print(f"{name:<10} ridge {eight:5.0f} operations a byte at 8 bits, {sixteen:4.0f} at 16")
assert round(refvit.roofline("vit_base", "a100-40g", 16).ridge) == round(312e12 / 1555e9) == 201

# %% [markdown]
# ## 2. What a layer asks for
#
# **Which layers of a ViT lie left of the ridge?** Nearly all work is matrix products (GEMMs)
# $[M, K] \times [K, N]$: $M$ tokens, $K$ inputs, $N$ outputs. Let their elements be 8-bit *codes*,
# integers that stand for reals (notebook 02), and every operand and result move once. Then
#
# $$I = \frac{2\,M K N}{M K + K N + M N}.$$
#
# Large in all three sizes is good; the smallest of the three sets the limit. GELU, softmax,
# LayerNorm and the sums of the residual stream do a handful of operations for every element they
# move, whatever their size.

# %%
tiny = refvit.roofline("deit_tiny", "edge32", bits=8)
dots = {dot.name: dot for dot in tiny.rows}
for layer in workload("deit_tiny")[2:14]:
    dot, M, K, N = dots[layer.name], layer.M, layer.K, layer.N
    shape = f"{layer.count} x [{M}, {K}] x [{K}, {N}]" if M else f"{layer.elements:,} elements"
    print(f"{layer.name[9:]:<13} {shape:<26} {dot.intensity:6.1f} op/B  {dot.bound}")
    assert not M or math.isclose(dot.intensity, 2 * M * K * N / (M * K + K * N + M * N))
for name in ("deit_tiny", "deit_small", "vit_base"):
    roof = refvit.roofline(name, "edge32", bits=8)
    bound = f"{roof.memory_bound:4.0%} of its time bound by memory"
    print(f"{name:<10} {roof.intensity:4.0f} operations a byte, {bound}")
products = sum(dots[layer.name].ops for layer in workload("deit_tiny") if layer.M)
print(f"deit_tiny: {products / tiny.ops:.1%} of the operations are in GEMMs")
assert tiny.memory_bound == 1
assert workload("vit_base")[3].K == 4 * workload("deit_tiny")[3].K  # four times as wide
assert roof.memory_bound < 0.5

# %%
fig, ax = plt.subplots(figsize=(9, 5.6))
plot.roof(tiny, ax=ax).set_title("DeiT-Tiny on edge32, 8-bit codes, every layer at its roof")
plot.picture(
    fig,
    "Roofline of DeiT-Tiny on edge32, both axes logarithmic. All layers lie on the slope left of "
    "the ridge at 256 operations a byte: sums at 0.3, softmax and norms at 2 to 4, attention's "
    "products at 78, the linear layers at 129 to 173.",
)

# %% [markdown]
# Every layer of DeiT-Tiny lies left of the ridge: on this machine none could keep the multipliers
# busy. ViT-B, four times as wide, has its linear layers on the other side.
#
# ## 3. The array
#
# **Does a product at the flat roof run at the peak?** Only if every multiplier works in every
# cycle. A *systolic array* (Kung 1982; Jouppi et al. 2017) is a grid of PEs, *processing elements*:
# a multiplier, an adder and a few registers. Each talks to its neighbours only. In the
# *weight-stationary* kind each PE holds one weight. Rows of $A$ enter from the left and move
# right; partial sums move down, and grow. One pass over a tile of rows x cols weights is a *fold*.
# A signal moves one PE a cycle, so the PE at (r, c) is r + c cycles behind the first: the *skew*.
#
# Below is a product stepped clock edge by clock edge: $[6, 8] \times [8, 3]$ on 4 x 3 PEs, two
# folds.

# %%
fig, axs = plt.subplots(2, 1, figsize=(10, 7), sharex=True)
for ax, overlap in zip(axs, (False, True), strict=True):
    stepped = timeline(6, 8, 3, rows=4, cols=3, overlap=overlap)
    plot.grid(stepped, ax)
    how = "folds overlap" if overlap else "one fold after the other"
    ax.set_title(f"{how}: {stepped.cycles} cycles", loc="left", fontsize=11)
    ax.set_xlim(0, 30)
axs[0].set_xlabel("")
axs[1].get_legend().remove()
fig.tight_layout()
plot.picture(
    fig,
    "Two timelines of twelve PEs. One fold after the other takes 30 cycles with a gap between the "
    "folds; overlapped, the second fold's weights move in while the first multiplies, and it takes "
    "21.",
)

# %% [markdown]
# Read the upper picture from left to right: `rows` cycles to move the weights in, $M$ cycles of
# rows entering, and the skew, rows - 1 + cols - 1 cycles, until the last PE is done. Then the next
# fold.
#
# **Your turn.** Write that as a formula. It is checked against the stepped array, which knows no
# formula.

# %% exercise nb11.array_cycles

# %%
rng = np.random.default_rng(0)
for M, K, N in ((6, 8, 3), (10, 9, 7), (49, 32, 49)):
    a, b = (rng.integers(-128, 128, size).astype(np.int8) for size in ((M, K), (K, N)))
    product, cycles = step_gemm(a, b, 8, 4)
    known = gemm_cycles(M, K, N, 8, 4)
    assert np.array_equal(product, a.astype(np.int32) @ b.astype(np.int32))
    assert cycles == known
    print(f"{M:>2} x {K:>2} x {N:>2}: stepped {cycles:,}  closed form {known:,}  match: True")

# %% [markdown]
# A second set of weight registers lets a fold follow the last without a gap. All folds are then
# one stream with one fill and one drain. How much that is worth depends on how long a fold is:

# %%
M, K, N = 197, 192, 576  # q, k and v of DeiT-Tiny
for size in (8, 16, 32, 64, 128):
    series = gemm_cycles(M, K, N, size, size)
    stream = gemm_cycles(M, K, N, size, size, overlap=True)
    used, better = (M * K * N / (size * size * cycles) for cycles in (series, stream))
    print(f"{size:>3} x {size:<3}: {series:>7,} cycles in series ({used:3.0%} used),", end=" ")
    print(f"{stream:>7,} overlapped ({better:3.0%})")
assert series / stream > 2

# %% [markdown]
# The larger the array, the more of its time goes to filling and draining, and the more of its PEs
# lie beyond the edge of a tile. *Utilization*, MACs / (cycles x PEs), falls though the array got
# faster. `edge32` overlaps its folds.
#
# ## 4. Buffers that end
#
# **Is every byte moved once?** Only if it can stay on the chip until nobody needs it. `edge32` has
# an SRAM, a *buffer*, for $A$, one for $B$, one for results. Half of each holds the tile in use,
# the other half is being filled. An operand that does not fit is cut into *tiles*, and while those
# of one operand pass, the other one's have to come again.
#
# **Your turn.** Count the bytes of one order of the loops.

# %% exercise nb11.tiled_bytes

# %% [markdown]
# The simulator tries every even cut in three orders of the loops. Here it looks for the fewest
# bytes, on machines with smaller and larger buffers. The dotted lines are *compulsory* traffic:
# every operand and every result once.

# %%
sizes = 2 ** np.arange(2, 10) * 1024
wanted = {"attn.scores": "s", "attn.qkv": "o", "mlp.fc1": "^", "mlp.fc2": "D"}
layers = {layer.name: layer for layer in workload("deit_tiny")}
moved = {name: [] for name in wanted}
for size in map(int, sizes):
    srams = {"sram_a_bytes": size, "sram_b_bytes": size, "sram_o_bytes": 2 * size}
    about = {"base": "edge32", "tiling_slack": 1000.0, **srams}
    found = refvit.simulate("deit_tiny", about, bits=8, residency=False).rows
    for name in wanted:
        row = next(row for row in found if row.name == f"blocks.3.{name}")
        x = layers[row.name]
        least = x.count * (x.M * x.K + x.K * x.N + x.M * x.N * row.o_bits // 8)
        assert row.dram_bytes >= least
        moved[name].append((row.dram_bytes, least))

fig, ax = plt.subplots(figsize=(8, 4.2))
for (name, found), colour in zip(moved.items(), plot.LINES, strict=False):
    dram, least = np.array(found).T / 1000
    ax.plot(sizes / 1024, dram, f"-{wanted[name]}", color=colour, label=name)
    ax.plot(sizes / 1024, least, ":", color=colour)
assert all(dram == least for dram, least in (found[-1] for found in moved.values()))
ax.set(xscale="log", yscale="log", xlabel="buffer of A and of B, KB", ylabel="KB from and to DRAM")
ax.set_xticks(sizes / 1024, [f"{size // 1024}" for size in sizes])
ax.set_yticks([200, 500, 1000, 2000], ["200", "500", "1000", "2000"])
ax.minorticks_off()
ax.legend(frameon=False)
plot.picture(
    fig,
    "Bytes moved by four layers against buffer size, both logarithmic. Each falls as buffers grow "
    "from 4 to 256 KB, then stays on its dotted line, the compulsory traffic.",
)

# %% [markdown]
# Each curve comes down to its dotted line and never crosses it. That is a law of every tiling, and
# laws make good tests: they need no right answer to compare with.
#
# **Your turn.** Write the law as a test for somebody else's traffic count. It has to accept every
# honest count, and to refuse the faulty ones.

# %% exercise nb11.at_least_compulsory

# %% [markdown]
# ## 5. Time, tile by tile
#
# **Must time be compute plus memory?** With two buffers for each tensor it need not: the port
# loads the next tile while the array works on this one.
#
# **Your turn.** Predict the time of a stream of equal tiles; it is checked against the clock of the
# simulator.

# %% exercise nb11.two_buffers

# %% [markdown]
# Two layers of a block of DeiT-Tiny, as `edge32` runs them: the first ten tiles of each. Numbers
# are tiles.

# %%
report = refvit.simulate("deit_tiny", "edge32", bits=8)
rows = {row.name: row for row in report.rows}
fig, axs = plt.subplots(2, 1, figsize=(11, 4.4))
for ax, name in zip(axs, ("blocks.3.attn.proj", "blocks.3.attn.qkv"), strict=True):
    row = rows[name]
    stages = tile_stages(layers[name], row, edge)
    busy = row.array_cycles / row.cycles
    plot.gantt(stages, ax, first=10)
    ax.set_title(f"{name[9:]}: bound by {row.bound}, its array busy {busy:.0%} of the time")
    fill_and_drain = 2 * edge.rows + edge.cols - 2
    assert max(stage.end for stage in stages) + fill_and_drain == row.cycles
axs[0].set_xlabel("")
axs[1].legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.3))
fig.tight_layout()
assert (rows["blocks.3.attn.proj"].bound, row.bound) == ("compute", "memory")
plot.picture(
    fig,
    "Gantt chart of the first ten tiles of two layers, a lane for the DRAM port and one for the "
    "array. In proj products follow each other without a gap and the port has pauses; in qkv loads "
    "and stores follow each other and the array has gaps.",
)

# %% [markdown]
# In `proj` the array sets the pace, and loads hide behind products. In `qkv` the port does: it has
# to store q, k and v too, and the array waits. Whoever has no gap is the bottleneck.
#
# A whole block, with the *vector unit* that does softmax, LayerNorm, GELU and sums, `lanes`
# elements a cycle:

# %%
block = [row for row in report.rows if row.group == "blocks.3"]
fig, ax = plt.subplots(figsize=(11, 2.8))
plot.units(block, ax)
cycles, stall = report.totals["cycles"], report.totals["stall_cycles"]
memory = sum(row.cycles for row in report.rows if row.bound == "memory")
print(f"the model: {cycles:,.0f} cycles, {stall / cycles:.0%} of them waiting,", end=" ")
print(f"{memory / cycles:.0%} in layers bound by memory")
array, port = (sum(getattr(row, f"{x}_cycles") for row in block) for x in ("array", "memory"))
took = sum(row.cycles for row in block)
print(f"the block: DRAM port busy {port / took:.0%}, array {array / took:.0%} of the time")
assert port > 0.8 * took
assert array < 0.5 * took
for row in block:
    assert row.cycles == row.compute_cycles + row.stall_cycles
    assert row.cycles == row.prologue_cycles + row.steady_cycles + row.epilogue_cycles
assert cycles == sum(row.cycles for row in report.rows)
plot.picture(
    fig,
    "Timeline of a block of DeiT-Tiny on edge32: the DRAM port is busy nearly all the time but in "
    "attention, the array in less than half of it, the vector unit mainly in softmax.",
)

# %% [markdown]
# The roofline assumed that each layer moves each operand once, in 8 bits. Now the simulator can say
# what each really moved, and how fast it was. A line leads from the roofline's dot to the
# simulator's.

# %%
fig, ax = plt.subplots(figsize=(9, 5.6))
plot.roof(tiny, report, ax).set_title("DeiT-Tiny on edge32: what the roof allows, what is reached")
assert rows["blocks.0.attn.scores"].dram_bytes == 0
assert rows["blocks.0.add1"].o_bits == 16
assert rows["blocks.0.mlp.fc2"].load_bytes == 197 * 768 + 2 * 768 * 192  # B is loaded twice
plot.picture(
    fig,
    "Roofline of DeiT-Tiny with hollow dots at the roof and full dots where the simulation ends. "
    "Scores, softmax and the last norm move to the right end, context and proj beyond the ridge; "
    "fc2, patch embedding and the sums move down the slope.",
)

# %% [markdown]
# No full dot is above the roof, but many moved along it. To the right went what need not move:
# scores, softmax and context hand their results on within the chip. To the left went what moves
# more than once or in wider codes: `fc2` loads its weights twice, and the residual stream has 16
# bits.
#
# ## 6. Energy
#
# **Where does the energy go?** Each event has a price in picojoules (pJ), read from tables such as
# Horowitz 2014 (45 nm). Energy is events times prices, summed. Unlike time it never overlaps: a
# byte that is moved behind a product costs what it costs.

# %%
mac = report.totals["uj_mac"] / report.totals["macs"] * 1e6
byte = report.totals["uj_dram"] / report.totals["dram_bytes"] * 1e6
print(f"a MAC of 8-bit codes {mac:.2f} pJ, a byte of DRAM {byte:.1f} pJ: {byte / mac:.0f} times")
assert round(byte / mac) == 542
fig, ax = plt.subplots(figsize=(9, 4.4))
plot.energy(block, ax)
plot.picture(
    fig,
    "Stacked bars of energy for the layers of a block: fc2 and fc1 take most, and most of it is in "
    "SRAM and DRAM; the array's part is small. Black bars from low to high estimates are as wide "
    "as the bars themselves.",
)

# %% [markdown]
# Two lessons. The multipliers take a small part: what costs is moving. `mlp.act` shows no bar, as
# GELU is done on what `fc1` hands out and moves nothing of its own. And the black bars are wide:
# tables of one process differ by a factor of three, so trust ratios and orders, not digits.
#
# **Your turn.** A stack of parts is honest only if it adds up. Write that as a property.

# %% exercise nb11.parts_add_up

# %%
parts = ("array", "sram", "dram", "vector")
for row in report.rows:
    assert math.isclose(sum(getattr(row, f"uj_{part}") for part in parts), row.uj, abs_tol=1e-12)
share = {part: report.totals[f"uj_{part}"] / report.totals["uj"] for part in parts}
print("DeiT-Tiny:", ", ".join(f"{part} {value:.1%}" for part, value in share.items()))
print(f"high estimate / low estimate: {report.totals['uj_high'] / report.totals['uj_low']:.1f}")
assert share["sram"] + share["dram"] > 0.8

# %% [markdown]
# ## 7. What would you buy?
#
# Look once more at the timeline of the block and at the two rooflines. You may change one thing of
# `edge32`.
#
# **Your turn.** Predict before you run the cell below.

# %% exercise nb11.best_upgrade

# %%
KB = 1024
upgrades = {
    "array": {"rows": 64, "cols": 64},
    "memory": {"dram_bytes_per_cycle": 16.0},
    "buffers": {"sram_a_bytes": 256 * KB, "sram_b_bytes": 256 * KB, "sram_o_bytes": 512 * KB},
    "lanes": {"vector_lanes": 64},
}
tried = {
    name: refvit.simulate("deit_tiny", {"base": "edge32", **x}) for name, x in upgrades.items()
}
tried["codes"] = refvit.simulate("deit_tiny", "edge32", recipe="w4a8")
for name, found in {"none": report, **tried}.items():
    x = found.totals
    print(
        f"{name:<8} {x['cycles']:>9,} cycles ({x['cycles'] / cycles - 1:+4.0%})  "
        f"{x['dram_bytes'] / 1e6:5.1f} MB moved  {x['uj']:5,.0f} uJ"
    )
larger = {row.name: row for row in tried["buffers"].rows}
handed = 197 * 768  # bytes that fc1 hands to fc2
assert edge.sram_a_bytes < handed < upgrades["buffers"]["sram_a_bytes"]
assert "a" in larger["blocks.3.mlp.fc2"].resident
assert "a" not in rows["blocks.3.mlp.fc2"].resident
assert min(tried, key=lambda name: tried[name].totals["cycles"]) == "buffers"
assert min(tried, key=lambda name: tried[name].totals["uj"]) == "array"

# %% [markdown]
# Larger buffers and a faster memory are close: not moving bytes, or moving them in less time. But
# only one of them moves fewer: what `fc1` hands to `fc2` no longer leaves the chip. And energy has
# another winner than time: on a larger array every operand that is read from an SRAM serves more
# PEs. So "faster" is not yet a design; notebook 12 weighs accuracy, time and energy.

# %% [markdown]
# ## What to remember
#
# * Two speeds and one number decide: left of the ridge a layer waits for memory.
# * A systolic array pays for filling, draining and edges; the larger it is, the more.
# * Finite buffers move bytes again. Never less than compulsory traffic, whatever the order.
# * With two buffers, time is the slower of compute and memory, plus a beginning and an end.
# * Energy is movement: a byte of DRAM costs hundreds of MACs, and no overlap hides it.
# * The best upgrade for time need not be the best for energy. Simulate before you buy.
#
# **Papers.** Williams, Waterman and Patterson 2009 (roofline); Kung 1982 (systolic arrays); Jouppi
# et al. 2017 (TPU); Samajdar et al. 2018 (SCALE-Sim); Horowitz 2014 (energy); Kim et al. 2023
# (Transformers on accelerators).
