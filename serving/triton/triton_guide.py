"""The README of a model in a repository of Triton: how to start the server, what to send, and what comes back."""

import json
import math
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from onnxplain.contract.interface import Tensor, inputs, outputs, preprocessing_steps
from onnxplain.contract.metadata import Metadata

from .triton_config import LABELS, TYPES

BYTES = {"float32": 4, "int64": 8, "uint8": 1, "bool": 1}
TOP = 5  # classes that the example asks for

GUIDE = """\
# {name}

The model {model}, with {classes} classes, for [Triton](https://github.com/triton-inference-server/server). It gives
the logits of an image and a heatmap of each class asked for, by: {methods}. Written by onnxplain {version}.

- `config.pbtxt`: the model configuration; edit it as you need.
- `1/model.onnx`: the graph, with all weights. `2/model.onnx` would be its next version.
- `{labels}`: the labels of the classes, one per line.
- `metadata.json`: inputs, outputs, preprocessing and all metadata, as `onnxplain info --json` prints them.

## Start the server

In the folder that has `{name}/` in it; YY.MM is a release of Triton, and `--gpus all` gives it the GPUs:

```
docker run --rm -p 8000:8000 -p 8001:8001 -v "$PWD:/models" nvcr.io/nvidia/tritonserver:YY.MM-py3 \\
  tritonserver --model-repository=/models
curl localhost:8000/v2/models/{name}/config
```

If its ONNX Runtime does not know the opset of the graph, take a newer release, or export with a lower `--opset`.

## What goes in

The first axis of every input is the batch, 1 to {max_batch_size} images.

{input_table}

How an image becomes `{image}`:

{steps}

In Python:

```python
{python}
```

## A request

Numbers as text are several times as large as bytes. So the image is sent as bytes behind the JSON document,
little-endian and row by row ("binary tensor data" of the KServe v2 protocol); what is small stands in the document:

```sh
{shell}
```

An input without `binary_data_size` has its numbers as text, `"data": [0.1, …]`; if all have, the document is the whole
request: `curl localhost:8000/v2/models/{name}/infer -d @request.json`. Outputs are text unless they have
`"binary_data": true`.

## What comes back

{output_table}

- The answer to the request above is a JSON document, as long as its header `Inference-Header-Content-Length` says, and
  behind it the bytes of the heatmap: float32, little-endian, row by row. The document has its shape.
- Heatmaps are not scaled. {geometry}
- Probabilities are the {activation} of the logits. `"parameters": {{"classification": {top}}}` on the output `logits`
  gives the greatest as texts `value:index:label`.
- The graph does not check `target`: the heatmap of a class beyond the last is zero everywhere, unless its method gives
  the same for every class.
{flags}
## Batches

Requests that wait are run as one batch of up to {max_batch_size} images, if each of their inputs has the same shape but
for the batch: ask for the same number of classes in each request{same_size}.
"""

FLAGS = """\
- A heatmap is computed for a whole batch if one request in it asks for it, and comes back empty if none does. What is
  not computed takes no time.
"""

PYTHON_IMAGE = """\
from onnxplain.runtime import load_image

image = load_image("cat.jpg")
open("image.bin", "wb").write(image.tobytes())
print(image.height, image.width)\
"""

PYTHON_PIXELS = """\
import json
from onnxplain.runtime import Metadata, load_image, preprocess

metadata = Metadata.from_json(json.dumps(json.load(open("metadata.json"))["metadata"]))
pixels, placement = preprocess(load_image("cat.jpg"), metadata.preprocessing)
pixels.astype("<f4").tofile("pixels.bin")  # placement.place(heatmap) brings a heatmap onto the image\
"""

MEANINGS = {
    "pixels": "the preprocessed image",
    "image": "the image, RGB",
    "target": "the classes to explain: indices; -1 is the top-1 class, -2 the runner-up, …",
    "logits": "of the classes",
    "class_index": "the class that each target stands for",
}
"""Of inputs and outputs; all others belong to a heatmap."""


def guide_text(name: str, metadata: Metadata, max_batch_size: int) -> str:
    """The text of the README.

    Args:
        name: Of the model in the server.
        metadata: The artifact's.
        max_batch_size: As in `config.pbtxt`.
    """
    image, _, *flags = inputs(metadata)
    on_image = metadata.input == "image"
    return GUIDE.format(
        name=name,
        model=" ".join(metadata.model.split()),
        classes=len(metadata.labels),
        methods=", ".join(metadata.heatmaps),
        version=version("onnxplain"),
        labels=LABELS,
        max_batch_size=max_batch_size,
        input_table=_table("input", inputs(metadata)),
        image=image.name,
        steps="\n".join(f"{number}. {step}." for number, step in enumerate(preprocessing_steps(metadata), start=1)),
        python=PYTHON_IMAGE if on_image else PYTHON_PIXELS,
        shell=_shell(name, metadata, image, flags),
        output_table=_table("output", outputs(metadata)),
        geometry="They lie on the image as it was sent."
        if on_image
        else "They lie on `pixels`, the resized and cropped image.",
        activation=metadata.activation,
        top=_top(metadata),
        flags=FLAGS if flags else "",
        same_size=", and send images of the same size" if on_image else "",
    )


def _top(metadata: Metadata) -> int:
    """How many of the greatest logits the example asks for."""
    return min(TOP, len(metadata.labels))


def _table(kind: str, tensors: Iterable[Tensor]) -> str:
    rows = [f"| {kind} | type | shape | meaning |", "|---|---|---|---|"]
    for tensor in tensors:
        what = tensor.name.removeprefix("with_").removeprefix("heatmap_")
        of_method = f"whether to compute the heatmap of {what}" if tensor.type == "bool" else f"the heatmap of {what}"
        shape = ", ".join(map(str, _requested(tensor)))
        rows.append(f"| `{tensor.name}` | {TYPES[tensor.type]} | [{shape}] | {MEANINGS.get(tensor.name, of_method)} |")
    return "\n".join(rows)


def _requested(tensor: Tensor) -> tuple[int | str, ...]:
    """The shape that requests have: a flag's has one more axis, as in `config.pbtxt`."""
    return tensor.shape if len(tensor.shape) > 1 else (*tensor.shape, 1)


def _shell(name: str, metadata: Metadata, image: Tensor, flags: list[Tensor]) -> str:
    """The request for the heatmap of the top-1 class of one image, by the first method."""
    heatmap = f"heatmap_{next(iter(metadata.heatmaps))}"
    sizes: dict[str, Any] = {"batch": 1, "height": "HEIGHT", "width": "WIDTH"}
    shape = [sizes.get(length, length) if isinstance(length, str) else length for length in image.shape]
    count = BYTES[image.type] * math.prod(length for length in shape if isinstance(length, int))
    open_axes = [length for length in shape if isinstance(length, str)]
    size = " * ".join([str(count), *open_axes])
    document = {
        "inputs": [
            {
                "name": image.name,
                "datatype": TYPES[image.type],
                "shape": shape,
                "parameters": {"binary_data_size": "SIZE"},
            },
            {"name": "target", "datatype": "INT64", "shape": [1, 1], "data": [-1]},
            *(
                {"name": flag.name, "datatype": "BOOL", "shape": [1, 1], "data": [flag.name == f"with_{heatmap}"]}
                for flag in flags
            ),
        ],
        "outputs": [
            {"name": "logits", "parameters": {"classification": _top(metadata)}},
            {"name": "class_index"},
            {"name": heatmap, "parameters": {"binary_data": True}},
        ],
    }
    text = json.dumps(document)
    for word in ("SIZE", *open_axes):  # variables of the shell, outside the quotes around the document
        text = text.replace(f'"{word}"', f"'${word}'")
    for begin in ('{"name"', '"outputs"'):
        text = text.replace(f", {begin}", f",\n  {begin}")
    return "\n".join(
        [
            *(f"{axis}=…  # of the image" for axis in open_axes),
            f"SIZE=$(({size}))" if open_axes else f"SIZE={size}",
            f"REQUEST='{text}'",
            f'{{ printf %s "$REQUEST"; cat {image.name}.bin; }} |',
            "  curl -s -D headers.txt -o answer.bin --data-binary @- -H 'Content-Type: application/octet-stream' \\",
            f'  -H "Inference-Header-Content-Length: ${{#REQUEST}}" localhost:8000/v2/models/{name}/infer',
        ]
    )
