"""Damage to bytes and to JSON, as data: each row is a name and a function of what is damaged and a random generator."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

Bytes = Callable[[bytes, Random], bytes]


def _place(data: bytes, rng: Random) -> int:
    return rng.randrange(len(data))


def _block(data: bytes, rng: Random) -> tuple[int, int]:
    """Where a block begins and ends: mostly short ones, as a disk or a network would lose."""
    start = _place(data, rng)
    return start, min(len(data), start + rng.choice((1, 4, 16, 64, 512, 4096)))


def _flip(data: bytes, rng: Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _flips(data: bytes, rng: Random) -> bytes:
    for _ in range(rng.choice((2, 8, 50))):
        data = _flip(data, rng)
    return data


def _set(data: bytes, rng: Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))]) + data[at + 1 :]


def _truncate(data: bytes, rng: Random) -> bytes:
    return data[: rng.choice((0, 1, 10, _place(data, rng), len(data) - 1))]


def _insert(data: bytes, rng: Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.randbytes(rng.choice((1, 4, 100))) + data[at:]


def _delete(data: bytes, rng: Random) -> bytes:
    start, end = _block(data, rng)
    return data[:start] + data[end:]


def _duplicate(data: bytes, rng: Random) -> bytes:
    start, end = _block(data, rng)
    return data[:end] + data[start:]


def _zero(data: bytes, rng: Random) -> bytes:
    start, end = _block(data, rng)
    return data[:start] + bytes(end - start) + data[end:]


def _swap(data: bytes, rng: Random) -> bytes:
    length = rng.choice((1, 16, 256))
    first, second = sorted((_place(data, rng), _place(data, rng)))
    if first + length > second or second + length > len(data):
        return _flip(data, rng)
    middle = data[first + length : second]
    return (
        data[:first] + data[second : second + length] + middle + data[first : first + length] + data[second + length :]
    )


def _append(data: bytes, rng: Random) -> bytes:
    return data + rng.choice((b"\0", rng.randbytes(100), data))


BYTES: dict[str, Bytes] = {
    "bit flipped": _flip,
    "bits flipped": _flips,
    "byte set": _set,
    "truncated": _truncate,
    "bytes inserted": _insert,
    "block deleted": _delete,
    "block duplicated": _duplicate,
    "block zeroed": _zero,
    "blocks swapped": _swap,
    "bytes appended": _append,
}


def mutate_bytes(data: bytes, rng: Random) -> tuple[bytes, str]:
    """The data with one damage, and which."""
    name = rng.choice(list(BYTES))
    return BYTES[name](data, rng), name


# What is put in place of a value, as the text of a JSON document
ODD = {
    "null": "null",
    "true": "true",
    "false": "false",
    "minus one": "-1",
    "zero": "0",
    "one": "1",
    "five": "5",
    "half": "0.5",
    "a tiny number": "1e-300",
    "a small number": "1e-40",
    "a large number": "1e38",
    "the largest number": "1.7e308",
    "2^31": str(2**31),
    "2^63": str(2**63),
    "10^7": "10000000",
    "10^400": str(10**400),
    "1e400": "1e400",
    "5000 digits": "9" * 5000,
    "NaN": "NaN",
    "minus infinity": "-Infinity",
    "empty text": '""',
    "text": '"abc"',
    "digits": '"7"',
    "a control character": '"\\u001b[31mred\\u0007"',
    "bidi": '"\\u202eabc"',
    "half a letter": '"\\ud800"',
    "a zero letter": '"a\\u0000b"',
    "a line break": '"a\\nerror: b"',
    "a path": '"../../../etc/passwd"',
    "long text": '"' + "x" * 100_000 + '"',
    "an empty list": "[]",
    "a list": "[5]",
    "a list of lists": "[[5], [5]]",
    "a list of texts": '["a", "b"]',
    "a long list": "[" + "1," * 10_000 + "1]",
    "an empty object": "{}",
    "an object": '{"a": 1}',
    "an object with number": '{"0": "a", "2": "b"}',
    "nesting": "[" * 100_000 + "]" * 100_000,
    "nested objects": '{"a":' * 20_000 + "1" + "}" * 20_000,
    "nothing": "",
    "a word": "abc",
    "a comma": ",",
}

Path = tuple[str | int, ...]


def paths(value: Any, here: Path = ()) -> list[Path]:
    """The places in a document, its own not among them; of a long list only the first few."""
    inside = value.items() if isinstance(value, dict) else enumerate(value[:5]) if isinstance(value, list) else ()
    return [path for key, item in inside for path in ((*here, key), *paths(item, (*here, key)))]


def _with(document: Any, path: Path, change: Callable[[Any, Any], None]) -> Any:
    """A copy in which `change(container, key)` was called for the place."""
    copy = json.loads(json.dumps(document))
    container = copy
    for key in path[:-1]:
        container = container[key]
    change(container, path[-1])
    return copy


MARK = "\ue000"


def _replace(document: Any, path: Path, rng: Random) -> tuple[str, str]:
    name = rng.choice(list(ODD))
    marked = _with(document, path, lambda container, key: container.__setitem__(key, MARK))
    return json.dumps(marked, ensure_ascii=False).replace(f'"{MARK}"', ODD[name], 1), f"{name} as {_shown(path)}"


def _remove(document: Any, path: Path, rng: Random) -> tuple[str, str]:
    return json.dumps(_with(document, path, lambda container, key: container.pop(key))), f"no {_shown(path)}"


def _nudge(document: Any, path: Path, rng: Random) -> tuple[str, str]:
    """Another value of the same kind: what is wrong without looking wrong."""

    def change(container: Any, key: Any) -> None:
        value = container[key]
        if isinstance(value, bool):
            container[key] = not value
        elif isinstance(value, int):
            container[key] = value + rng.choice((-1, 1, 144))
        elif isinstance(value, float):
            container[key] = value * rng.choice((-1, 0.9, 1.1, 100))
        elif isinstance(value, str):
            container[key] = value[1:] or "x"
        elif isinstance(value, list) and value:
            container[key] = rng.choice((value[1:], value[::-1], value + value[:1]))
        elif isinstance(value, dict) and value:
            container[key] = dict(list(value.items())[1:])

    return json.dumps(_with(document, path, change)), f"{_shown(path)} changed a little"


def _rename(document: Any, path: Path, rng: Random) -> tuple[str, str]:
    def change(container: Any, key: Any) -> None:
        value = container.pop(key)
        if isinstance(container, dict):
            container[rng.choice((key.upper(), key + "x", "", "colour"))] = value
        else:
            container.append(value)

    return json.dumps(_with(document, path, change)), f"{_shown(path)} elsewhere"


def _wrap(document: Any, path: Path, rng: Random) -> tuple[str, str]:
    wrapped = rng.choice((lambda value: [value], lambda value: {"value": value}, str, lambda value: [value, value]))

    def change(container: Any, key: Any) -> None:
        container[key] = wrapped(container[key])

    return json.dumps(_with(document, path, change)), f"{_shown(path)} wrapped"


def _as_a_whole(document: Any, path: Path, rng: Random) -> tuple[str, str]:
    name = rng.choice(list(ODD))
    return ODD[name], f"{name} as the document"


def _shown(path: Path) -> str:
    return ".".join(map(str, path))


JSON = (_replace, _replace, _replace, _remove, _nudge, _nudge, _rename, _wrap)


def mutate_json(document: Any, rng: Random) -> tuple[bytes, str]:
    """The document with one thing changed, as UTF-8 unless that is what is wrong, and what."""
    chance = rng.random()
    if chance < 0.05:
        text, about = _as_a_whole(document, (), rng)
    elif chance < 0.2:
        data, about = mutate_bytes(json.dumps(document, ensure_ascii=False).encode(), rng)
        return data, f"JSON with {about}"
    else:
        top = rng.choice(list(document)) if isinstance(document, dict) else None
        places = [path for path in paths(document) if top is None or path[0] == top]
        text, about = rng.choice(JSON)(document, rng.choice(places), rng)
    if rng.random() < 0.03:
        return text.encode("utf-16"), f"{about}, in UTF-16"
    if rng.random() < 0.03:
        return text.encode().replace(b"a", b"\xff", 1), f"{about}, not UTF-8"
    return text.encode(errors="surrogatepass"), about
