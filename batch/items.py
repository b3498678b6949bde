"""What is to be explained: images in files, in the rows of Parquet files, and in WebDataset shards."""

import os
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
        "file": pa.binary(),  # as the system names it, which need not be text
        "place": pa.int64(),
        "size": pa.int64(),
        "column": pa.string(),
        "error": pa.string(),
    }
)
SOURCE = ("file", "place", "size")
BYTES, PATHS = ("bytes", "image", "jpg", "jpeg", "png", "webp"), ("path", "file", "file_name", "image_path", "filename")
"""Names of columns that hold images, and paths, where a file has several that could."""


@dataclass(frozen=True)
class Item:
    r"""One image.

    Attributes:
        key: What its row is found by: its path as it was given; in a tar file that file's and the member's, as in
            shard.tar/0001.jpg; in a Parquet file that file's and the number of the row, as in images.parquet#17, or
            what a column holds. Bytes that are not UTF-8 are escapes in it: \udcff is the byte ff.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", valid_text(self.key))
        object.__setattr__(self, "error", self.error and valid_text(self.error))

    @property
    def source(self) -> tuple[bytes, int, int]:
        """Where its bytes are: the values of the columns SOURCE."""
        return os.fsencode(self.file), self.place, self.size


def valid_text(text: str) -> str:
    """The text, with escapes for bytes that are not UTF-8, as names of files may have."""
    return text.encode("utf-8", "backslashreplace").decode()


def table_of(items: Iterable[Item]) -> pa.Table:
    """The items as a table of SCHEMA."""
    listed = list(items)
    columns = {name: [getattr(item, name) for item in listed] for name in SCHEMA.names}
    columns["file"] = list(map(os.fsencode, columns["file"]))
    return pa.table(columns, SCHEMA)


def items_of(table: pa.Table) -> list[Item]:
    """The items in such a table."""
    return [Item(**{**row, "file": os.fsdecode(row["file"])}) for row in table.to_pylist()]


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
        yield Item(str(path), str(path.absolute()), error=f"{path} could not be listed: {why}")
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
            chosen = _checked(path, column, names) if column and names else _find_column(path, names)
            keys = None
            if key is not None:
                keys = _keys(path, key, file)
    except (OSError, UnicodeError, pa.ArrowException) as error:  # the second where the path is not UTF-8
        why = f"{path} could not be listed as a Parquet file: {one_line(error)}"
        yield Item(str(path), str(path.absolute()), error=why)
        return
    for row in range(rows):
        name = f"{path}#{row}" if keys is None else str(keys[row])
        yield Item(name, str(path.absolute()), row, column=chosen)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of that type holds paths."""
    kind = _inner(kind)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    kind = _inner(kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _inner(kind: pa.DataType) -> pa.DataType:
    """The type of the values, where a column holds numbers in a list of them."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _keys(path: Path, key: str, file: pq.ParquetFile) -> list[str | int | None]:
    """What a column holds, which must be texts or whole numbers."""
    schema = file.schema_arrow
    if key not in schema.names:
        raise OnnxplainError(f"{path}: {no_such('column', key, schema.names)}")
    kind = schema.field(key).type
    if not is_text(kind) and not pa.types.is_integer(kind):
        raise OnnxplainError(f"{path}: rows are named by texts or whole numbers, and column {key} holds {kind}")
    keys: list[str | int | None] = file.read([key]).column(0).to_pylist()
    if None in keys:
        raise OnnxplainError(f"{path}: column {key} is empty in row {keys.index(None)}, so that the row has no name")
    return keys


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
    if not names:
        raise OnnxplainError(f"{path} has no column of bytes or texts, in which images or their paths could be")
    raise OnnxplainError(f"{path}: which column holds the images, {' or '.join(names)}? give `column`")
