"""Files whose zero points do not fit together, or prove what is not so, are refused in one line."""

import dataclasses

import numpy as np
import pytest
from asymmetric_models import shifted

import refvit
from refvit.params import Params
from refvit.quant import QParams

FC1, ACT, FC2 = (f"blocks.0.mlp.{name}" for name in ("fc1", "act", "fc2"))
SOFTMAX = "blocks.0.attn.softmax"
TAMPERED = [
    (f"{FC1}.zero_point", lambda t: t + 1, f"{ACT}.input0_zero_point lies in"),
    (f"{FC1}.zero_point", lambda t: t + 300, r"fc1.zero_point lies in \[\d+, \d+\], it must in"),
    (f"{FC1}.zero_point", lambda t: t.reshape(1), "fc1.zero_point is int32"),
    (f"{FC1}.zero_point", None, f"{ACT}.input0_\\w+ is no constant of this model"),
    (f"{ACT}.input0_zero_point", lambda t: t - 1, f"{ACT}.input0_zero_point lies in"),
    (f"{FC2}.input0_zero_point", None, f"it lacks {FC2}.input0_zero_point"),
    (f"{FC2}.input0_clamp", lambda t: t // 2, f"{FC2}.input0_clamp"),
    (f"{FC1}.zero_point", lambda t: 0 * t, "fc1.zero_point is 0; a file of such codes leaves it"),
    (f"{SOFTMAX}.multiplier", lambda t: -t, r"softmax.multiplier lies in \[-.* in \[0, 16777215\]"),
    (f"{ACT}.twin", lambda t: np.array(1, np.int32), "codes are twin or have a zero point"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "said"), TAMPERED, ids=range(len(TAMPERED)))
def test_a_file_that_claims_another_zero_point_is_refused(name, change, said, tmp_path):
    quantized, _ = shifted("vit", 0, share=1.0)
    shift = {s: QParams(0.1, 8, False, zero_point=z) for s, z in ((FC1, 100), (ACT, 9))}
    engine = refvit.compile(dataclasses.replace(quantized, qparams={**quantized.qparams, **shift}))
    constants = dict(engine.constants.items())
    held = constants.pop(name, None)
    if change is not None:
        constants[name] = change(held)
    dataclasses.replace(engine, constants=Params(constants)).save(tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match=said) as error:
        refvit.load(tmp_path / "b.safetensors")
    assert "\n" not in str(error.value)
