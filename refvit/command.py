"""What the sub-commands share: a float model or a line, options that mean nothing, processes."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import refvit
from refvit.model import Model


def float_model(args: argparse.Namespace, why: str) -> Model:
    """Return the float model that MODEL names; ValueError with `why` if it is compiled already."""
    model = refvit.load(args.model, **dict(args.known))
    if not isinstance(model, Model):
        raise ValueError(f"{why}; {args.model} is compiled")
    return model


def refuse_options(args: argparse.Namespace, *names: str) -> None:
    """Raise ValueError for an option that was given with an engine, of which it changes nothing."""
    for name in names:
        if getattr(args, name) is not None:
            option = name.replace("_", "-")
            raise ValueError(f"{args.model} is compiled already: --{option} changes nothing of it")


def check_jobs(args: argparse.Namespace) -> None:
    """Raise ValueError unless --jobs, and --count if it was given, are at least 1."""
    if args.jobs < 1 or (args.count is not None and args.count < 1):
        raise ValueError("--jobs and --count are whole numbers of at least 1")


def calibration_images(args: argparse.Namespace, otherwise: int) -> int:
    """Return --calibration-images, or `otherwise` without it; ValueError for fewer than 1."""
    count = otherwise if args.calibration_images is None else int(args.calibration_images)
    if count < 1:
        raise ValueError(f"--calibration-images is at least 1, got {count}")
    return count


def add_running(parser: argparse.ArgumentParser) -> None:
    """Add what a long table is run with: how many processes, and a file to resume from."""
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (1)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON to write and resume from")


def different(*paths: Path | None) -> None:
    """Raise ValueError for two outputs of one command that are the same file."""
    named = [path.resolve() for path in paths if path is not None]
    for path in named:
        if named.count(path) > 1:
            raise ValueError(f"two outputs are {str(path)!r}; name each its own file")


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends, and for good from processes that begin in it."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def processes(jobs: int) -> Iterator[ProcessPoolExecutor | None]:
    """Yield an executor of `jobs` processes, None for one job; what waits is dropped at the end.

    A terminal sends Ctrl-C to every process: the workers ignore it, and are terminated, whatever
    they do, when it leaves the block.
    """
    if jobs == 1:
        yield None
        return
    ignore = (signal.SIGINT, signal.SIG_IGN)
    pool = ProcessPoolExecutor(jobs, initializer=signal.signal, initargs=ignore)
    try:
        with uninterrupted():
            pool.submit(int)  # begins the workers here, deaf before their initializer runs
        yield pool
    except KeyboardInterrupt:
        terminate(pool)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def terminate(pool: ProcessPoolExecutor) -> None:
    """End the workers of `pool` in what they do; Python has no public way before 3.14.

    What waits is cancelled first, as the pool's thread fails on a future that was cancelled by
    others; and that thread is waited for, as the end of Python wakes it while it closes.
    """
    workers = list((pool._processes or {}).values())
    thread: Any = pool._executor_manager_thread
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()
    if thread is not None:
        thread.join()


def stop_once() -> None:
    """Let the first Ctrl-C raise KeyboardInterrupt and those that follow it change nothing: the
    process ends already. Where Ctrl-C is ignored, as in the background, it stays so."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, lambda number, frame: None)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, stop)
