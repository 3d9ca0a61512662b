"""The cells of an exercise: the stub that a learner fills, and the solution, from one function.

The answer in `refvit.course.nbNN` is the only copy. Its annotations are left out of both cells, and
its body stands between the markers that nbgrader reads.
"""

from __future__ import annotations

import ast
import inspect
import textwrap

from refvit.course.exercise import Exercise

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"


def stub(exercise: Exercise) -> str:
    """Return the cell of the learner: signature, task, and an error that says it is not written."""
    head, _ = _parts(exercise)
    return f"{head}\n    raise NotImplementedError"


def solution(exercise: Exercise) -> str:
    """Return the cell with the solution."""
    head, body = _parts(exercise)
    return f"{head}\n    {BEGIN}\n{body}\n    {END}"


def checked(exercise: Exercise) -> str:
    """Return the cell that checks it."""
    return f'refvit.check("{exercise.id}", {exercise.name})'


def _parts(exercise: Exercise) -> tuple[str, str]:
    """Return `def` and docstring, and the lines that follow them."""
    text = textwrap.dedent(inspect.getsource(exercise.answer))
    function = ast.parse(text).body[0]
    assert isinstance(function, ast.FunctionDef), exercise.id
    first, *rest = function.body
    assert rest, f"{exercise.id} has no body"
    assert ast.get_docstring(function), f"{exercise.id} has no task"
    lines = text.splitlines()
    asked = lines[first.lineno - 1 : first.end_lineno]
    body = lines[first.end_lineno :]
    names = ast.unparse(_bare(function.args))
    return "\n".join([f"def {function.name}({names}):", *asked]), "\n".join(body).strip("\n")


def _bare(arguments: ast.arguments) -> ast.arguments:
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        argument.annotation = None
    return arguments
