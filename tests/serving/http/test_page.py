"""The page of the service: its files, and nothing else of the disk."""

import json
from pathlib import Path

from onnxplain.contract.preprocessing import Preprocessing
from onnxplain.serving.http.page import POLICY
from tests.helpers.service import DEMO, ROOT, SCENES, client_of, make_service


def test_files():
    client = client_of(make_service([DEMO]))
    index = client.get("/")
    assert f'content="{POLICY}"' in index.text and "{{" not in index.text
    assert "never leave this computer" not in index.text
    assert POLICY in index.headers["content-security-policy"] and "unsafe" not in POLICY
    for path in [*(ROOT / "web" / "page").iterdir(), ROOT / "web" / "onnxplain.js"]:
        if path.name != "index.html":
            assert client.get(f"/{path.name}").content == path.read_bytes()
    document = client.get("/page.json").json()
    assert "runtime" not in document
    for sample in document["samples"]:
        assert client.get(f"/{sample['file']}").content == (SCENES / Path(sample["file"]).name).read_bytes()


def test_models_are_described_for_the_page():
    service = make_service([DEMO])
    [entry] = client_of(service).get("/page.json").json()["models"]
    metadata = service.explains.models["demo"].metadata
    assert (entry["name"], entry["bytes"], entry["classes"]) == ("demo", DEMO.stat().st_size, 10)
    assert entry["patch_grid"] == list(metadata.patch_grid)
    assert {method["name"] for method in entry["methods"]} >= {"transformer_attribution", "integrated_gradients"}
    known = json.loads(json.dumps({name: getattr(metadata.preprocessing, name) for name in entry["preprocessing"]}))
    assert entry["preprocessing"] == known
    assert set(entry["preprocessing"]) < set(Preprocessing.__dataclass_fields__)
