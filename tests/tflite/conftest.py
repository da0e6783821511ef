"""What these tests share: nets written to a folder and loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagequeue_worker.caffe2 import Net, load_net
from imagequeue_worker.caffe2.netdef_writer import write_net
from imagequeue_worker.caffe2.tflite import ImportedNet

Load = Callable[[ImportedNet], Net]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Writes a converted net and loads it in the portable engine."""

    def write_and_load(net: ImportedNet) -> Net:
        (tmp_path / "init_net.pb").write_bytes(write_net(net.init))
        (tmp_path / "predict_net.pb").write_bytes(write_net(net.predict))
        return load_net(tmp_path, engine="portable", scaling=net.scaling)

    return write_and_load
