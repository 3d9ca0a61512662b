"""Exercises of notebook 01 on rollout (Abnar and Zuidema 2020, section 3) and on DeiT (Touvron et
al. 2021, section 4)."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refvit.course.compare import closely
from refvit.course.exercise import Exercise, Wrong
from refvit.testing.extra import st

Array = NDArray[Any]


def rollout(weights: Array) -> Any:
    """Return the attention rollout [N, N] of the attention weights [L, N, N] of L blocks.

    weights[0] is the first block's, and weights[l][i, j] says how much token i takes of token j;
    every row sums to 1. A residual connection adds a token to what it takes, so half of it comes
    from itself: block l mixes by (weights[l] + I) / 2. Row i of the result says how much of each
    token of the image is in token i behind the last block. L and N are at least 1.
    """
    found = np.eye(weights.shape[1])
    for block in weights:
        found = (block + np.eye(len(block))) / 2 @ found
    return found


def _rolled(mixed: Any) -> Array:
    return np.asarray(functools.reduce(lambda found, block: block @ found, mixed))


def by_paths(weights: Array) -> Array:
    """Return the same as a sum over all paths from a last token back to a first."""
    blocks, tokens, _ = weights.shape
    mixed, found = (weights + np.eye(tokens)) / 2, np.zeros((tokens, tokens))
    for path in itertools.product(range(tokens), repeat=blocks + 1):
        steps = zip(mixed[::-1], path, path[1:], strict=False)
        found[path[0], path[-1]] += np.prod([block[i, j] for block, i, j in steps])
    return found


def stacks() -> st.SearchStrategy[Array]:
    """Draw weights [L, N, N] whose rows are counts divided by their sum."""

    def of(sizes: tuple[int, int]) -> st.SearchStrategy[Array]:
        blocks, tokens = sizes
        row = st.lists(st.integers(0, 3), min_size=tokens, max_size=tokens)
        counts = st.lists(row, min_size=blocks * tokens, max_size=blocks * tokens)
        return counts.map(lambda c: _shares(np.array(c, np.float64), (blocks, tokens, tokens)))

    return st.tuples(st.integers(1, 3), st.integers(1, 3)).flatmap(of)


def _shares(counts: Array, shape: tuple[int, ...]) -> Array:
    counts[:, 0] += counts.sum(axis=1) == 0
    return np.asarray(counts / counts.sum(axis=1, keepdims=True)).reshape(shape)


ROLLOUT = Exercise(
    id="nb01.rollout",
    title="attention followed through all blocks",
    answer=rollout,
    truth=by_paths,
    judge=closely(1e-9),
    cases=st.tuples(stacks()),
    returns="rollout",
    hints=(
        "Mixing by A and then by B is mixing by the matrix product B @ A: the later one is left.",
        "Begin with np.eye(N), every token itself, and let each block mix what is there.",
        "found = (block + np.eye(N)) / 2 @ found, from the first block to the last.",
    ),
    wrong=(
        Wrong("backwards", "blocks multiplied from the wrong side: a later one goes to the left",
              lambda weights: _rolled([(w + np.eye(len(w))) / 2 for w in weights[::-1]])),
        Wrong("no_residual", "a product without the residual connection",
              lambda weights: _rolled(weights)),
        Wrong("not_halved", "weights + I without the half, so that rows do not sum to 1",
              lambda weights: _rolled([w + np.eye(len(w)) for w in weights])),
        Wrong("last_only", "the last block alone, which sees tokens that are mixed already",
              lambda weights: (weights[-1] + np.eye(weights.shape[1])) / 2),
        Wrong("mean", "a mean over blocks, where one works on what the other made",
              lambda weights: (weights.mean(axis=0) + np.eye(weights.shape[1])) / 2),
        Wrong("elementwise", "products of elements (*) where the matrix product (@) was meant",
              lambda weights: np.prod((weights + np.eye(weights.shape[1])) / 2, axis=0)),
        Wrong("columns", "rows and columns exchanged: who gives, where who takes was asked",
              lambda weights: by_paths(weights).T),
    ),
)  # fmt: skip


def deit_extra() -> int:
    """Predict how many parameters nano_deit has more than nano_vit.

    Both have width 48 and 10 classes. nano_deit has one more token, for distillation, with a place
    of its own among the position embeddings, and that token has a head of its own, a linear layer.
    """
    token, place = 48, 48
    head = 10 * 48 + 10
    return token + place + head


@functools.cache
def counted_extra() -> int:
    """Count it in the two models."""
    import refvit

    both: list[Any] = [refvit.load(name) for name in ("nano_deit", "nano_vit")]
    deit, vit = (sum(tensor.size for _, tensor in model.params.items()) for model in both)
    return int(deit - vit)


DEIT = Exercise(
    id="nb01.deit_extra",
    title="predict what distillation adds to a model",
    answer=deit_extra,
    truth=counted_extra,
    cases=st.just(()),
    returns="parameters",
    hints=(
        "Three things are added: the token itself, its position embedding, its head.",
        "A linear layer from 48 numbers to 10 has 10 x 48 weights and 10 biases.",
    ),
    wrong=(
        Wrong("token_only", "the token alone; it has a place and a head besides", lambda: 48),
        Wrong("no_place", "a token without a position embedding", lambda: 48 + 490),
        Wrong("no_bias", "a head without biases", lambda: 96 + 480),
        Wrong("no_head", "a token that shares the head of the class token", lambda: 96),
        Wrong("head_only", "the second head without the token that it reads", lambda: 490),
    ),
)
