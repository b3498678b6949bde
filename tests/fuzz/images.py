"""Encoded pictures of many kinds, and changes to them that their decoders take seriously."""

import io
import struct
import zlib
from collections.abc import Callable
from random import Random

import numpy as np
from PIL import Image

from tests.fuzz.mutators import mutate_bytes

Change = Callable[[bytes, Random], bytes]
SIZES = (0, 1, 7, 255, 4000, 20_000, 65_535, 2**20, 2**31 - 1, 2**32 - 1)


def noise(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A picture of soft blobs."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 4), dtype=np.uint8), "RGBA").resize((width, height))
    if mode == "I;16":
        return Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 257)
    if mode in ("I", "F"):
        values = np.asarray(small.convert("L")).astype(np.float32 if mode == "F" else np.int32)
        return Image.fromarray(values if mode == "F" else values * 200)
    return small if mode == "RGBA" else small.convert("RGB").convert(mode)


# Name of the file, mode, options of Pillow
SAVED = (
    ("a.png", "RGB", {}), ("a.png", "RGBA", {}), ("a.png", "P", {"transparency": 3}), ("a.png", "LA", {}),
    ("a.png", "1", {}), ("a.png", "I;16", {}), ("a.png", "RGB", {"exif": 6}), ("a.jpg", "RGB", {}),
    ("a.jpeg", "RGB", {"progressive": True}), ("a.jpg", "RGB", {"exif": 5}), ("a.jpg", "CMYK", {}), ("a.jpg", "L", {}),
    ("a.gif", "P", {}), ("a.gif", "P", {"save_all": True, "frames": 3}), ("a.bmp", "RGB", {}), ("a.bmp", "P", {}),
    ("a.ppm", "RGB", {}), ("a.pgm", "L", {}), ("a.tif", "RGB", {}), ("a.tiff", "RGB", {"compression": "tiff_lzw"}),
    ("a.tiff", "RGB", {"compression": "tiff_deflate"}), ("a.tif", "1", {"compression": "group4"}), ("a.tif", "F", {}),
    ("a.tif", "I", {}), ("a.tif", "I;16", {}), ("a.webp", "RGB", {}), ("a.webp", "RGBA", {"lossless": True}),
    ("a.jp2", "RGB", {}), ("a.avif", "RGB", {}),
)  # fmt: skip
# What pictures may pretend to be: formats that no suffix in the runtime's list stands for, or another than that named
OTHERS = {
    "eps": "RGB",
    "ico": "RGBA",
    "pcx": "RGB",
    "tga": "RGB",
    "sgi": "RGB",
    "icns": "RGBA",
    "pdf": "RGB",
    "dds": "RGB",
}


def encoded(row: int) -> tuple[str, bytes]:
    """The file of one row of SAVED: its name and bytes."""
    name, mode, options = SAVED[row]
    options = dict(options)
    if "exif" in options:
        exif = Image.Exif()
        exif[0x0112] = options["exif"]
        options["exif"] = exif
    if options.pop("frames", None):
        options["append_images"] = [noise(60, 40, mode, seed) for seed in (1, 2)]
    file = io.BytesIO()
    format = Image.registered_extensions()[f".{name.rpartition('.')[2]}"]
    noise(60, 40, mode, row).save(file, format, **options)
    return name, file.getvalue()


def disguised(rng: Random) -> tuple[str, bytes]:
    """A format that is not asked for, by the name of one that is."""
    kind = rng.choice(list(OTHERS))
    file = io.BytesIO()
    noise(64, 64, OTHERS[kind]).save(file, kind.upper())
    return f"a.{rng.choice(('png', 'jpg', 'tif'))}", file.getvalue()


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _as_png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    parts = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _png(data: bytes, rng: Random) -> bytes:
    """A chunk lost, twice, moved, damaged or more, with check sums that are right again."""
    chunks = _png_chunks(data)
    index = rng.randrange(len(chunks))
    kind, body = chunks[index]
    change = rng.randrange(8)
    if change == 0:
        del chunks[index]
    elif change == 1:
        chunks.insert(rng.randrange(len(chunks)), chunks[index])
    elif change == 2:
        rng.shuffle(chunks)
    elif change == 3:
        chunks.insert(1, _png_extra(rng))
    elif change == 4:
        header = bytearray(chunks[0][1])
        header[rng.randrange(8, 13)] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        chunks[0] = (b"IHDR", bytes(header))
    elif body:
        chunks[index] = (kind, mutate_bytes(body, rng)[0])
    return _as_png(chunks)


def _png_extra(rng: Random) -> tuple[bytes, bytes]:
    bomb = zlib.compress(bytes(10**8))
    return rng.choice(
        (
            (b"zTXt", b"k\0\0" + bomb),
            (b"iCCP", b"k\0\0" + bomb),
            (b"iTXt", b"k\0\1\0\0\0" + bomb),
            (b"eXIf", rng.randbytes(100)),
            (b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0"),
            (b"tRNS", rng.randbytes(rng.choice((1, 2, 6, 300)))),
            (b"PLTE", rng.randbytes(rng.choice((0, 3, 5, 2000)))),
            (b"acTL", struct.pack(">II", rng.choice(SIZES), 0)),
            (b"fcTL", struct.pack(">IIIIIHHBB", 0, *(rng.choice(SIZES) for _ in range(4)), 1, 1, 0, 0)),
            (b"\x1b[3m", b"x"),
        )
    )


def _png_size(data: bytes, rng: Random) -> bytes:
    chunks = _png_chunks(data)
    width, height = struct.unpack(">II", chunks[0][1][:8])
    sizes = rng.choice(
        ((rng.choice(SIZES), height), (width, rng.choice(SIZES)), (rng.choice(SIZES), rng.choice(SIZES)))
    )
    body = struct.pack(">II", *sizes) + chunks[0][1][8:]
    return _as_png([(b"IHDR", body), *chunks[1:]])


def _png_whole(data: bytes, rng: Random) -> bytes:
    """A picture that is what it says, and huge: one bit for each pixel, all of them there."""
    width, height = rng.choice(
        ((9000, 9000), (13_300, 13_400), (1, 60_000), (60_000, 1), (100_000, 1000), (20_000, 20_000))
    )
    rows = zlib.compress(bytes(((width + 7) // 8 + 1) * height), 1)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return _as_png([(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")])


def _field(format: str, offset: int) -> Change:
    """A size written over a number of the header."""

    def change(data: bytes, rng: Random) -> bytes:
        limit = 2 ** (8 * struct.calcsize(format))
        value = rng.choice([size for size in SIZES if size < limit])
        return data[:offset] + struct.pack(format, value) + data[offset + struct.calcsize(format) :]

    return change


def _jpeg_segment(data: bytes, rng: Random) -> bytes:
    """A segment lost, twice or damaged, or the frame's size changed."""
    at, segments = 2, []
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = 2 + struct.unpack_from(">H", data, at + 2)[0]
        segments.append(data[at : at + length])
        at += length
    index = rng.randrange(len(segments))
    frames = [number for number, item in enumerate(segments) if item[1] in (0xC0, 0xC1, 0xC2)]
    change = rng.randrange(4)
    if change == 0:
        del segments[index]
    elif change == 1:
        segments.insert(index, segments[index])
    elif change == 2 and frames:
        frame = segments[frames[0]]
        sizes = struct.pack(">HH", *(rng.choice([size for size in SIZES if size < 2**16]) for _ in range(2)))
        segments[frames[0]] = frame[:5] + sizes + frame[9:]
    else:
        body = mutate_bytes(segments[index][4:] or b"\0", rng)[0][: 2**16 - 3]
        segments[index] = segments[index][:2] + struct.pack(">H", len(body) + 2) + body
    return data[:2] + b"".join(segments) + data[at:]


def _tiff_entry(data: bytes, rng: Random) -> bytes:
    """A field of the directory of another type, length or value."""
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    entry = at + 2 + 12 * rng.randrange(count)
    format, offset = rng.choice((("<H", 0), ("<H", 2), ("<I", 4), ("<I", 8)))
    limit = 2 ** (8 * struct.calcsize(format))
    value = rng.choice([size for size in SIZES if size < limit] + [rng.randrange(limit)])
    return data[: entry + offset] + struct.pack(format, value) + data[entry + offset + struct.calcsize(format) :]


def _pnm(data: bytes, rng: Random) -> bytes:
    header = rng.choice(
        (
            "P6 {0} {1} 255\n",
            "P5 {0} {1} 65535\n",
            "P6 {0} 1 0\n",
            "P3 {0} {1} 255\n",
            "P4 {0} {1}\n",
            "P6 -{0} 40 255\n",
        )
    )
    return header.format(rng.choice(SIZES), rng.choice(SIZES)).encode() + data[13:]


# By the end of the name; any file may have its bytes damaged as well
STRUCTURE: dict[str, tuple[Change, ...]] = {
    "png": (_png, _png, _png_size, _png_whole),
    "jpg": (_jpeg_segment,),
    "jpeg": (_jpeg_segment,),
    "gif": (_field("<H", 6), _field("<H", 8), _field("<B", 10)),
    "bmp": (_field("<I", 18), _field("<I", 22), _field("<H", 28), _field("<I", 10), _field("<I", 30)),
    "tif": (_tiff_entry,),
    "tiff": (_tiff_entry,),
    "webp": (_field("<I", 4), _field("<I", 16), _field("<H", 26), _field("<H", 28)),
    "ppm": (_pnm,),
    "pgm": (_pnm,),
}


def mutate_image(name: str, data: bytes, rng: Random) -> tuple[bytes, str]:
    """The picture with one thing changed, and what."""
    changes = STRUCTURE.get(name.rpartition(".")[2], ())
    if changes and rng.random() < 0.6:
        change = rng.choice(changes)
        return change(data, rng), change.__qualname__.strip("_").split(".")[0]
    return mutate_bytes(data, rng)
