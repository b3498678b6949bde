"""The model configuration of Triton, `config.pbtxt`: inputs and outputs as its onnxruntime backend compares them.

Source: "Model Configuration" of Triton's user guide, and `ModelConfig` in its model_config.proto.
"""

from collections.abc import Iterable
from pathlib import Path

from onnxplain.contract.errors import ArtifactError, OnnxplainError
from onnxplain.contract.interface import Tensor, inputs, outputs
from onnxplain.contract.metadata import Metadata
from onnxplain.contract.validation import COUNT, is_int

LABELS = "labels.txt"

TYPES = {"float32": "FP32", "int64": "INT64", "uint8": "UINT8", "bool": "BOOL"}
"""Triton's names, as requests write them; in a configuration they begin with TYPE_."""

CONFIG = """\
# Triton puts the batch axis before all dims: dims [ -1 ] is [batch, any number].
name: "{name}"
platform: "onnxruntime_onnx"
backend: "onnxruntime"
max_batch_size: {max_batch_size}  # images in one run: more of them need more memory

# Requests that wait while a run goes on become one batch, as far as all their inputs have the same shape.
# max_queue_delay_microseconds makes the first of them wait for more.
dynamic_batching {{ }}

input [
{inputs}
]
output [
{outputs}
]

# One copy of the model on each GPU; without any, one on the CPU, of which a run takes all cores.
instance_group [ {{ count: 1 kind: KIND_AUTO }} ]

# On GPUs: TF32 keeps ten bits of a float32's mantissa, too few for relevance. Releases from mid-2024 on know this.
optimization {{
  execution_accelerators {{
    gpu_execution_accelerator [ {{ name: "cuda" parameters {{ key: "use_tf32" value: "0" }} }} ]
  }}
}}
"""


def check_servable(artifact: Path, metadata: Metadata) -> None:
    """Check that Triton can serve an artifact in batches.

    Args:
        artifact: The file, for the error.
        metadata: Its metadata.

    Raises:
        ArtifactError: It has optional inputs, which Triton refuses together with batches.
    """
    if not any(item.optional for item in inputs(metadata)):
        return
    if metadata.heatmaps:
        raise ArtifactError(
            f"{artifact}: Triton takes no optional inputs in batches, and the flags of this artifact are optional; "
            "export it again with `flags='required'`, or with `flags='none'` to compute all heatmaps in each run"
        )
    raise ArtifactError(
        f"{artifact}: Triton takes no optional inputs in batches, and the flags of a full artifact are optional; "
        "export it again with `heatmaps`, the methods to serve"
    )


def config_text(name: str, metadata: Metadata, max_batch_size: int) -> str:
    """The text of `config.pbtxt`.

    Args:
        name: Of the model in the server, and of its folder.
        metadata: The artifact's; `check_servable` it first.
        max_batch_size: How many images a run takes at most.

    Raises:
        OnnxplainError: `max_batch_size` is not an integer from 1 to COUNT.
    """
    if not is_int(max_batch_size, 1):
        raise OnnxplainError(f"`max_batch_size` must be an integer from 1 to {COUNT}, got {max_batch_size!r}")
    return CONFIG.format(
        name=name,
        max_batch_size=max_batch_size,
        inputs=_entries(inputs(metadata)),
        outputs=_entries(outputs(metadata)),
    )


def _entries(tensors: Iterable[Tensor]) -> str:
    return ",\n".join(f"  {{ {_entry(tensor)} }}" for tensor in tensors)


def _entry(tensor: Tensor) -> str:
    _, *lengths = tensor.shape
    entry = f'name: "{tensor.name}" data_type: TYPE_{TYPES[tensor.type]} '
    if not lengths:  # dims may not be empty: requests send [batch, 1], the graph gets [batch]
        return f"{entry}dims: [ 1 ] reshape: {{ shape: [ ] }}"
    dims = ", ".join("-1" if isinstance(length, str) else str(length) for length in lengths)
    labels = f' label_filename: "{LABELS}"' if tensor.name == "logits" else ""
    return f"{entry}dims: [ {dims} ]{labels}"
