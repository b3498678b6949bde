"""The one exception a user of onnxplain can cause."""


class OnnxplainError(ValueError):
    """A mistake in what the caller gave: one line that says what was given, what is valid and what to do."""


def one_line(error: BaseException) -> str:
    """The message of a foreign exception, on a single line."""
    return " ".join(str(error).split()) or type(error).__name__
