"""What a mistake is answered with."""

import pytest

from onnxplain.runtime import OnnxplainError


def message_of(call, *args, most=400, **options):
    """The error's text, which must be one line of fewer than ``most`` characters."""
    with pytest.raises(OnnxplainError) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < most
    return message
