"""Changes to zip archives, such as .pt and .pth: of records, with check sums that are right again."""

import io
import json
import random
import zipfile

from tests.fuzz.mutators import mutate_bytes, mutate_json


def archived(content: list[tuple[str, bytes]], comment: bytes, compressed: bool = False) -> bytes:
    """An archive of these records, with what stands at its end."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, data in content:
            archive.writestr(zipfile.ZipInfo(name), data)
        archive.comment = comment
    return file.getvalue()


def mutate_zip(data: bytes, rng: random.Random, json_record: str | None = None) -> tuple[bytes, str]:
    """The archive with one thing changed. `json_record`: the end of the name of one that holds JSON."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        content, comment = [(item.filename, archive.read(item)) for item in archive.infolist()], archive.comment
    index = rng.randrange(len(content))
    name, value = content[index]
    change = rng.choice(("drop", "swap", "damage", "rename", "twice", "compress", "json", "bomb"))
    if change == "json" and json_record is not None:
        index = next(number for number, (other, _) in enumerate(content) if other.endswith(json_record))
        changed, about = mutate_json(json.loads(content[index][1]), rng)
        content[index] = (content[index][0], changed)
        return archived(content, comment), f"{json_record}: {about}"
    if change == "drop":
        del content[index]
    elif change == "swap":
        other = rng.randrange(len(content))
        content[index], content[other] = (name, content[other][1]), (content[other][0], value)
    elif change == "rename":
        content[index] = (rng.choice(("../" + name, "/etc/x", name + "x", name.upper())), value)
    elif change == "twice":
        content.append((name + "0", value))
    elif change == "bomb":
        content[index] = (name, bytes(10**8))
        return archived(content, comment, compressed=True), f"{name} of 100 MB of zeros"
    elif change == "compress":
        return archived(content, comment, compressed=True), "compressed"
    elif value:
        content[index] = (name, mutate_bytes(value, rng)[0])
    return archived(content, comment), f"{change} {name}"
