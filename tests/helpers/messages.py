"""What a mistake is answered with."""

import pytest

from onnxplain.runtime import OnnxplainError


def message_of(call, *args, **options):
    """The error's text, which must be one line that a person can read."""
    with pytest.raises(OnnxplainError) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message
