"""An answer called safely: on copies, for a limited time, its prints kept, its errors caught.

Whatever a learner's function does, `check` ends and says what happened. The function runs in a
thread of its own, so that a loop without an end can be left: Python lets one thread raise an
exception in another, and if the loop swallows even that, the thread is abandoned. Where there are
no threads, as in a browser, the function is called directly and can only be stopped by hand.
"""

from __future__ import annotations

import copy
import ctypes
import io
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any, TypeVar

import numpy as np

from refvit.course.exercise import Answer

Result = TypeVar("Result")
PROCESSOR_SECONDS = 2.0  # for one case; the solutions take milliseconds
CALL_SECONDS = 10.0  # by the clock, for one case; a busy machine or an answer that sleeps
ALL_SECONDS = 60.0  # by the clock, for everything; `grade` waits longer
NOT_WRITTEN = "it is not written yet"
WRITES = "it writes to its argument: change a copy, made with x.copy()"
CHANGES = "it changes its argument: change a copy, made with copy.deepcopy(x)"


class Trouble(Exception):
    """An answer did not come to an answer; the message says why, as one clause."""


class TooLong(BaseException):
    """Raised in the thread of an answer that does not end; no `except Exception` stops it."""


class Guard:
    """Calls an answer, and knows which case it is at, so that others can stop it."""

    def __init__(self) -> None:
        self.began: tuple[float, float] | None = None  # by the clock, and of this thread
        self.arguments: tuple[Any, ...] = ()
        self.printed = ""
        self.abandoned = False

    def call(self, answer: Answer, arguments: tuple[Any, ...]) -> Any:
        """Return `answer(*arguments)` on copies; `Trouble` if it raises or writes to them."""
        handed = copy.deepcopy(arguments)
        self.arguments, prints = arguments, io.StringIO()
        self.began = time.monotonic(), time.thread_time()
        try:
            with redirect_stdout(prints):
                found = answer(*handed)
        except NotImplementedError:
            raise Trouble(NOT_WRITTEN) from None
        except TooLong:
            raise
        except BaseException as error:
            raise Trouble(_raised(error)) from None
        finally:
            self.began = None
            self.printed = "" if prints.closed else prints.getvalue()
        for before, after in zip(arguments, handed, strict=True):
            if not _same(before, after):
                raise Trouble(WRITES if isinstance(before, np.ndarray) else CHANGES)
        if found is None:
            raise Trouble("it returns None: is a return missing?")
        return found

    def late(self, thread: threading.Thread) -> bool:
        """Whether the call under way in a thread has had its time."""
        began = self.began
        if began is None:
            return False
        worked = _processor_time(thread)
        return time.monotonic() - began[0] > CALL_SECONDS or (
            worked is not None and worked - began[1] > PROCESSOR_SECONDS
        )


def within_time(guard: Guard, work: Callable[[], Result], late: Callable[[], Result]) -> Result:
    """Return `work()`, which calls answers by `guard`, or `late()` if one of them does not end."""
    found: list[Result | BaseException] = []

    def run() -> None:
        try:
            with np.errstate(all="ignore"):
                found.append(work())
        except TooLong:
            found.append(late())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    with warnings.catch_warnings(), redirect_stdout(sys.stdout):  # given back by a thread or not
        warnings.simplefilter("ignore")
        try:
            thread.start()
        except RuntimeError:  # no threads here
            run()
        else:
            _wait(thread, guard)
    if not found and thread.is_alive():
        guard.abandoned = True
    outcome = found[0] if found else late()
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _wait(thread: threading.Thread, guard: Guard) -> None:
    """Wait for a thread; one whose answer is late is interrupted a few times, then abandoned."""
    ends = time.monotonic() + ALL_SECONDS
    try:
        while thread.is_alive():
            thread.join(0.02)
            if thread.is_alive() and (guard.late(thread) or time.monotonic() > ends):
                break
    finally:  # also where the learner interrupts
        for _ in range(5):
            if thread.is_alive():
                _raise_in(thread, TooLong)
                thread.join(0.2)


def _processor_time(thread: threading.Thread) -> float | None:
    """Return the seconds that a thread has worked, or None on a system that does not say."""
    clock = getattr(time, "pthread_getcpuclockid", None)
    try:
        return None if clock is None else time.clock_gettime(clock(thread.ident))
    except OSError:  # it has just ended
        return None


def _raise_in(thread: threading.Thread, kind: type[BaseException]) -> None:
    ident = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(kind))


def _raised(error: BaseException) -> str:
    """Return what was raised and at which line of whose function."""
    if isinstance(error, SystemExit):
        return "it calls exit()"
    frames = traceback.extract_tb(error.__traceback__)[1:]
    inner = [frame for frame in frames if "<" in frame.filename or "ipykernel" in frame.filename]
    line = (inner or frames[:1])[-1].line if frames else ""
    try:
        said = " ".join(str(error).split())[:200]
    except TooLong:
        raise
    except BaseException:
        said = ""
    where = f" in the line {line!r}" if line else ""
    return f"it raises {type(error).__name__}{': ' + said if said else ''}{where}"


def _same(before: Any, after: Any) -> bool:
    """Whether an argument is what it was: arrays, lists, tuples and dicts of them, and numbers."""
    if isinstance(before, np.ndarray):
        return bool(before.shape == after.shape and before.tobytes() == after.tobytes())
    if isinstance(before, list | tuple):
        return len(before) == len(after) and all(map(_same, before, after))
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(_same(before[k], after[k]) for k in before)
    plain = isinstance(before, int | float | str | np.generic)
    return not plain or repr(before) == repr(after)
