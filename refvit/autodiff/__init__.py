"""Automatic differentiation: a tape, and one rule for each function that it may hold."""

from refvit.autodiff import numpy_rules, operator_rules
from refvit.autodiff.tape import (
    RULES,
    SPENT,
    Var,
    backward,
    getitem,
    unbroadcast,
    value_and_gradients,
    value_of,
    vjp_of,
)

__all__ = [
    "RULES",
    "SPENT",
    "Var",
    "backward",
    "getitem",
    "numpy_rules",
    "operator_rules",
    "unbroadcast",
    "value_and_gradients",
    "value_of",
    "vjp_of",
]
