"""The notebooks of the course in order, and their exercises by id."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass

from refvit.course.exercise import Exercise


@dataclass(frozen=True)
class Notebook:
    """A notebook: its number, the name of its file, its title, and minutes to work through it."""

    number: int
    file: str
    title: str
    minutes: int

    @property
    def id(self) -> str:
        """What its exercises begin with."""
        return f"nb{self.number:02}"


NOTEBOOKS = (
    Notebook(0, "00_tour", "A tour in five minutes", 15),
    Notebook(1, "01_vit_by_hand", "A ViT by hand", 75),
    Notebook(2, "02_quantizers", "Linear quantizers", 60),
    Notebook(3, "03_granularity", "Granularity", 60),
    Notebook(4, "04_calibration", "Calibration", 60),
    Notebook(5, "05_why_vits_are_hard", "Why ViTs are hard", 60),
    Notebook(6, "06_ptq", "Post-training quantization, end to end", 60),
    Notebook(7, "07_qat", "Quantization-aware training", 60),
    Notebook(8, "08_data_free", "Without any data", 45),
    Notebook(9, "09_integer_arithmetic", "Integer arithmetic", 60),
    Notebook(10, "10_integer_kernels", "Integer softmax, GELU and LayerNorm", 75),
    Notebook(11, "11_roofline_and_accelerator", "Roofline and the accelerator", 90),
    Notebook(12, "12_codesign", "Co-design, the capstone", 60),
)


def exercises_of(notebook: Notebook) -> tuple[Exercise, ...]:
    """Return the exercises of a notebook, in its order."""
    module = importlib.import_module(f"refvit.course.{notebook.id}")
    found: tuple[Exercise, ...] = module.EXERCISES
    return found


def exercises() -> list[Exercise]:
    """Return every exercise of the course, in order."""
    return [exercise for notebook in NOTEBOOKS for exercise in exercises_of(notebook)]


def find(name: str) -> Exercise:
    """Return the exercise with an id; ValueError that names the nearest for any other."""
    known = {exercise.id: exercise for exercise in exercises()}
    if name not in known:
        near = difflib.get_close_matches(str(name), known, 3, 0.5)
        meant = f"; did you mean {' or '.join(near)}?" if near else "; refvit check lists them"
        raise ValueError(f"no exercise {name!r}{meant}")
    return known[name]
