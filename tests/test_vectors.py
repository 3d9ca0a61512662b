"""Test vectors: a folder is all that its operator needs, and replay finds whatever was changed."""

import json
import re
import shutil
import subprocess
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import refvit
from refvit.cli import main
from refvit.integer import codefile, vectors
from refvit.integer.codefile import Layout, read_hex
from refvit.integer.replay import replay
from refvit.integer.vectors import write_vectors
from refvit.quant import PRESETS, Recipe, Spec

GOLDEN = Path(__file__).parent / "golden"
TESTBENCH = Path(vectors.__file__).with_name("testbench.sv")
KERNELS = ("softmax", "gelu", "layer_norm")


def coded(name, softmax, bits, act="linear"):
    """w8a8 with other grids for probabilities and GELU, and factors of channels for the stream."""
    observers = {"linear": "minmax", "log2": "minmax"}
    table = {
        "*.softmax": Spec(bits, False, quantizer=softmax, observer=observers.get(softmax, "mse")),
        "*.act": Spec(6, quantizer=act, observer=observers.get(act, "mse")),
        **dict.fromkeys(("*.fc2", "*.add?"), Spec(8, quantizer="ptf", observer="channels")),
    }
    return Recipe(name, table | {k: v for k, v in PRESETS["w8a8"].table.items() if k not in table})


def asymmetric(name, bits):
    """w8a8 with zero points wherever activations have 8 bits, here of `bits` and unsigned."""
    read = "norm? q k v scores context fc1 act fc2 add?".split()
    sites = ["input", "head", *(f"*.{site}" for site in read)]
    change = dict.fromkeys(sites, Spec(bits, False, symmetric=False))
    return Recipe(name, change | PRESETS["w8a8"].table)


CODED = (
    coded("w8twins", "twin", 7, act="twin"),
    coded("w8powers", "log2", 3),
    coded("w8shifted", "shift_log2", 4),
    coded("w8roots", "log_sqrt2", 5),
    asymmetric("w8zeros", 8),
    asymmetric("w8a5zeros", 5),
)
RECIPES = {recipe.name: recipe for recipe in CODED}


def engine_of(name, recipe="w8a8", kernels="refvit"):
    """A compiled engine and the codes of one image: nano_vit, or a checkpoint of the peers."""
    if name == "nano_vit":
        model = refvit.load(name)
        pixels = model.preprocess.normalise(refvit.data.shapes10("calibration", 8)[0])
    else:
        pixels = np.load(GOLDEN / name / "peer.npz")["pixels"]
        model = refvit.load(GOLDEN / name).at(*pixels.shape[2:])
    quantized = refvit.quantize(model, pixels, RECIPES.get(recipe, recipe))
    engine = refvit.compile(quantized, kernels)
    return engine, engine.encode(pixels[:1])


CASES = [  # model            recipe  kernels   sites
    ("nano_vit",         "w8a8", "refvit", "*"),
    ("nano_vit",         "w4a4", "refvit", "blocks.3.*"),
    ("nano_vit",         "w6a6", "ivit",   "blocks.0.*"),
    ("nano_vit",         "w8a8", "log2",   "blocks.0.attn.*"),
    ("nano_vit",         "w8a8", "table",  "blocks.0.*"),
    ("hf_deit",          "w8a8", "refvit", "*"),
    ("timm_vit_options", "w8a8", "refvit", "*"),
    ("hf_swin",          "w8a8", "refvit", "*"),
    ("timm_swin",        "w4a4", "log2",   "*"),
    ("timm_swin",        "w8a8", "ivit",   "stages.0.*"),
    ("timm_swin",        "w8a8", "table",  "stages.1.*"),
    ("nano_vit",         "w8twins", "refvit", "blocks.2.*"),
    ("timm_swin",        "w8twins", "table",  "*"),
    ("hf_swin",          "w8powers", "refvit", "stages.1.*"),
    ("nano_vit",         "w8shifted", "ivit", "blocks.1.*"),
    ("nano_vit",         "w8roots", "refvit", "blocks.0.*"),
    ("nano_vit",         "w8zeros", "ivit", "*"),
    ("hf_deit",          "w8zeros", "table", "*"),
    ("hf_swin",          "w8zeros", "refvit", "*"),
    ("timm_swin",        "w8a5zeros", "table", "*"),
    ("timm_swin",        "w8a5zeros", "log2", "stages.0.*"),
]  # fmt: skip


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case[:3]))
def written(request, tmp_path_factory):
    """A directory of vectors, its manifest and its engine."""
    name, recipe, kernels, sites = request.param
    engine, codes = engine_of(name, recipe, kernels)
    out = tmp_path_factory.mktemp("vectors") / "v"
    return out, write_vectors(engine, codes, out, sites), engine


@pytest.fixture(scope="module")
def nano():
    return engine_of("nano_vit")


@pytest.fixture(scope="module")
def one_block(nano, tmp_path_factory):
    out = tmp_path_factory.mktemp("vectors") / "v"
    write_vectors(*nano, out, "blocks.1.*", "an image")
    return out


@pytest.fixture
def mine(one_block, tmp_path):
    """A copy, to change."""
    shutil.copytree(one_block, tmp_path / "v")
    return tmp_path / "v"


def plain_read(path, about):
    """Read a hex file as a simulator would: int64 codes in the shape of the manifest."""
    lines = path.read_text().splitlines()
    assert lines[0].startswith("// shape ")
    raw = np.array([int(line, 16) for line in lines[1:]], np.int64)
    sign = raw >> (about["bits"] - 1) if about["signed"] else 0
    return (raw - (sign << about["bits"])).reshape(about["shape"])


def folder_of(out, entry):
    """Return every array of one site by name, from its hex files."""
    return {n: plain_read(out / entry["site"] / f"{n}.hex", a) for n, a in entry["files"].items()}


def rounded(x, k):
    """round(x, k) of the specification, clause 2.3."""
    k = np.broadcast_to(k, x.shape)
    return np.where(k > 0, (x + (1 << np.maximum(k, 1) - 1)) >> np.maximum(k, 0),
                    x << np.maximum(-k, 0))  # fmt: skip


def factor(x, c, name="", lo=-(2**31), hi=2**31 - 1):
    """Requantize, clause 2.2, in int64 alone."""
    m, n = c[f"{name}multiplier"], c[f"{name}shift"]
    return np.clip((x * m + (1 << (n - 1))) >> n, lo, hi)


def bits(x):
    return np.array([int(v).bit_length() for v in x.ravel()]).reshape(x.shape)


def linear(c, lo, hi):
    return factor(c["input0"] @ c["weight"].T + c.get("bias", 0), c, "", lo, hi)


def matmul(c, lo, hi):
    a = c["input0"]
    if "power" in c:
        a = np.where(a > c["power"], 0, 1 << np.maximum(c["power"] - a, 0))
    if "input0_log_sqrt2" in c:  # clause 3.3
        p = c["input0_log_sqrt2"]
        shifted = np.where(a > 2 * p, 0, 1 << np.maximum(p - ((a + 1) >> 1), 0))
        odd = np.where(a % 2 == 1, shifted, 0) @ c["input1"]
        even = np.where(a % 2 == 0, shifted, 0) @ c["input1"]
        return factor(even + ((odd * 11863283 + (1 << 22)) >> 23), c, "", lo, hi)
    return factor(a @ c["input1"], c, "", lo, hi)


def meant(c, k):
    """What the codes of operand k stand for, clause 1.5."""
    q, name = c[f"input{k}"], f"input{k}_"
    if f"{name}twin" in c:
        lo, hi = c[f"{name}clamp"].tolist()
        first, m = (0 if lo < 0 else (hi + 1) // 2), c[f"{name}twin"]
        return np.where(q < first, q, (q - first) << m)
    if f"{name}ptf" in c:
        return q << c[f"{name}ptf"]
    q = q - c.get(f"{name}zero_point", 0)
    return (1 << (c[f"{name}shift_log2"] - q)) - 1 if f"{name}shift_log2" in c else q


def ends(c):
    """The least and greatest integer of a site's codes, and its guard bits: clause 3.8."""
    lo, hi = c["clamp"].tolist()
    if "twin" in c:
        lo, hi = lo, (hi if lo < 0 else hi >> 1) << int(c["twin"])
    if "ptf" in c:
        lo, hi = lo << int(c["ptf"].max()), hi << int(c["ptf"].max())
    if "log2" in c or "log_sqrt2" in c:
        hi = 1 << (hi - 1 if "log2" in c else hi >> 1)
    if "shift_log2" in c:
        hi = (1 << int(c["shift_log2"])) - 1
    return lo, hi, 8 if "ptf" in c else max(0, min(8, 30 - int(max(-lo, hi)).bit_length()))


def narrowed(c, x, g):
    """The codes of integers with g guard bits, clause 3.8, counted one border at a time."""
    lo, hi = c["clamp"].tolist()
    if "ptf" in c:
        return np.clip((x + (1 << (g + c["ptf"] - 1))) >> (g + c["ptf"]), lo, hi)
    if "twin" in c:
        m, n = int(c["twin"]), hi if lo < 0 else hi >> 1
        border = 0 if lo < 0 else n + ((n >> m) + 1) * 2**m
        far = x >= (border * 2**g + 1) >> 1
        count = np.minimum(np.where(far, rounded(x, g + m), rounded(x, g)), n)
        return count + far * (0 if lo < 0 else n + 1)
    if "shift_log2" in c:
        last, first, x = int(c["shift_log2"]), 1, x + 2**g
    else:
        last, first = hi, 0
    a = 2 if "log_sqrt2" in c else 1
    code = np.full(x.shape, last)
    for j in range(first, last + first):
        power = 2 ** (2 * j - 1 + 2 * a * g)
        code -= np.array([int(v) ** (2 * a) >= power for v in x.ravel()]).reshape(x.shape)
    return code


def parts(c):
    pairs = zip(c["multiplier"], c["shift"], strict=True)
    return [(c[f"input{k}"], {"multiplier": m, "shift": n}) for k, (m, n) in enumerate(pairs)]


def add(c, lo, hi):
    if "ptf" in c:
        return np.clip(sum(factor(*part) for part in parts(c)), lo, hi)
    return np.clip(rounded(sum(factor(*part) for part in parts(c)), 8), lo, hi)


def concat(c, lo, hi):
    aligned = [factor(*part, "", lo, hi) for part in parts(c)]
    batch = max(len(x) for x in aligned)
    return np.concatenate([np.repeat(x, batch // len(x), 0) for x in aligned], c["axis"])


def mean(c, lo, hi):
    return factor(c["input0"].sum(c["axis"]), c, "", lo, hi)


def gelu(c, lo, hi):  # clauses 4.2 and 5.3
    q = c["input0"]
    if "table" in c:
        return np.clip(c["table"][q & 255], lo, hi)
    u = factor(abs(q), c, "grid_", 0, 10247) - 10247
    h = 116185706 + np.sign(q) * (116185706 - u * u)
    return factor(q * rounded(h, c["keep"]), c, "", lo, hi)


def softmax(c, lo, hi):  # clauses 4.1, 5.2 and 5.3
    q = c["input0"]
    gone = np.zeros(q.shape, bool)
    if "mask" in c:
        windows = (-1, len(c["mask"]), *q.shape[1:])
        gone = (gone.reshape(windows) | (c["mask"] == 1)[:, None]).reshape(q.shape)
    below = np.where(gone, 0, np.where(gone, -(2**31), q).max(-1, keepdims=True) - q)
    e = (
        c["table"][below]
        if "table" in c
        else exponential(factor(below, c, "grid_", 0, 17 * 2**13 - 1))
    )
    e = np.where(gone, 0, e)
    total = np.maximum(e.sum(-1, keepdims=True), 1)
    if "spare" in c:
        ratio = (total << c["spare"]) // np.maximum(e, 1)
        top = (ratio << 15) >> bits(ratio)
        return np.where(e > 0, np.clip(bits(ratio) - 1 - c["spare"] + (top >= 23170), lo, hi), hi)
    k = bits(total) - 14
    return factor(rounded(e * (2**27 // rounded(total, k)), k), c, "", lo, hi)


def exponential(t):
    f = t % 2**13
    return rounded(f * (f - 31997) + 389997863, (t >> 13) + 13)


def layer_norm(c, lo, hi):  # clause 4.3
    q, width = c["input0"], c["input0"].shape[-1]
    y = width * q - q.sum(-1, keepdims=True)
    b = bits(abs(y).max(-1, keepdims=True))
    least = (c["eps_exponent"] - 13) >> 1 if c["eps_code"] else -30
    k = np.clip(b - ((30 - int(width - 1).bit_length()) >> 1), least, 30)
    eps = rounded(
        np.broadcast_to(c["eps_code"], k.shape), np.minimum(2 * k - c["eps_exponent"], 30)
    )
    v = (rounded(y, k) ** 2).sum(-1, keepdims=True) + eps
    j = np.maximum(30 - bits(v), 0) >> 1
    root = np.maximum(np.floor(np.sqrt((v << 2 * j).astype(float))).astype(int), 2**14)
    n = rounded(rounded(y, b - 15) * (2**29 // root), np.minimum(17 - b + k - j, 30))
    return np.clip(rounded(factor(n, c) + c["offset"], 8), lo, hi)


def shift_exp(d, u, n):  # clause 5.1
    p = -d + (-d >> 1) - (-d >> 4)
    p = np.maximum(p, -n * u)
    z = -p // u
    return ((p + z * u + 2 * u) << (n - z)) >> 1


def shiftmax(c, lo, hi):  # clause 5.1
    q = c["input0"]
    gone = np.zeros(q.shape, bool)
    if "mask" in c:
        windows = (-1, len(c["mask"]), *q.shape[1:])
        gone = (gone.reshape(windows) | (c["mask"] == 1)[:, None]).reshape(q.shape)
    top = np.where(gone, -(2**31), q).max(-1, keepdims=True)
    e = np.where(gone, 0, shift_exp(np.where(gone, 0, top - q), c["unit"], c["octaves"]))
    return factor(e * ((2**31 - 1) // np.maximum(e.sum(-1, keepdims=True), 1)), c, "", lo, hi)


def shift_gelu(c, lo, hi):  # clause 5.1
    q = c["input0"]
    top = np.maximum(q.max(-1, keepdims=True), 0)
    a = shift_exp(top - q, c["unit"], c["octaves"])
    total = a + shift_exp(top, c["unit"], c["octaves"])
    k = bits(total) - 14
    g = rounded(rounded(a, k) * (2**28 // rounded(total, k)), 14)
    return factor(q * g, c, "", lo, hi)


def i_layer_norm(c, lo, hi):  # clause 5.1
    q, k = c["input0"], c["coarse"]
    width = q.shape[-1]
    y = q - (q.sum(-1, keepdims=True) + (width >> 1)) // width
    v = (rounded(y, k) ** 2).sum(-1, keepdims=True)
    x = np.full_like(v, 2**16)
    for _ in range(10):
        x = np.maximum((x + v // x) >> 1, 1)
    n = (y * (2**30 // (x << k))) >> 1
    return np.clip(rounded(factor(n, c) + c["offset"], 8), lo, hi)


PLAINLY = {f.__name__: f for f in (linear, matmul, add, concat, mean, gelu, softmax, layer_norm)}
IVIT = PLAINLY | {"softmax": shiftmax, "gelu": shift_gelu, "layer_norm": i_layer_norm}


def recomputed(kernels, entry, c):
    """The output of a folder's operator by the clauses of the specification."""
    plainly = (IVIT if kernels == "ivit" else PLAINLY)[entry["op"]]
    inputs = {name: meant(c, name[-1]) for name in c if re.fullmatch(r"input\d", name)}
    c = c | inputs | {"axis": entry.get("axis")}
    if (
        entry["op"] == "linear"
        or "spare" in c
        or not {"log2", "shift_log2", "log_sqrt2", "twin", "ptf"} & c.keys()
    ):
        zero = c.get("zero_point", 0)
        return plainly(c, *(c["clamp"] - zero).tolist()) + zero
    lo, hi, g = ends(c)
    return narrowed(c, plainly(c, lo << g, hi << g), g)


def test_every_output_follows_from_its_folder_alone(written):
    out, manifest, engine = written
    for entry in manifest["sites"]:
        c = folder_of(out, entry)
        found = recomputed(engine.kernels, entry, c)
        assert np.array_equal(found, c["expected"]), entry["site"]


def test_a_whole_forward_has_every_operator(written):
    out, manifest, engine = written
    ops = {entry["op"] for entry in manifest["sites"]}
    if "heads_mean" in engine.scales:
        assert ops == PLAINLY.keys()
    assert ops <= PLAINLY.keys()
    assert {path.name for path in out.iterdir() if path.is_dir()} == {
        entry["site"] for entry in manifest["sites"]
    }


def test_hex_and_npy_hold_the_same_codes_in_the_declared_width(written):
    out, manifest, engine = written
    for entry in manifest["sites"]:
        for name, about in entry["files"].items():
            path = out / entry["site"] / name
            codes = np.load(path.with_suffix(".npy"))
            text = path.with_suffix(".hex").read_text().splitlines()
            assert codes.flags.c_contiguous
            assert (codes.dtype.name, list(codes.shape)) == (about["dtype"], about["shape"])
            assert {len(line) for line in text[1:]} == {-(-about["bits"] // 4)}
            assert np.array_equal(plain_read(path.with_suffix(".hex"), about), codes)
            assert codefile.sha256(codes.tobytes()) == about["sha256"]
            assert codefile.sha256(path.with_suffix(".hex").read_bytes()) == about["hex_sha256"]
    widths = {a["bits"] for e in manifest["sites"] for n, a in e["files"].items() if n == "weight"}
    assert widths <= {int(engine.recipe[1])}


def test_inputs_are_the_outputs_they_come_from(written):
    """Where nothing was moved, the codes that enter are those that the named site gave."""
    _, manifest, _ = written
    outputs = {e["site"]: e["files"]["expected"]["sha256"] for e in manifest["sites"]}
    unmoved = 0
    for entry in manifest["sites"]:
        for about in entry["files"].values():
            if about.get("moves") == [] and about["source"] in outputs:
                unmoved += 1
                assert about["sha256"] == outputs[about["source"]]
    assert unmoved > 1


def test_what_was_expected_replays(written, tmp_path):
    out, manifest, _ = written
    count = len(manifest["sites"])
    mine = shutil.copytree(out, tmp_path / "v")
    for entry in manifest["sites"]:
        shutil.copyfile(mine / entry["site"] / "expected.hex", mine / entry["site"] / "output.hex")
    found = replay(mine)
    assert (found.ok, found.sites, found.given, found.matching) == (True, count, count, count)


def test_a_mask_of_swin_is_written_as_bits(tmp_path):
    engine, codes = engine_of("hf_swin")
    manifest = write_vectors(engine, codes, tmp_path / "v", "*.softmax")
    masked = [entry for entry in manifest["sites"] if "mask" in entry["files"]]
    assert masked
    for entry in masked:
        assert entry["files"]["mask"]["bits"] == 1
        c = folder_of(tmp_path / "v", entry)
        assert set(c["mask"].ravel().tolist()) == {0, 1}
        windows = c["expected"].reshape(-1, *c["mask"].shape[:1], *c["expected"].shape[1:])
        assert (windows[np.broadcast_to(c["mask"][:, None] == 1, windows.shape)] == 0).all()


def test_the_manifest_says_what_was_run(nano, one_block):
    engine, codes = nano
    about = json.loads((one_block / "manifest.json").read_text())
    assert about["engine"] == engine.digest
    assert about["image"]["name"] == "an image"
    assert about["image"]["sha256"] == codefile.sha256(codes.tobytes())
    assert np.array_equal(np.load(one_block / "image.npy"), codes)
    sites = {entry["site"]: entry for entry in about["sites"]}
    key = sites["blocks.1.attn.scores"]["files"]["input1"]
    assert key["source"] == "blocks.1.attn.k"
    assert key["moves"] == [
        "rearrange b n (h d) -> b h n d h=4",
        "rearrange b h n d -> b h d n",
    ]


@given(
    st.sampled_from(("fc1", "act", "fc2")), st.integers(0), st.integers(1, 100), st.booleans()
)  # fmt: skip
def test_one_changed_code_anywhere_is_found(one_block, site, place, step, as_hex):
    """And its index is that of the changed code."""
    site = f"blocks.1.mlp.{site}"
    path = one_block / site / ("output.hex" if as_hex else "output.npy")
    codes = np.load(one_block / site / "expected.npy")
    index = tuple(map(int, np.unravel_index(place % codes.size, codes.shape)))
    found = codes.copy()
    found[index] += step if codes[index] < 20 else -step
    if as_hex:
        path.write_bytes(codefile.hex_codes(found, 8 * found.itemsize))
    else:
        np.save(path, found)
    try:
        first = replay(one_block, "blocks.1.mlp.*").first
    finally:
        path.unlink()
    assert (first.site, first.index, first.differing) == (site, index, 1)
    assert (first.expected, first.found) == (codes[index], found[index])


def test_the_first_mismatch_is_the_first_of_the_forward(mine):
    """Whatever the names are in the alphabet; what cannot be read later does not match either."""
    for site in ("blocks.1.mlp.fc1", "blocks.1.norm1"):
        np.save(mine / site / "output.npy", np.load(mine / site / "expected.npy") ^ 1)
    (mine / "blocks.1.add2" / "output.npy").write_bytes(b"")
    found = replay(mine)
    assert found.first.site == "blocks.1.norm1"
    assert found.first.differing == found.first.size == 65 * 48
    assert found.failing == ("blocks.1.norm1", "blocks.1.mlp.fc1", "blocks.1.add2")
    assert (found.given, found.matching) == (3, 0)
    assert found.text().endswith("also at blocks.1.mlp.fc1, blocks.1.add2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("12\n34\n", "has 2 codes, the last at 1; wanted 16,900, [1, 4, 65, 65]"),
        ("00\n" * 16901, "has 16,901 codes, the last at 16,900; wanted 16,900"),
        ("00\n0g\n", "line 2: '0g' is not hexadecimal"),
        ("\x80binary", "is not hexadecimal"),
        ("00\n\n1ff\n", "line 3: 1ff has more than 8 bits"),
        ("@\n", "line 1: '' is not hexadecimal"),
    ],
)
def test_a_hex_file_that_cannot_be_read_is_one_clear_line(mine, text, message):
    (mine / "blocks.1.attn.softmax" / "output.hex").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=re.escape(message)):
        replay(mine, "*.softmax")


def test_what_a_simulator_left_undefined_is_a_mismatch_with_its_line(mine):
    path = mine / "blocks.1.attn.softmax" / "output.hex"
    lines = path.with_name("expected.hex").read_text().splitlines()
    path.write_text("\n".join([*lines[:67], "xx", "zz", *lines[69:]]))
    found = replay(mine).first
    assert (found.index, found.differing) == ((0, 0, 1, 1), 2)
    assert found.found == "xx, undefined at line 68"


def test_the_text_of_readmemh_is_read_in_all_its_forms(tmp_path):
    path = tmp_path / "output.hex"
    path.write_text("// 0x0\n@2 3F /* two\nlines */ 0_0\n@0\n20 1F // end\n")
    codes, undefined = read_hex(path, Layout((2, 2), 6, True))
    assert codes.tolist() == [[-32, 31], [-1, 0]]
    assert undefined == {}


@given(st.integers(1, 32), st.booleans(), st.data())
def test_hex_returns_what_was_written(tmp_path_factory, width, signed, data):
    lo, hi = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
    shape = data.draw(st.sampled_from([(), (3,), (2, 3)]))
    values = data.draw(st.lists(st.integers(lo, hi), min_size=6, max_size=6))
    codes = np.array(values[: prod(shape)], np.int64).reshape(shape)
    folder = tmp_path_factory.mktemp("hex")
    codefile.write_codes(folder, "x", codes, Layout(shape, width, signed))
    again, _ = read_hex(folder / "x.hex", Layout(shape, width, signed))
    assert np.array_equal(again, codes)


def flip(path):
    np.save(path, np.load(path) ^ 1)


def edit(old, new):
    def change(path):
        manifest = path.parents[1] / "manifest.json"
        manifest.write_text(manifest.read_text().replace(old, new))

    return change


CHANGES = {  # what is done to the folder of blocks.1.mlp.fc1, and what replay says
    "flipped": (flip, "input0.npy' is not as it was written"),
    "cut": (lambda p: p.write_bytes(p.read_bytes()[:-1]), "is not a whole .npy file"),
    "gone": (Path.unlink, "input0.npy'; write the vectors again"),
    "hex": (lambda p: p.with_suffix(".hex").write_text("0"), "input0.hex' is not as it was"),
    "expected": (lambda p: flip(p.with_name("expected.npy")), "expected.npy' is not as it was"),
    "manifest": (lambda p: (p.parents[1] / "manifest.json").write_text("{"), "is not JSON"),
    "missing": (lambda p: (p.parents[1] / "manifest.json").unlink(), "holds no vectors"),
    "format": (edit("refvit-vectors", "other"), "is not a manifest of refvit's vectors"),
    "fields": (edit('"bits"', '"beats"'), "manifest.json' is damaged: KeyError('bits')"),
    "width": (edit('"bits": 8', '"bits": 99'), "no codes have Layout"),
    "escape": (edit('"blocks.1.norm1"', '"../norm1"'), "'../norm1' names no site"),
    "shape": (lambda p: np.save(p.with_name("output.npy"), np.zeros((2, 2), np.int8)),
              "output.npy' has shape [2, 2], wanted [1, 65, 192]"),
    "floats": (lambda p: np.save(p.with_name("output.npy"), np.ones(2)), "wanted integers"),
}  # fmt: skip


@pytest.mark.parametrize("way", CHANGES)
def test_what_was_changed_is_one_line_and_exit_code_2(capsys, mine, way):
    change, message = CHANGES[way]
    change(mine / "blocks.1.mlp.fc1" / "input0.npy")
    code, out, err = run(capsys, "vectors", "--replay", mine)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_outputs_of_either_kind_are_counted_and_none_is_no_success(mine):
    assert (replay(mine).ok, replay(mine).given) == (False, 0)
    assert replay(mine).text().startswith("none of 14 sites has an output.hex or output.npy")
    for site, kind in (("blocks.1.norm1", "npy"), ("blocks.1.norm2", "hex")):
        shutil.copyfile(mine / site / f"expected.{kind}", mine / site / f"output.{kind}")
    found = replay(mine)
    assert (found.ok, found.given, found.matching) == (True, 2, 2)
    assert found.text() == f"2 of 2 outputs match; {found.sites - 2} sites have none"


def test_somebodys_outputs_are_not_written_over(nano, tmp_path):
    write_vectors(*nano, tmp_path / "v", "head")
    (tmp_path / "v" / "head" / "output.hex").write_text("00")
    with pytest.raises(FileExistsError, match=r"holds 'head/output.hex' too, .* move it away"):
        write_vectors(*nano, tmp_path / "v", "head")
    assert (tmp_path / "v" / "head" / "output.hex").read_text() == "00"


def test_nothing_half_written_stays_and_nothing_foreign_is_replaced(nano, tmp_path, monkeypatch):
    out = tmp_path / "v"
    write_vectors(*nano, out, "head")
    write_vectors(*nano, out, "embed")  # replaces the earlier ones
    assert [path.name for path in out.iterdir() if path.is_dir()] == ["embed"]
    (out / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds 'notes\.txt' too"):
        write_vectors(*nano, out, "head")
    (out / "notes.txt").unlink()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    monkeypatch.setattr(vectors, "folded_json", lambda about: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_vectors(*nano, out, "head")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


@pytest.mark.parametrize("kind", ["file", "folder", "parent"])
def test_a_place_that_is_taken_is_refused_before_the_work(nano, tmp_path, kind):
    out = tmp_path / "v"
    if kind == "file":
        out.write_text("")
    if kind == "folder":
        out.mkdir()
        (out / "thesis.tex").write_text("")
    if kind == "parent":
        out = tmp_path / "no" / "v"
    with pytest.raises(OSError, match=r"not a directory|holds no vectors|no directory"):
        write_vectors(*nano, out, "head")


def test_codes_that_the_engine_does_not_run_are_refused(nano, tmp_path):
    engine, codes = nano
    with pytest.raises(TypeError, match="codes are integers"):
        write_vectors(engine, codes.astype(np.float32), tmp_path / "v")
    with pytest.raises(ValueError, match="codes have shape"):
        write_vectors(engine, codes[0], tmp_path / "v")
    assert not (tmp_path / "v").exists()


@pytest.fixture(scope="module")
def artefact(nano, tmp_path_factory):
    path = tmp_path_factory.mktemp("engine") / "e.safetensors"
    nano[0].save(path)
    return path


def run(capsys, *argv):
    code = main(list(map(str, argv)))
    out = capsys.readouterr()
    return code, out.out, out.err


def test_the_command_writes_checks_and_exits_1_at_a_mismatch(capsys, artefact, nano, tmp_path):
    out = tmp_path / "v"
    code, text, _ = run(capsys, "vectors", artefact, "--out", out, "--site", "*.mlp.fc1", "--json")
    data = json.loads(text)
    assert code == 0
    assert data["sites"] == [f"blocks.{i}.mlp.fc1" for i in range(4)]
    assert (data["image"], data["engine"]) == ("shapes10 test 0", nano[0].digest)
    assert data["bytes"] == sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    code, text, err = run(capsys, "vectors", "--replay", out)
    assert (code, err) == (1, "")
    assert text == "none of 4 sites has an output.hex or output.npy to check\n"
    path = out / "blocks.2.mlp.fc1" / "output.npy"
    codes = np.load(path.with_name("expected.npy"))
    right = codes[0, 3, 17]
    codes[0, 3, 17] ^= 1
    np.save(path, codes)
    code, text, err = run(capsys, "vectors", "--replay", out)
    assert (code, err) == (1, "")
    assert text == (
        f"blocks.2.mlp.fc1[0, 3, 17]: expected {right}, found {right ^ 1}, in output.npy\n"
        "1 of 12,480 codes differ at this site; 0 of 1 outputs match; 3 sites have none\n"
    )
    code, text, _ = run(capsys, "vectors", "--replay", out, "--json")
    assert (code, json.loads(text)["first"]["index"]) == (1, [0, 3, 17])
    np.save(path, np.load(path.with_name("expected.npy")))
    code, text, _ = run(capsys, "vectors", "--replay", out)
    assert (code, text) == (0, "1 of 1 outputs match; 3 sites have none\n")


def test_an_image_file_is_what_the_engine_makes_of_it(capsys, artefact, nano, tmp_path):
    images, _ = refvit.data.shapes10("test", 8)
    Image.fromarray(images[7]).save(tmp_path / "i.png")
    for k, which in enumerate((["--image", tmp_path / "i.png"], ["--index", 7])):
        out = tmp_path / str(k)
        assert run(capsys, "vectors", artefact, "--out", out, "--site", "head", *which)[0] == 0
    wanted = nano[0].encode(nano[0].preprocess(images[7])[None])
    assert np.array_equal(np.load(tmp_path / "0" / "image.npy"), wanted)
    assert np.array_equal(np.load(tmp_path / "1" / "image.npy"), wanted)


MISTAKES = [
    (["E"], "give ARTEFACT and --out DIR"),
    (["--out", "v"], "give ARTEFACT and --out DIR"),
    (["E", "--replay", "v"], "give ARTEFACT and --out DIR"),
    (["--replay", "v"], "no directory 'v'"),
    (["--replay", "."], "'.' holds no vectors"),
    (["E", "--out", "v", "--site", "blocks.0.atn.q"], "perhaps blocks.0.attn.q"),
    (["E", "--out", "v", "--index", "-1"], "--index counts test images from 0; got -1"),
    (["E", "--out", "v", "--index", "0", "--image", "x"], "not allowed with argument"),
    (["E", "--out", "v", "--image", "x.png"], "no image file 'x.png'"),
    (["nowhere", "--out", "v"], "no model 'nowhere'"),
]


@pytest.mark.parametrize(("argv", "message"), MISTAKES)
def test_mistakes_are_one_line(capsys, artefact, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    given = [artefact if word == "E" else word for word in argv]
    code, out, err = run(capsys, "vectors", *given)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_another_size_needs_an_image(capsys, tmp_path):
    engine, _ = engine_of("hf_deit")
    engine.save(tmp_path / "e.safetensors")
    size = " x ".join(map(str, (3, *engine.config.image)))
    code, _, err = run(capsys, "vectors", tmp_path / "e.safetensors", "--out", tmp_path / "v")
    assert code == 2
    assert f"reads images of {size}, shapes10 has 3 x 32 x 32; give --image FILE" in err


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")
def test_the_testbench_agrees_in_a_simulator_and_a_wrong_rounding_is_found(
    capsys, artefact, tmp_path
):
    out = tmp_path / "v"
    assert run(capsys, "vectors", artefact, "--out", out, "--site", "head")[0] == 0
    assert simulated(TESTBENCH, out / "head") == "0 of 10 codes differ"
    code, text, _ = run(capsys, "vectors", "--replay", out)
    assert (code, text) == (0, "1 of 1 outputs match\n")
    floored = tmp_path / "floored.sv"
    floored.write_text(TESTBENCH.read_text().replace("(64'sd1 <<< (n - 1))", "64'sd0"))
    assert simulated(floored, out / "head").startswith("code ")
    assert run(capsys, "vectors", "--replay", out)[0] == 1


def simulated(source, site):
    """Compile a testbench for the last linear, run it on its folder, and return what it says."""
    program = site.with_name("testbench.vvp")
    sizes = [f"-Ptestbench.{size}" for size in ("ROWS=1", "IN=48", "OUT=10", "Y=16")]
    subprocess.run(["iverilog", "-g2012", *sizes, "-o", program, source], check=True)
    done = subprocess.run(["vvp", program, f"+dir={site}"], capture_output=True, check=True)
    return done.stdout.decode().strip()


def test_the_testbench_names_files_and_sizes_of_its_site(one_block):
    """A folder of blocks.0.mlp.fc1 has what that of blocks.1.mlp.fc1 has."""
    text = TESTBENCH.read_text()
    for name in re.findall(r'dir, "/(\w+\.hex)"', text):
        assert name == "output.hex" or (one_block / "blocks.1.mlp.fc1" / name).is_file()
    assert "ROWS = 65, IN = 48, OUT = 192" in text
    assert text.count("\n") < 50
