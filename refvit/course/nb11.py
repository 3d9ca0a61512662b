"""The exercises of notebook 11."""

from __future__ import annotations

from refvit.course.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = ()
