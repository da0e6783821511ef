"""The zoo's MobileNetV2 gives real Caffe2's answers: each blob of two pictures, each probability of forty."""

import json

import numpy as np
import pytest

from caffe2.golden import TEST_DATA, differing
from caffe2.golden_counter import record
from imagequeue_worker.caffe2 import Net, available_engines, load_net

pytestmark = pytest.mark.skipif(
    TEST_DATA is None, reason="IMAGEQUEUE_TEST_DATA names no folder with golden/ and models/"
)


@pytest.fixture(scope="module", params=available_engines())
def net(request) -> Net:
    return load_net(TEST_DATA / "models" / "mobilenet_v2_1.0_224_quant", engine=request.param)


@pytest.mark.parametrize("picture", [0, 555])
def test_every_blob_is_caffe2s(net: Net, picture: int, record_property):
    with np.load(TEST_DATA / "golden" / "net" / f"mobilenet_v2_blobs_{picture}.npz") as golden:
        meta = json.loads(golden["meta"].tobytes())
        blobs = net.run_blobs(net.float_input(golden["crop"][np.newaxis]))
        wrong = {
            name: differing(blobs[name], {**tensor, "data": golden[f"blob.{name}"]}) for name, tensor in meta.items()
        }
        size = sum(golden[f"blob.{name}"].size for name in meta)
    record(record_property, f"blobs, {net.engine}", len(meta), sum(count > 0 for count in wrong.values()))
    record(record_property, f"blob elements, {net.engine}", size, sum(wrong.values()))
    assert {name: count for name, count in wrong.items() if count} == {}


def test_every_probability_is_caffe2s(net: Net, record_property):
    with np.load(TEST_DATA / "golden" / "net" / "mobilenet_v2.npz") as golden:
        rows = np.searchsorted(golden["index"], golden["crop_index"])
        wanted = golden["softmax_u8"][rows]
        probabilities = net.run_pixels(golden["crops"])["softmax"]
    wrong = int((probabilities != wanted.astype(np.float32) / 256).sum())
    record(record_property, f"probabilities, {net.engine}", wanted.size, wrong)
    assert wrong == 0


def test_the_zoos_net_is_what_it_says(net: Net):
    assert (net.name, net.input_size, net.classes) == ("mobilenet_v2_quant", (224, 224), 1000)
    # Its external output is blob 325, the probabilities' bytes; ours is the float blob behind it.
    assert (net.input_name, net.output_name) == ("data", "softmax")
    assert net.sha256 == "3de5beb494c6" + net.sha256[12:]
