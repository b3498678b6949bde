"""Triton's own definition of `config.pbtxt`, as its client has it."""

import importlib.util
from pathlib import Path

import pytest


def parse_config(path):
    """The configuration as tritonclient's ModelConfig; unknown fields and wrong types are errors."""
    text_format = pytest.importorskip("google.protobuf.text_format")
    return text_format.Parse(Path(path).read_text(encoding="utf-8"), _module().ModelConfig())


def _module():
    """`tritonclient.grpc.model_config_pb2`, without the package around it, which needs grpcio."""
    client = importlib.util.find_spec("tritonclient")
    if client is None:
        pytest.skip("needs tritonclient, which make installs")
    file = Path(client.submodule_search_locations[0], "grpc", "model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
