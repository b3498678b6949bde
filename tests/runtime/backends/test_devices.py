"""ONNX artifacts on the CPU and on CUDA: the same outputs, branches, what is switched off, and no copies on the way."""

import functools

import numpy as np
import pytest

from benchmarks import copies, subjects
from benchmarks.ways import BACKWARD, WAYS
from benchmarks.ways import OUTPUTS as MEASURED
from onnxplain.contract.outputs import ALWAYS
from onnxplain.runtime.backends.formats import open_artifact
from tests.helpers.devices import CUDA, DEVICES
from tests.helpers.export_cases import ILL_CONDITIONED, LABELS, build, error, preprocessing
from tests.helpers.quick_export import export_unchecked
from tests.reference import variants

TARGETS = [3, 0, -1]
FULL = WAYS["onnx"].file


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder of a model's artifact, with these passes or all, and two images for it."""

    @functools.cache
    def export(name, passes=BACKWARD):
        folder, model = tmp_path_factory.mktemp(name), build(name)
        export_unchecked(model, folder / FULL, labels=LABELS, preprocessing=preprocessing(model), passes=passes)
        return folder, variants.pixels(model, 2).float().numpy()

    return export


@pytest.mark.parametrize("device", [CUDA])
@pytest.mark.parametrize("name", ["registers", "mean_pool", "swiglu_packed"])
def test_the_same_outputs_as_on_the_cpu(name, device, exported):
    folder, pixels = exported(name, None)
    file = open_artifact(folder / FULL, device, None)
    assert file.device == device
    outputs = [item.output for item in file.metadata.outputs]
    given, expected = (each.run(pixels, TARGETS, outputs) for each in (file, open_artifact(folder / FULL, "cpu", None)))
    for output in given.keys() - ILL_CONDITIONED:
        assert error(given[output], expected[output]).max() <= 1e-4, output


@pytest.mark.parametrize("device", DEVICES)
def test_an_output_alone_and_the_others_empty(device, exported):
    """A flag that is off takes the other branch of its If, whose output has no entries."""
    folder, pixels = exported("registers")
    file = open_artifact(folder / FULL, device, None)
    names = [*ALWAYS, *(item.output for item in file.metadata.outputs)]
    everything = file.run(pixels, TARGETS, names[len(ALWAYS) :])
    for output in MEASURED.values():
        feeds, _ = subjects.fed(file._session, pixels, TARGETS, output)
        given = dict(zip(names, file._session.run(names, feeds), strict=True))
        assert {name for name, value in given.items() if value.size} == {*ALWAYS, output}
        np.testing.assert_allclose(given[output], everything[output], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_outputs_bound_to_the_device(device, exported):
    folder, pixels = exported("registers")
    run, _ = subjects.open_way("onnx_bound", folder, "registers", 32, device, 1)
    file = open_artifact(folder / FULL, device, 1)
    for what, output in MEASURED.items():
        logits, bound = run(pixels, [3, 0], what)
        assert bound.device_name() == device
        expected = file.run(pixels, [3, 0], [output])
        np.testing.assert_allclose(bound.numpy(), expected[output], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(logits.numpy(), expected["logits"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_a_run_stays_on_its_device(device, exported):
    folder, _ = exported("registers")
    found = copies.measure(folder / FULL, device, 2, 2)
    assert [record["copies"] for record in found] == [0] * len(MEASURED)
