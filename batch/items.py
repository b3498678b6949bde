"""What is to be explained: images in files, in the rows of Parquet files, and in WebDataset shards."""

import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from onnxplain.contract.errors import OnnxplainError, one_line
from onnxplain.contract.names import no_such
from onnxplain.runtime.images.loading import IMAGE_SUFFIXES

SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "file": pa.string(),
        "place": pa.int64(),
        "size": pa.int64(),
        "column": pa.string(),
        "error": pa.string(),
    }
)
BYTES, PATHS = ("bytes", "image", "jpg", "jpeg", "png", "webp"), ("path", "file", "file_name", "image_path", "filename")
"""Names of columns that hold images, and paths, where a file has several that could."""


@dataclass(frozen=True)
class Item:
    """One image.

    Attributes:
        key: What its row is found by: its path as it was given; in a tar file that file's and the member's, as in
            shard.tar/0001.jpg; in a Parquet file that file's and the number of the row, as in images.parquet#17, or
            what a column holds.
        file: The absolute path of the file that it is in.
        place: In a tar file, where its bytes begin; in a Parquet file, its row from 0; else -1.
        size: In a tar file, how many bytes it has; else -1.
        column: Of a Parquet file, that with the bytes or the path, as name or name.field; else None.
        error: Why there is no image, where a file with images is damaged; else None.
    """

    key: str
    file: str
    place: int = -1
    size: int = -1
    column: str | None = None
    error: str | None = None


def table_of(items: Iterable[Item]) -> pa.Table:
    """The items as a table of SCHEMA."""
    listed = list(items)
    return pa.table(
        {name: pa.array([getattr(item, name) for item in listed], SCHEMA.field(name).type) for name in SCHEMA.names}
    )


def items_of(table: pa.Table) -> list[Item]:
    """The items in such a table."""
    return [Item(**row) for row in table.to_pylist()]


def items_in_list(path: Path) -> Iterator[Item]:
    """The images whose paths stand in a text file, one in a line, relative to its folder; empty lines are skipped.

    Raises:
        OnnxplainError: If it cannot be read as text in UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise OnnxplainError(f"the list of images {path} cannot be read: {why}") from None
    for line in filter(None, (line.removesuffix("\r") for line in lines)):
        if "\0" in line:
            raise OnnxplainError(f"{path} is no list of paths: a line holds the character 0")
        yield Item(line, str((path.parent / line).absolute()))


def items_in_tar(path: Path) -> Iterator[Item]:
    """The images in a WebDataset shard, which is a tar file that is not compressed.

    Where it is damaged, an item that says so, with the file's path as its key, stands for the rest.

    Raises:
        OnnxplainError: If it holds no images.
    """
    found = False
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isreg() and member.name.lower().endswith(IMAGE_SUFFIXES):
                    found = True
                    yield Item(f"{path}/{member.name}", str(path.absolute()), member.offset_data, member.size)
                archive.members = []  # type: ignore[attr-defined]  # or they would all be kept
            with path.open("rb") as file:  # a header that is damaged is taken for the end
                file.seek(archive.offset)
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError("it has no end")
    except (OSError, tarfile.TarError) as error:
        why = getattr(error, "strerror", None) or f"it is no tar file, or damaged or compressed: {one_line(error)}"
        yield Item(str(path), str(path.absolute()), error=f"{path} cannot be read: {why}")
        return
    if not found:
        raise OnnxplainError(f"there are no images in {path}; they would end in {', '.join(IMAGE_SUFFIXES)}")


def items_in_parquet(path: Path, column: str | None, key: str | None) -> Iterator[Item]:
    """The images in the rows of a Parquet file, as bytes or as paths relative to its folder.

    Args:
        path: The file.
        column: The column, or a field in one as column.field; None to find it: the only one of bytes or, if there is
            none, of texts, or of several one whose name is in BYTES or PATHS.
        key: The column whose values the rows are found by; None for the numbers of the rows.

    A file that cannot be read has one item that says so, with its path as the key.

    Raises:
        OnnxplainError: If it has no such columns.
    """
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            names = _columns(schema)
            chosen = _checked(path, column, names) if column else _find_column(path, names)
            keys = None
            if key is not None:
                if key not in schema.names:
                    raise OnnxplainError(f"{path}: {no_such('column', key, schema.names)}")
                keys = file.read([key]).column(0).to_pylist()
    except (OSError, pa.ArrowException) as error:
        why = f"{path} cannot be read as a Parquet file: {one_line(error)}"
        yield Item(str(path), str(path.absolute()), error=why)
        return
    for row in range(rows):
        name = f"{path}#{row}" if keys is None else str(keys[row])
        yield Item(name, str(path.absolute()), row, column=chosen)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of that type holds paths."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _columns(schema: pa.Schema) -> dict[str, pa.DataType]:
    """The columns of bytes and of texts, fields of structs among them, by name."""
    every = {field.name: field.type for field in schema}
    for field in schema:
        if pa.types.is_struct(field.type):
            every |= {f"{field.name}.{inner.name}": inner.type for inner in field.type}
    return {name: kind for name, kind in every.items() if _is_bytes(kind) or is_text(kind)}


def _checked(path: Path, column: str, names: dict[str, pa.DataType]) -> str:
    if f"{column}.bytes" in names:  # as the library datasets has images
        return f"{column}.bytes"
    if column not in names:
        raise OnnxplainError(f"{path}: {no_such('column of bytes or texts', column, names)}")
    return column


def _find_column(path: Path, names: dict[str, pa.DataType]) -> str:
    for test, known in ((_is_bytes, BYTES), (is_text, PATHS)):
        able = [name for name, kind in names.items() if test(kind)]
        if len(able) == 1 and (test is _is_bytes or able[0] in PATHS or len(names) == 1):
            return able[0]
        named = [name for name in able if name.partition(".")[0] in known]
        if named:
            return named[0]
        if able and test is _is_bytes:
            break
    columns = ", ".join(names) or "none"
    raise OnnxplainError(f"{path}: which column holds the images? of bytes or texts it has {columns}; give `column`")
