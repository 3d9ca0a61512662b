"""`refvit doctor`: does this machine give the integers that every machine must give?

The fast path of the engine leans on a BLAS that keeps every bit of a sum of products of codes, on
NumPy's integers and float64, and on files that are what was written (`refvit.integer.arithmetic`
says why that is enough). Each is held here to answers known beforehand: Python's integers, int64,
pinned digests. Codes follow an integer recipe, so no generator of NumPy's is trusted either.
"""

from refvit.doctor.command import Check, Finding, add_doctor, all_checks, examine, run_doctor
from refvit.doctor.pinned import every_kernel
from refvit.doctor.surroundings import openblas, versions

__all__ = [
    "Check",
    "Finding",
    "add_doctor",
    "all_checks",
    "every_kernel",
    "examine",
    "openblas",
    "run_doctor",
    "versions",
]
