"""Journals: what is read of them wherever the process that wrote them was killed."""

import numpy as np
import pyarrow as pa
import pytest

from onnxplain.batch.journal import Journal, count_begun, read_journals

SCHEMA = pa.schema([("number", pa.int32()), ("value", pa.string())])


def batch(*numbers):
    return pa.record_batch([pa.array(numbers, pa.int32()), [f"value {number}" for number in numbers]], schema=SCHEMA)


def numbers_of(known):
    return [number for rows in known.rows for number in rows["number"].to_pylist()]


def test_what_was_written_is_read(tmp_path):
    with Journal(tmp_path, 7, SCHEMA) as journal:
        for number in range(6):
            journal.begin(number)
        journal.write(batch(0, 1))
        journal.write(batch(2))
        known = read_journals(tmp_path, 7, SCHEMA)
        assert numbers_of(known) == [0, 1, 2] and known.done == {0, 1, 2}
        assert known.begun == {3: 1, 4: 1, 5: 1}
        assert count_begun(tmp_path) == 6
    known = read_journals(tmp_path, 7, SCHEMA)
    assert known.done == {0, 1, 2} and not known.begun
    assert count_begun(tmp_path) == 3
    assert not read_journals(tmp_path, 8, SCHEMA).done


def test_wherever_the_files_end(tmp_path):
    with Journal(tmp_path, 0, SCHEMA) as journal:
        for number in range(4):
            journal.begin(number)
            journal.write(batch(number))
    begun, rows = journal.files
    whole, numbers = rows.read_bytes(), begun.read_bytes()
    begun.unlink()
    seen = set()
    for length in range(len(whole)):
        rows.write_bytes(whole[:length])
        known = read_journals(tmp_path, 0, SCHEMA)
        assert numbers_of(known) == list(range(len(known.done)))
        assert all(part.equals(batch(number)) for number, part in enumerate(known.rows))
        seen.add(len(known.done))
    assert seen == {0, 1, 2, 3, 4}
    rows.unlink()
    for length in range(len(numbers)):
        begun.write_bytes(numbers[:length])
        assert read_journals(tmp_path, 0, SCHEMA).begun == {number: 1 for number in range(length // 4)}


def test_several_processes(tmp_path):
    first, second = Journal(tmp_path, 0, SCHEMA), Journal(tmp_path, 0, SCHEMA)
    for journal in (first, second):
        for number in range(4):
            journal.begin(number)
    first.write(batch(0, 1))
    second.write(batch(0))
    second.write(batch(1, 2))
    known = read_journals(tmp_path, 0, SCHEMA)
    assert sorted(numbers_of(known)) == [0, 1, 2]
    assert known.begun == {3: 2}
    assert set(known.files) == {*first.files, *second.files}


def test_rows_of_another_kind_do_not_count(tmp_path):
    other = pa.schema([("number", pa.int32()), ("value", pa.int64())])
    with Journal(tmp_path, 0, other) as journal:
        journal.begin(0)
        journal.write(pa.record_batch([pa.array([0], pa.int32()), [1]], schema=other))
    assert not read_journals(tmp_path, 0, SCHEMA).done


def test_damaged_rows_do_not_count(tmp_path):
    with Journal(tmp_path, 0, SCHEMA) as journal:
        journal.begin(0)
        journal.write(batch(0))
    rows = journal.files[1]
    whole = rows.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(whole), 200):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        rows.write_bytes(damaged)
        read_journals(tmp_path, 0, SCHEMA)  # raises nothing


def test_an_error_leaves_what_can_be_read(tmp_path):
    with pytest.raises(OSError, match="full"), Journal(tmp_path, 0, SCHEMA) as journal:
        journal.begin(0)
        journal.begin(1)
        journal.write(batch(0))
        raise OSError("the disk is full")
    known = read_journals(tmp_path, 0, SCHEMA)
    assert known.done == {0} and not known.begun
