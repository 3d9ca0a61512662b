"""What the sub-commands share: a float model or a line, options that mean nothing, processes."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children

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


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C in the block and in processes that begin in it; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)


@contextmanager
def processes(jobs: int) -> Iterator[ProcessPoolExecutor | None]:
    """Yield an executor of `jobs` processes, None for one job; what waits is dropped at the end.

    A terminal sends Ctrl-C to every process: the workers ignore it, and are terminated, whatever
    they do, when it leaves the block.
    """
    if jobs == 1:
        yield None
        return
    ignore, others = (signal.SIGINT, signal.SIG_IGN), active_children()
    pool = ProcessPoolExecutor(jobs, initializer=signal.signal, initargs=ignore)
    try:
        with uninterrupted():
            pool.submit(int)  # begins the workers here, deaf before their initializer runs
        yield pool
    except KeyboardInterrupt:
        with uninterrupted():
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(active_children()) - set(others):
                worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
