"""A function on trial: called with copies of drawn cases, refused by the smallest that fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from refvit.testing.extra import hypothesis, st

IntArray = NDArray[Any]
Case = Mapping[str, Any]
Index = tuple[int, ...]
EXAMPLES = 100
SHOWN = 12  # elements of an array that a message prints


class LawError(AssertionError):
    """An implementation breaks a law; the message is one line.

    `operator` is what was tried, `clause` the clause of the specification, `law` what it asks,
    `case` the smallest inputs found, by name, `expected` and `found` the two answers, and `where`
    the index of the element they are at, if there is more than one.
    """

    def __init__(
        self,
        operator: str,
        clause: str,
        law: str,
        case: Case,
        expected: Any,
        found: Any,
        where: Index = (),
    ) -> None:
        super().__init__(operator, clause, law, case, expected, found, where)  # so it pickles
        self.operator, self.clause, self.law = operator, clause, law
        self.case, self.expected, self.found, self.where = case, expected, found, where

    def __str__(self) -> str:
        inputs = ", ".join(f"{name}={describe(value)}" for name, value in self.case.items())
        at = f", at {list(self.where)}" if self.where else ""
        answers = f"expected {describe(self.expected)}, found {describe(self.found)}"
        return f"{self.operator} breaks clause {self.clause} ({self.law}): {inputs}{at}: {answers}"


def describe(value: Any) -> str:
    """Return a short form of an input or an answer.

    >>> describe(np.array([[7]])), describe(np.array([1, 2])), describe(np.full(99, 3, np.int8))
    ('7', '[1, 2]', 'int8[99] all 3')
    """
    if not isinstance(value, np.ndarray):
        return str(value)
    kind = "float32 " if value.dtype == np.float32 else ""  # the other types go without saying
    if value.size == 1:
        return kind + str(value.item())
    if value.size <= SHOWN:
        return kind + str(value.tolist())
    head = f"{value.dtype}{list(value.shape)}"
    kinds, counts = np.unique(value, return_counts=True)
    most = kinds[counts.argmax()]
    others = [tuple(map(int, index)) for index in np.argwhere(value != most)]
    if len(others) > 3:
        return f"{head} from {np.ravel(value)[:4].tolist()} on"
    but = ", ".join(f"{value[index]} at {list(index)}" for index in others)
    return f"{head} all {most}" + (f" but {but}" if but else "")


@dataclass(frozen=True)
class Trial:
    """One function, the operator it should be, and the clause that says so."""

    operator: str
    clause: str
    fn: Callable[..., Any]

    def refuse(
        self, law: str, case: Case, expected: Any, found: Any, where: Index = ()
    ) -> NoReturn:
        """Raise the error: here and nowhere else, so that Hypothesis shrinks all as one failure."""
        raise LawError(self.operator, self.clause, law, case, expected, found, where)

    def call(self, case: Case, *args: Any) -> Any:
        """Return `fn(*args)`, handed copies; its exceptions and its writing to them are refused."""
        handed = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
        out, trouble = None, ""
        try:
            out = self.fn(*handed)
        except NotImplementedError:
            raise  # what is not written yet breaks no law
        except Exception as error:
            trouble = f"{type(error).__name__}: {error}".splitlines()[0]
        if trouble:  # raised out here, an error of its own without a context
            self.refuse("an answer to every input", case, "codes", trouble)
        for before, after in zip(args, handed, strict=True):
            if isinstance(before, np.ndarray) and not np.array_equal(before, after):
                self.refuse("inputs are not written to", case, before, after)
        return out

    def codes(self, out: Any, case: Case, shape: Index) -> IntArray:
        """Return `out` as int64 once it is an integer array of that shape."""
        if not isinstance(out, np.ndarray):
            self.refuse("an array", case, "an integer array", f"{type(out).__name__} {out!r:.40}")
        if out.dtype.kind not in "iu":
            nan = out.dtype.kind == "f" and np.isnan(out).any()
            found = f"{out.dtype} with NaN" if nan else f"{out.dtype} {out.ravel()[:1].tolist()}"
            self.refuse("codes are integers", case, "an integer array", found)
        if out.shape != shape:
            self.refuse("the shape", case, list(shape), list(out.shape))
        return out.astype(np.int64)

    def agree(
        self,
        law: str | Callable[[Index], str],
        case: Case,
        expected: Any,
        found: IntArray,
        within: Any = 0,
    ) -> None:
        """Refuse the first element of `found` farther than `within` from `expected`.

        `law` may be a function of the element's index.
        """
        wrong = np.argwhere(np.abs(found.astype(np.float64) - expected) > within)
        if len(wrong):
            index = tuple(map(int, wrong[0]))
            wanted = np.broadcast_to(expected, found.shape)[index].item()
            wanted = float(f"{wanted:.6g}") if isinstance(wanted, float) else wanted
            name = law if isinstance(law, str) else law(index)
            self.refuse(name, case, wanted, int(found[index]), index if found.size > 1 else ())

    def hold(
        self,
        cases: st.SearchStrategy[Any],
        law: Callable[[Any], None],
        examples: int = EXAMPLES,
    ) -> None:
        """Try `law` on drawn cases, always the same ones; raise the LawError of the smallest.

        A loaded profile of 2000 examples draws 20 times as many. A function that answers the same
        input in two ways is refused as well.
        """
        __tracebackhide__ = True
        refused: list[LawError] = []

        def run(case: Any) -> None:
            try:
                law(case)
            except LawError as error:
                refused.append(error)
                raise

        try:
            settings(examples)(hypothesis.given(cases)(run))()
            return
        except LawError as error:
            smallest = error
        except hypothesis.errors.Flaky:
            last = refused[-1]
            smallest = LawError(
                self.operator, self.clause, "the same answer every time", last.case,
                last.expected, f"{describe(last.found)} and, asked again, another",
            )  # fmt: skip
        raise LawError(*smallest.args)  # without the notes and frames of Hypothesis


def settings(examples: int) -> hypothesis.settings:
    """Return settings that draw the same cases on every machine and keep no files."""
    return hypothesis.settings(
        max_examples=examples * max(1, hypothesis.settings().max_examples // 100),
        derandomize=True,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        verbosity=hypothesis.Verbosity.quiet,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
    )
