"""The one door to Hypothesis, which nothing else in refvit needs: the extra `test`.

`refvit.testing` imports it from here, so that where it is missing there is one line that says what
to install, and `import refvit` never meets it.
"""

try:
    import hypothesis
    from hypothesis import strategies as st
except ModuleNotFoundError as missing:
    raise ImportError(
        f"refvit.testing draws its cases with Hypothesis, and {missing.name} is not installed: "
        "pip install refvit[test]"
    ) from None

__all__ = ["hypothesis", "st"]
