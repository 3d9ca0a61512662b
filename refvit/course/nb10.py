"""The exercises of notebook 10."""

from __future__ import annotations

from refvit.course.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = ()
