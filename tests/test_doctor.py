"""`refvit doctor`: a sound machine passes, and every check fails where it should."""

import json
import re
import runpy
import shutil
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import refvit
from refvit.cli import main
from refvit.doctor import Check, all_checks, command, every_kernel, examine, openblas, versions
from refvit.doctor.exact import check_engine, check_figures, check_products, check_requantize
from refvit.doctor.pinned import KERNELS
from refvit.integer import FAST, PLAIN

GOLDEN = Path(__file__).parent / "golden" / "nano_vit_w8a8.safetensors"


def run(capsys, *argv):
    code = main(["doctor", *map(str, argv)])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_this_machine_is_sound_and_a_log_stays_clean(capsys):
    code, out, err = run(capsys, GOLDEN)
    assert (code, err) == (0, ""), out
    above, checks, end = out.split("\n\n")
    assert np.__version__ in above
    lines = checks.splitlines()
    assert len(lines) == len(all_checks([GOLDEN]))
    assert all(line.endswith("  ok") for line in lines)
    assert end.startswith("All checks passed, ")


def test_both_arithmetics_have_the_pinned_kernels():
    assert every_kernel(PLAIN) == KERNELS
    assert every_kernel(FAST) == KERNELS


def unsplit(a, b, most=None):
    """One float32 product, however long."""
    return np.matmul(a.astype(np.float32), b.astype(np.float32))


def ten_bits(x):
    """Float32 with its mantissa cut to that of TF32."""
    return (x.astype(np.float32).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def short_codes(a, b, most):
    """TF32 reads codes so and sums them in full: 8 bits survive it, 16 do not."""
    return np.matmul(ten_bits(a).astype(np.float64), ten_bits(b).astype(np.float64))


def short_sums(a, b, most):
    return ten_bits(FAST.matmul(a, b, most))


def one_cut_for_all(a, b, most):
    """Pieces of 1,024 are right for int8, too long for uint8."""
    return unsplit(a, b) if a.itemsize == 1 and a.shape[-1] <= 1024 else FAST.matmul(a, b, most)


def as_long_as_bytes(a, b, most):
    """Codes less a zero point taken for codes: pieces of them are too long."""
    return FAST.matmul(a, b, tuple(min(m, 128) for m in most))


def wrong_when_transposed(a, b, most):
    return FAST.matmul(a, b, most) + (b.shape[-1] > 60 and not b.flags.c_contiguous)


def wrong_in_batches(a, b, most):
    return FAST.matmul(a, b, most) * (1 if a.ndim == 2 else -1)


@pytest.mark.parametrize(
    ("matmul", "codes", "message"),
    [
        (unsplit, "int8 x int8", "[1, 1025] @ [1025, 1] in orders C and C: 1 of 1 differ, "
                                 "at [0, 0] 16793344 where 16793345 is right"),
        (unsplit, "uint8 x int8", "[1, 515] @ [515, 65] in orders C and C: 16 of 65 differ, "
                                  "at [0, 4] -16809216 where -16809217 is right"),
        (unsplit, "int16 x int8", "[1, 64] @ [64, 1]"),
        (short_codes, "int16 x int8", "[1, 4] @ [4, 1]"),
        (short_codes, "int16 x int16", "[1, 64] @ [64, 1]"),
        (as_long_as_bytes, "9 bits x int8", "[1, 515] @ [515, 65]"),
        (as_long_as_bytes, "9 bits x 9 bits", "[1, 259] @ [259, 65]"),
        (short_sums, "int8 x int8", "[1, 64] @ [64, 1]"),
        (one_cut_for_all, "uint8 x int8", "[1, 515] @ [515, 65]"),
        (wrong_when_transposed, "int8 x int8", "[1, 64] @ [64, 65] in orders C and F: 65 of 65"),
        (wrong_in_batches, "int8 x int8", "[2, 3, 17, 64] @ [2, 3, 64, 9] in orders C and C"),
    ],
)  # fmt: skip
def test_a_product_that_loses_a_bit_is_found_and_told(matmul, codes, message):
    assert check_products(FAST._replace(matmul=matmul), codes).startswith(message)


def rounding(round_half, dtype=np.float64):
    """Requantization in floats of `dtype` by another rounding."""

    def requantize(acc, multiplier, shift, lo, hi, bias=None):
        total = acc.astype(np.float64) + (0 if bias is None else bias)
        scaled = total.astype(dtype) * np.ldexp(multiplier.astype(dtype), -shift)
        return np.clip(round_half(scaled.astype(np.float64)), lo, hi)

    return requantize


@pytest.mark.parametrize(
    "requantize",
    [
        rounding(np.rint),
        rounding(lambda x: np.floor(x + 0.5), np.float32),
        rounding(lambda x: np.trunc(x + 0.5)),
        rounding(lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5)),
        rounding(lambda x: np.floor(x + 0.4999999)),
        rounding(lambda x: np.floor(x + 0.5)),
    ],
    ids=[
        "ties to even",
        "float32",
        "toward zero",
        "ties away from zero",
        "a hair below one half",
        "right but for 31 bits by 24, which float64 cannot hold",
    ],
)
def test_another_rounding_is_found(requantize):
    found = check_requantize(FAST._replace(requantize=requantize))
    assert re.match(r"int32 to \[-\d+, \d+\]: .* differ, at .* is right$", found)


def test_a_root_or_a_bit_length_that_is_off_by_one_is_found():
    single = FAST._replace(root=lambda n: np.sqrt(n.astype(np.float32)).astype(np.int32))
    assert check_figures(single).startswith("roots: ")
    single = FAST._replace(bits=lambda n: np.frexp(n.astype(np.float32))[1])
    assert check_figures(single).startswith("bits: ")


def test_a_kernel_is_named_with_what_is_wrong_of_it(monkeypatch):
    spoilt = FAST._replace(elementwise=lambda kernel, codes: kernel(codes) ^ 1)
    assert "the FAST codes of softmax" in command.check_kernels("refvit", spoilt)
    pins = KERNELS["ivit"]["gelu"]
    monkeypatch.setitem(KERNELS["ivit"], "gelu", ("0" * 16, pins[1]))
    message = f"the constants of gelu have digest {pins[0]}, pinned is {'0' * 16}"
    assert command.check_kernels("ivit", FAST) == message


def test_an_engine_that_goes_wrong_is_told_by_its_first_site():
    found = check_engine(FAST._replace(matmul=lambda *given: FAST.matmul(*given) + 5000))
    assert re.match(r"patch_embed: .* of .* differ, at ", found)


def test_a_check_that_fails_makes_exit_code_1_and_the_others_still_run(capsys, monkeypatch):
    spoilt = partial(all_checks, arithmetic=FAST._replace(matmul=unsplit))
    monkeypatch.setattr(command, "all_checks", spoilt)
    code, out, _ = run(capsys)
    assert code == 1
    assert re.search(
        r"^int8 x int8 products +FAILED: \[1, 1025\] @ \[1025, 1\] in orders", out, re.M
    )
    assert re.search(r"^requantize near ties +ok$", out, re.M)
    assert f"6 of {len(all_checks())} checks FAILED" in out
    code, out, _ = run(capsys, "--json")
    found = json.loads(out)
    assert (code, found["ok"]) == (1, False)
    assert [check["ok"] for check in found["checks"]].count(False) == 6
    assert found["versions"]["NumPy"] == np.__version__


def test_a_check_that_raises_has_failed():
    def broken():
        raise MemoryError("no\nroom")

    found = list(examine([Check("one", broken), Check("two", lambda: "")]))
    assert [finding.wrong for finding in found] == ["MemoryError: no room", ""]


def test_images_and_weights_must_be_what_was_written(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "IMAGES", "0" * 64)
    assert command.check_images().startswith("the first 50 have digest 12df3a6c040bb5e5, not 000")
    for path in refvit.checkpoints.weights_folder().iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(command, "weights_folder", lambda: tmp_path)
    assert command.check_weights("nano_vit") == ""
    raw = bytearray((tmp_path / "nano_vit.safetensors").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "nano_vit.safetensors").write_bytes(raw)
    assert re.match("sha256 of the file .{16}, on the card ", command.check_weights("nano_vit"))
    (tmp_path / "nano_vit.json").unlink()
    found = list(examine([Check("weights", partial(command.check_weights, "nano_vit"))]))
    assert found[0].wrong.startswith("FileNotFoundError: no file ")


def test_an_artefact_must_be_whole_and_be_one(capsys, monkeypatch, tmp_path):
    changed, other = tmp_path / "changed.safetensors", tmp_path / "float.safetensors"
    raw = bytearray(GOLDEN.read_bytes())
    raw[-5] ^= 1
    changed.write_bytes(raw)
    shutil.copy(refvit.checkpoints.weights_folder() / "nano_vit.safetensors", other)
    monkeypatch.setattr(command, "all_checks", lambda paths: all_checks(paths)[-len(paths) :])
    code, out, _ = run(capsys, GOLDEN, changed, other)
    assert code == 1
    assert f"{GOLDEN}" in out
    assert "was changed: its digest is" in out
    assert "is not an integer artefact of refvit" in out
    assert "2 of 3 checks FAILED" in out
    code, out, err = run(capsys, tmp_path / "nowhere.safetensors")
    assert (code, out) == (2, "")
    assert "no file" in err


def test_versions_say_what_computes(monkeypatch, tmp_path):
    about = versions()
    assert list(about)[:5] == ["refvit", "Python", "NumPy", "BLAS", "SIMD"]
    assert int(about["cores"]) >= 1
    if openblas() is not None:
        core, threads = openblas()
        assert f"{core} kernels, {threads} thread" in about["BLAS"]
    monkeypatch.setattr(np, "__file__", str(tmp_path / "numpy" / "__init__.py"))
    assert openblas() is None
    assert versions()["BLAS"].endswith("threads unknown")


@pytest.fixture(scope="module")
def environments():
    """The script beside this file, which makes whole environments: here its judgement alone."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("environments.py"))))


FOUND = {"logits": "a", "kernels": "b", "wrong": [], "core": "Haswell", "threads": 2,
         "dispatched": [], "features": ["SSE3", "AVX2"]}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "variables", "outcome"),
    [
        ({}, {}, "same"),
        ({"logits": "c"}, {}, "DIFFERENT: logits"),
        ({"logits": "c", "kernels": "d"}, {}, "DIFFERENT: logits and kernels"),
        ({"wrong": ["weights: none"]}, {}, "FAILED: weights: none"),
        ({}, {"OPENBLAS_CORETYPE": "HASWELL"}, "same"),
        ({"core": "Zen"}, {"OPENBLAS_CORETYPE": "Haswell"},
         "skipped: OpenBLAS took Zen, the same there"),
        ({"core": "Zen", "kernels": "c"}, {"OPENBLAS_CORETYPE": "Haswell"}, "DIFFERENT: kernels"),
        ({"dispatched": ["AVX2"]}, {"NPY_DISABLE_CPU_FEATURES": "AVX2"},
         "skipped: NumPy still dispatches to AVX2"),
    ],
)  # fmt: skip
def test_environments_are_compared_with_the_first(environments, change, variables, outcome):
    assert environments.outcome(FOUND | change, variables, FOUND) == outcome


def test_what_was_skipped_is_no_success(environments):
    def verdict(*outcomes):
        return environments.verdict([environments.Row("x", outcome) for outcome in outcomes])

    assert verdict("same", "same", "skipped: no Python 3.13") == 0
    assert verdict("same", "skipped: x", "skipped: y") == 1
    assert verdict("same", "same", "DIFFERENT: logits") == 1
    assert verdict("same", "same", "FAILED: signal 4") == 1
    labels = [label for label, _ in environments.settings(FOUND | {"dispatched": ["AVX2"]})]
    assert labels == ["1 thread", "2 threads", "no dispatched SIMD", "Prescott kernels",
                      "Haswell kernels", "Zen kernels"]  # fmt: skip
    assert environments.find_python("2.5") is None


@pytest.mark.parametrize(
    ("alone", "outcome"),
    [("signal 11", "skipped: NumPy alone ends there by signal 11"), ("", "FAILED: signal 11")],
)
def test_a_crash_that_numpy_has_alone_is_not_held_against_refvit(
    environments, monkeypatch, alone, outcome
):
    def run(python, variables, program, *arguments):
        return None, "signal 11" if arguments else alone

    monkeypatch.setitem(environments.compared.__globals__, "run", run)
    assert environments.compared("x", "python", GOLDEN, {}, FOUND).outcome == outcome


def test_the_program_runs_in_this_environment(environments):
    found, why = environments.run(sys.executable, {}, environments.PROGRAM, GOLDEN)
    assert why == ""
    assert environments.outcome(found, {}, found) == "same"
    assert environments.run(sys.executable, {}, "raise ValueError('no')")[1] == "ValueError: no"
