"""The exercises of notebook 09."""

from __future__ import annotations

from refvit.course.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = ()
