"""The exercises of notebook 08."""

from __future__ import annotations

from refvit.course.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = ()
