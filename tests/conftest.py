"""What all tests share: Hypothesis profiles, strict floating point, and optional peer data."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("default", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

collect_ignore_glob = ["golden/*", "benchmarks/*"]  # scripts, not tests

BESIDE = Path(__file__).resolve().parents[2] / "shared"
SHARED = Path(os.environ.get("REFVIT_SHARED", BESIDE))


@pytest.fixture(autouse=True)
def strict_floats():
    """No operation may overflow, divide by zero, underflow or make a NaN unnoticed."""
    with np.errstate(all="raise"):
        yield


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    """matplotlib warns of more than twenty."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def shared():
    """The folder of peers' checkpoints and recordings, which a checkout need not have."""
    if not SHARED.is_dir():
        pytest.skip("the folder of peers' checkpoints is not beside this checkout")
    return SHARED
