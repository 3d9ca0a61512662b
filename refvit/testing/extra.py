"""The one door to Hypothesis: the extra `test`, and `notebooks` has it too.

`refvit.testing` and `refvit.course` import it from here, so that where it is missing there is one
line that says what to install, and `import refvit` never meets it.
"""

try:
    import hypothesis
    from hypothesis import strategies as st
except ModuleNotFoundError as missing:
    raise ImportError(
        "refvit.testing and refvit.check draw their cases with Hypothesis, and "
        f"{missing.name} is not installed: pip install 'refvit[test]' or 'refvit[notebooks]'"
    ) from None

__all__ = ["hypothesis", "st"]
