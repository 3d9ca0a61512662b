"""Operators: the protocol, and its float and shape interpreters."""

from refvit.ops.float_ops import FloatOps
from refvit.ops.protocol import Ops
from refvit.ops.shape_ops import Shape, ShapeOps
from refvit.ops.taps import Record, Tap, compose

__all__ = ["FloatOps", "Ops", "Record", "Shape", "ShapeOps", "Tap", "compose"]
