"""What runs in browsers and in Node: the JavaScript module and the files of the page, as package data."""

from importlib.resources import files


def page_files(policy: str, privacy: str) -> dict[str, bytes]:
    """The files of the page by name, but for page.json, which says what models there are.

    Args:
        policy: The content security policy of index.html.
        privacy: What it says of where images go: plain text.
    """
    static = files(__name__)
    found = {entry.name: entry.read_bytes() for entry in (static / "page").iterdir() if entry.is_file()}
    found["onnxplain.js"] = (static / "onnxplain.js").read_bytes()
    text = found["index.html"].decode().replace("{{policy}}", policy).replace("{{privacy}}", privacy)
    return {**found, "index.html": text.encode()}
