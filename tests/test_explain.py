"""Laws of attention rollout."""

import numpy as np
import pytest

import refvit
from refvit.explain import attention_rollout, attention_weights


def test_rollout_keeps_all_of_a_token_and_composes():
    model = refvit.load("nano_vit")
    pixels = model.preprocess.normalise(refvit.data.shapes10("test", 2)[0])
    weights = attention_weights(model, pixels)
    whole = attention_rollout(weights)
    assert whole.shape == (2, 65, 65)
    np.testing.assert_allclose(whole.sum(-1), 1, atol=1e-5)
    parts = attention_rollout(weights[2:]) @ attention_rollout(weights[:2])
    np.testing.assert_allclose(whole, parts, atol=1e-12)


def test_blocks_that_attend_to_themselves_mix_nothing():
    itself = np.broadcast_to(np.eye(3), (2, 4, 3, 3))
    np.testing.assert_array_equal(attention_rollout([itself] * 5), np.eye(3)[None].repeat(2, 0))


def test_weights_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"one shape \[B, heads, N, N\]"):
        attention_rollout([np.ones((1, 1, 2, 2)), np.ones((1, 1, 3, 3))])
