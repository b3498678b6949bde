"""What the README of a model says: its commands are run against a server of the KServe v2 protocol."""

import json
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import onnxruntime
import pytest

from onnxplain.runtime import load_image, preprocess
from onnxplain.serving.triton.model_repository import write_model
from onnxplain.serving.triton.triton_guide import guide_text
from tests.helpers.command_line import random_image
from tests.helpers.model_config import parse_config
from tests.helpers.plain_artifact import build_plain, metadata_of

TYPES = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8"), "BOOL": np.dtype("?"), "UINT8": np.dtype("u1")}


class Server(BaseHTTPRequestHandler):
    """One model's address for requests, as "binary tensor data" of Triton's documentation describes it."""

    session, config = None, None

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        length = int(self.headers.get("Inference-Header-Content-Length", len(body)))
        document, data = json.loads(body[:length]), body[length:]
        feeds = {}
        for item in document["inputs"]:
            size = item.get("parameters", {}).get("binary_data_size")
            if size is None:
                values = np.array(item["data"], TYPES[item["datatype"]])
            else:
                values, data = np.frombuffer(data[:size], TYPES[item["datatype"]]), data[size:]
            feeds[item["name"]] = values.reshape(item["shape"])
        assert not data and self.path == f"/v2/models/{self.config.name}/infer"
        for entry in self.config.input:
            shape = feeds[entry.name].shape
            assert len(shape) == 1 + len(entry.dims) and 1 <= shape[0] <= self.config.max_batch_size
            assert all(want in (-1, got) for want, got in zip(entry.dims, shape[1:], strict=True))
            if entry.HasField("reshape"):
                feeds[entry.name] = feeds[entry.name].reshape(shape[0], *entry.reshape.shape)
        names = [entry.name for entry in self.config.output]  # Triton computes all, and splits them among requests
        results = dict(zip(names, self.session.run(names, feeds), strict=True))
        assert all(len(values) == len(feeds["target"]) for values in results.values())
        answer, tail = [], b""
        for item in document["outputs"]:
            values = results[item["name"]]
            about = {"name": item["name"], "shape": list(values.shape)}
            if item.get("parameters", {}).get("binary_data"):
                tail += values.tobytes()
                about["parameters"] = {"binary_data_size": values.nbytes}
            else:
                about["data"] = values.ravel().tolist()
            answer.append(about)
        head = json.dumps({"outputs": answer}).encode()
        self.send_response(200)
        self.send_header("Inference-Header-Content-Length", str(len(head)))
        self.end_headers()
        self.wfile.write(head + tail)

    def log_message(self, *_):
        pass


def _block(guide, language):
    return re.search(rf"```{language}\n(.*?)\n```", guide, re.DOTALL)[1]


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("flags", ["none", "required"])
@pytest.mark.parametrize("image", ["pixels", "image"])
def test_commands_of_the_readme(tmp_path, flags, image):
    path = build_plain(tmp_path / "vit.onnx", ("grad_rollout", "rollout"), flags, image)
    write_model(path, metadata_of(path), tmp_path / "vit", 8)
    folder = tmp_path / "vit"
    cat = random_image(0)
    cat.putalpha(128)
    cat.save(folder / "cat.jpg", "PNG")  # what the file holds counts, not its name: transparent parts are put on white
    guide = (folder / "README.md").read_text(encoding="utf-8")

    subprocess.run([sys.executable, "-c", _block(guide, "python")], cwd=folder, check=True)
    assert (folder / f"{image}.bin").read_bytes() == _value(path, folder / "cat.jpg", image).tobytes()
    session, config = onnxruntime.InferenceSession(path), parse_config(folder / "config.pbtxt")
    handler = type("Handler", (Server,), {"session": session, "config": config})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        shell = _block(guide, "sh").replace("localhost:8000", f"127.0.0.1:{server.server_port}")
        shell = shell.replace("HEIGHT=…", "HEIGHT=40").replace("WIDTH=…", "WIDTH=60")
        subprocess.run(["sh", "-ec", shell], cwd=folder, check=True)
        server.shutdown()

    length = int(re.search(r"Inference-Header-Content-Length: (\d+)", (folder / "headers.txt").read_text())[1])
    answer = (folder / "answer.bin").read_bytes()
    *_, about = json.loads(answer[:length])["outputs"]
    heatmap = np.frombuffer(answer[length:], "<f4").reshape(about["shape"])
    assert about["name"] == "heatmap_grad_rollout"
    np.testing.assert_array_equal(heatmap, _expected(session, path, folder / "cat.jpg", image))


def _value(path, file, image):
    loaded = load_image(file)
    return np.asarray(loaded) if image == "image" else preprocess(loaded, metadata_of(path).preprocessing)[0]


def _expected(session, path, file, image):
    feeds = {image: _value(path, file, image)[None], "target": np.array([[-1]])}
    for argument in session.get_inputs()[2:]:
        feeds[argument.name] = np.array([True])
    return session.run(["heatmap_grad_rollout"], feeds)[0]


def test_guide_names_all_inputs_and_outputs(tmp_path):
    path = build_plain(tmp_path / "vit.onnx", ("grad_rollout", "rollout"), "required")
    guide = guide_text("vit", metadata_of(path), 5)
    session = onnxruntime.InferenceSession(path)
    for argument in [*session.get_inputs(), *session.get_outputs()]:
        assert f"| `{argument.name}` |" in guide
    assert "| `with_heatmap_rollout` | BOOL | [batch, 1] |" in guide
    assert "the batch, 1 to 5 images" in guide and "{" + "name}" not in guide
