"""What the command batch takes as images, and what it reads of them."""

import io
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onnxplain.batch.items import Item, items_in_list, items_in_parquet, items_in_tar, items_of, table_of
from onnxplain.batch.output import Output
from onnxplain.batch.reading import ItemReader
from onnxplain.commands.batch_inputs import chosen, find_items
from onnxplain.contract.errors import ImageError, OnnxplainError

MOST = 10**6


@pytest.fixture
def contents(folder):
    """The bytes of the images in the working directory, by name."""
    return {path.name: path.read_bytes() for path in sorted(Path("images").iterdir())}


def read_all(items):
    reader = ItemReader(MOST)
    try:
        return {item.key: reader.read(item) for item in items}
    finally:
        reader.close()


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_folders_files_and_patterns(contents):
    Path("images/below").mkdir()
    Path("images/below/x.png").write_bytes(contents["00.png"])
    found = read_all(find_items(["images"], False, None, None))
    assert found == {f"images/{name}": data for name, data in contents.items()}
    assert set(read_all(find_items(["images"], True, None, None))) - set(found) == {"images/below/x.png"}
    some = read_all(find_items(["images/0*.png", "images/11.png"], False, None, None))
    assert set(some) == {f"images/0{number}.png" for number in range(10)} | {"images/11.png"}
    assert "images/below/x.png" in read_all(find_items(["images/**/*.png"], False, None, None))
    with pytest.raises(OnnxplainError, match=r"no file matches nothing/\*"):
        list(find_items(["nothing/*"], False, None, None))
    with pytest.raises(OnnxplainError, match="there is no fotos; give images, folders, "):
        list(find_items(["images", "fotos"], False, None, None))
    Path("images/99.png").symlink_to("nothing.png")
    for inputs in (["images"], ["images/9*.png"], ["images/99.png"]):
        assert "images/99.png" in [item.key for item in find_items(inputs, False, None, None)]


def test_a_list_of_paths(contents):
    Path("lists").mkdir()
    Path("lists/some.txt").write_text("../images/03.png\r\n\n../images/01.png\n")
    found = read_all(find_items(["lists/some.txt"], False, None, None))
    assert found == {f"../images/{name}": contents[name] for name in ("03.png", "01.png")}
    Path("lists/bad.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(OnnxplainError, match="no text in UTF-8"):
        list(items_in_list(Path("lists/bad.txt")))


def test_webdataset_shards(contents):
    members = {f"a/{name}": data for name, data in contents.items()}
    write_tar("shard.tar", {**members, "a/00.cls": b"3", "a/00.json": b"{}"})
    assert read_all(find_items(["shard.tar"], False, None, None)) == {
        f"shard.tar/{name}": data for name, data in members.items()
    }
    items = list(items_in_tar(Path("shard.tar")))
    assert read_all(reversed(items)) == read_all(items)
    write_tar("none.tar", {"notes.txt": b"text"})
    with pytest.raises(OnnxplainError, match=r"no images in none\.tar"):
        list(items_in_tar(Path("none.tar")))
    with pytest.raises(OnnxplainError, match="compressed"):
        list(find_items(["shard.tar.gz"], False, None, None))


def test_a_damaged_shard_has_an_item_that_says_so(contents):
    write_tar("shard.tar", contents)
    data = bytearray(Path("shard.tar").read_bytes())
    third = list(items_in_tar(Path("shard.tar")))[3]
    data[third.place - 512 : third.place - 400] = b"x" * 112  # its header
    Path("shard.tar").write_bytes(data)
    *right, wrong = items_in_tar(Path("shard.tar"))
    assert wrong.key == "shard.tar" and "it has no end" in wrong.error
    assert list(read_all(right).values()) == list(contents.values())[:3]
    with pytest.raises(ImageError, match=r"shard\.tar could not be listed"):
        ItemReader(MOST).read(wrong)
    Path("shard.tar").write_bytes(data[: right[-1].place + 10])
    assert [item.key for item in items_in_tar(Path("shard.tar"))][-1] == "shard.tar"
    with pytest.raises(ImageError, match=r"shard\.tar ends before it does"):
        ItemReader(MOST).read(right[-1])


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_parquet_with_bytes(contents, rows):
    names, data = list(contents), list(contents.values())
    images = pa.array([{"bytes": each, "path": name} for each, name in zip(data, names, strict=True)])
    pq.write_table(
        pa.table({"image": images, "name": names, "label": [1] * len(names)}), "a.parquet", row_group_size=rows
    )
    items = list(find_items(["a.parquet"], False, None, None))
    assert [item.key for item in items] == [f"a.parquet#{row}" for row in range(len(names))]
    assert list(read_all(items).values()) == data
    assert list(read_all(items[5:9] + items[20:]).values()) == data[5:9] + data[20:]
    assert list(read_all(items[::-1]).values()) == data[::-1]
    assert read_all(find_items(["a.parquet"], False, "image", "name")) == contents
    pq.write_table(pa.table({"jpg": data, "other": data}), "b.parquet", row_group_size=rows)
    assert list(read_all(items_in_parquet(Path("b.parquet"), None, None)).values()) == data
    assert list(read_all(items_in_parquet(Path("b.parquet"), "other", None)).values()) == data


def test_parquet_with_paths(contents):
    pq.write_table(
        pa.table({"path": [f"images/{name}" for name in contents], "text": ["x"] * len(contents)}), "p.parquet"
    )
    assert list(read_all(items_in_parquet(Path("p.parquet"), None, None)).values()) == list(contents.values())


def test_parquet_as_the_library_datasets_writes_it(contents):
    """Some images are in the file, others beside it; and columns may be lists of values with numbers in them."""
    names, data = list(contents), list(contents.values())
    images = [
        {"bytes": None if row % 2 else data[row], "path": f"images/{name}" if row % 2 else "elsewhere.png"}
        for row, name in enumerate(names)
    ]
    pq.write_table(pa.table({"image": images}), "a.parquet", row_group_size=7)
    assert list(read_all(items_in_parquet(Path("a.parquet"), None, None)).values()) == data
    pq.write_table(pa.table({"jpg": pa.array(data).dictionary_encode(), "n": range(len(data))}), "d.parquet")
    assert list(read_all(items_in_parquet(Path("d.parquet"), None, None)).values()) == data
    pq.write_table(pa.table({"path": ["images/00.png", "nope.png"]}), "p.parquet")
    [_, missing] = items_in_parquet(Path("p.parquet"), None, None)
    with pytest.raises(ImageError, match=r"there is no file /.*/nope\.png"):
        ItemReader(MOST).read(missing)


def test_names_that_are_not_utf_8(contents):
    name = os.fsdecode(b"b\xff.png")
    Path("odd").mkdir()
    Path("odd", name).write_bytes(contents["00.png"])
    write_tar("odd/odd.tar", {name: contents["01.png"]})
    damaged = os.fsdecode(b"odd/\xff.tar")
    Path(damaged).write_bytes(b"no tar file")
    table = os.fsdecode(b"odd/\xff.parquet")  # pyarrow cannot open it by that name
    pq.write_table(pa.table({"bytes": [contents["02.png"]]}), "odd/whole.parquet")
    Path("odd/whole.parquet").rename(table)
    items = list(find_items(["odd", "odd/odd.tar", damaged, table], False, None, None))
    assert [item.key for item in items] == [
        "odd/b\\udcff.png",
        "odd/odd.tar/b\\udcff.png",
        "odd/\\udcff.tar",
        "odd/\\udcff.parquet",
    ]
    items = items_of(table_of(items))
    assert list(read_all(items[:2]).values()) == [contents["00.png"], contents["01.png"]]
    for item in items[2:]:
        with pytest.raises(ImageError, match=r"odd/\\udcff\.(tar|parquet) could not be listed"):
            ItemReader(MOST).read(item)


@pytest.mark.parametrize(
    ("columns", "given", "message"),
    [
        ({"x": [b"1"], "y": [b"1"]}, {}, "which column holds the images"),
        ({"x": [1]}, {}, "has no column of bytes or texts"),
        ({"x": [b"1"]}, {"column": "z"}, "no column of bytes or texts 'z'"),
        ({"x": [b"1"]}, {"key": "z"}, "no column 'z'"),
        ({"x": [1]}, {"column": "x"}, "has no column of bytes or texts"),
        ({"x": [b"1"]}, {"key": "x"}, "rows are named by texts or whole numbers, and column x holds binary"),
        ({"x": [b"1", b"2"], "k": ["a", None]}, {"key": "k"}, "column k is empty in row 1"),
    ],
)
def test_columns_that_are_not_there(folder, columns, given, message):
    pq.write_table(pa.table(columns), "x.parquet")
    with pytest.raises(OnnxplainError, match=message):
        list(items_in_parquet(Path("x.parquet"), given.get("column"), given.get("key")))


def test_rows_that_cannot_be_read(folder):
    pq.write_table(pa.table({"bytes": [b"first", None, b"third"]}), "n.parquet")
    first, second, third = items_in_parquet(Path("n.parquet"), None, None)
    reader = ItemReader(MOST)
    assert reader.read(first) == b"first"
    with pytest.raises(ImageError, match=r"n\.parquet#1 is null"):
        reader.read(second)
    assert reader.read(third) == b"third"
    Path("n.parquet").write_bytes(b"PAR1 what is this PAR1")
    (damaged,) = items_in_parquet(Path("n.parquet"), None, None)
    with pytest.raises(ImageError, match="could not be listed as a Parquet file"):
        ItemReader(MOST).read(damaged)
    with pytest.raises(ImageError, match="cannot be read as a Parquet file"):
        ItemReader(MOST).read(first)


def test_what_is_no_image_file(folder):
    Path("empty.tar").touch()
    for name, message in (
        ("images", "cannot be read"),
        ("/dev/zero", "not a regular file"),
        ("nowhere", "there is no file"),
    ):
        with pytest.raises(ImageError, match=message):
            ItemReader(MOST).read(Item(name, str(Path(name).absolute())))
    Path("large.png").write_bytes(bytes(2 * MOST))
    assert len(ItemReader(MOST).read(Item("large.png", str(Path("large.png").absolute())))) == MOST + 1
    write_tar("large.tar", {"large.png": bytes(2 * MOST)})
    assert len(ItemReader(MOST).read(next(items_in_tar(Path("large.tar"))))) == MOST + 1


def test_items_are_kept_as_they_are(folder):
    items = [
        Item("a", "/a"),
        Item("b.tar/c", "/b.tar", 512, 10),
        Item("d#1", "/d", 1, column="x.y"),
        Item("e", "/e", error="bad"),
    ]
    assert items_of(table_of(items)) == items
    output = Output(Path("out"))
    for name in ("_inputs", "_unfinished"):
        (Path("out") / name).mkdir(parents=True)
    output.add(items, 3)
    output.add([Item("new", "/new"), items[0]], 3)
    shards = output.shards()
    assert [(shard.number, shard.images) for shard in shards] == [(0, 3), (1, 1), (2, 1)]
    assert [item for shard in shards for item in shard.items()] == [*items, Item("new", "/new")]
    output.add(items, 3)  # nothing
    assert len(output.shards()) == 3
    for other in (Item("a", "/b"), Item("b.tar/c", "/b.tar", 1024, 10), Item("b.tar/c", "/b.tar", 512, 11)):
        with pytest.raises(OnnxplainError, match=rf"has a row of {other.key}, which then was another image"):
            output.add([other], 3)
    (Path("out") / "part-000000.parquet").touch()
    plan = Path("out/_inputs/000000.parquet")
    for change, message in ((lambda: plan.write_bytes(b"x"), "is damaged"), (lambda: plan.unlink(), "is gone")):
        change()
        Path("out/_inputs/000002.parquet").unlink(missing_ok=True)
        with pytest.raises(OnnxplainError, match=rf"_inputs.*, which says what the rows are of, {message}"):
            output.add(items, 3)
    (Path("out") / "part-000000.parquet").unlink()
    with pytest.raises(OnnxplainError, match="two images are called z"):
        output.add([Item("z", "/1"), Item("z", "/2")], 3)


def test_the_first_and_some():
    items = [Item(str(number), "") for number in range(100)]
    assert list(chosen(items, 3, None)) == items[:3]
    assert list(chosen(items[:2] * 2 + items, 3, None)) == items[:3]
    some = list(chosen(items * 2, None, 10))
    assert len(set(some)) == 10 and some == list(chosen(items[::-1], None, 10))
    assert len(set(some) - set(chosen([*items, Item("100", "")], None, 10))) <= 1
