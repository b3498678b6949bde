"""What data sets call their classes."""

import pytest

from onnxplain.contract import OnnxplainError
from onnxplain.evaluation.data.classes import find_classes

LABELS = ["tabby, tabby cat", "crane", "crane", "1"]


def test_labels_synonyms_and_indices():
    found, warnings = find_classes(["Tabby Cat", "tabby, tabby cat", "2", "1"], LABELS, "data")
    assert found == {"Tabby Cat": 0, "tabby, tabby cat": 0, "2": 2, "1": 3} and not warnings


def test_names_that_are_no_class_are_skipped_with_one_line():
    names = ["tabby", "zebra", "crane", "-1", "4", "n00000001", "tabby"]
    found, (warning,) = find_classes(names, LABELS, "data")
    assert found == {"tabby": 0}
    assert warning == (
        "classes that the artifact does not have, skipped: 5 of 6: 'zebra', 'crane', '-1', '4', 'n00000001'"
    )


def test_data_without_any_class_is_refused():
    with pytest.raises(OnnxplainError, match=r"^data has no class of the artifact: there is no label 'tubby'.*'tabby'"):
        find_classes(["tubby", "zebra"], LABELS, "data")


def test_wordnet_ids_of_imagenet():
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    ids, labels = info.label_names(), [info.index_to_description(index) for index in range(1000)]
    some = [ids[517], ids[0], ids[134], ids[999]]
    found, warnings = find_classes(some, labels, "data")
    assert found == {ids[index]: index for index in (517, 0, 134, 999)} and not warnings
    assert find_classes(ids, labels, "data") == ({name: index for index, name in enumerate(ids)}, [])


def test_wordnet_ids_of_other_artifacts_are_sorted_if_they_are_as_many():
    ids = ["n00000003", "n00000001", "n00000002"]
    assert find_classes(ids, ["a", "b", "c"], "data")[0] == dict(zip(sorted(ids), range(3), strict=True))
    for labels in (["a", "b"], ["a", "b", "c", "d"]):
        with pytest.raises(OnnxplainError, match="has no class of the artifact: there is no label 'n00000003'"):
            find_classes(ids, labels, "data")


def test_labels_that_are_wordnet_ids_come_first():
    labels = ["n00000003", "n00000001"]
    assert find_classes(labels, labels, "data")[0] == {"n00000003": 0, "n00000001": 1}
