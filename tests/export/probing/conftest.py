"""Folders of images for all tests of probing."""

from tests.helpers.digits import digits, own  # noqa: F401
