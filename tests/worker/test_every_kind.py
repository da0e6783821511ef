"""One image of every kind of reference through a real worker: the settings reach the kinds, and all agree."""

from __future__ import annotations

import base64
import io
import tarfile
from ipaddress import ip_network
from pathlib import Path

import lmdb
import pytest
from PIL import Image as Picture

from imagequeue import Producer
from imagequeue.contract import Image
from imagequeue_worker.errors import SettingsError
from imagequeue_worker.references.datum import Datum, write_datum
from imagequeue_worker.settings import Settings
from web_server import PUBLIC, WebServer, body
from worker_process import StartWorker, until


def test_references_of_every_kind_to_one_picture_give_one_answer(
    start_worker: StartWorker, producer: Producer, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    Picture.effect_noise((300, 260), 80).convert("RGB").save(buffer, "PNG")
    data = buffer.getvalue()
    (tmp_path / "a.png").write_bytes(data)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "a.png", "folder/a.png")
    planes = Picture.open(buffer).convert("RGB").tobytes()[::-1]  # grey noise: every channel is alike
    raw = Datum(bytes(reversed(planes[::3])), 0, 1, 260, 300)
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 24) as database, database.begin(write=True) as transaction:
        transaction.put(b"encoded", write_datum(Datum(data, 0, encoded=True)))
        transaction.put(b"raw", write_datum(raw))
    with WebServer(PUBLIC, {"/a.png": body(data)}).running() as server:
        worker = start_worker("--allow-network", PUBLIC)
        refs = {
            "path": str(tmp_path / "a.png"),
            "file": f"file://{tmp_path}/a.png",
            "http": f"{server.url}/a.png",
            "data": f"data:image/png;base64,{base64.b64encode(data).decode()}",
            "blob": producer.upload(data),
            "tar": f"tar://{tmp_path}/a.tar#folder/a.png",
            "lmdb": f"lmdb://{tmp_path}/db#encoded",
            "lmdb-raw": f"lmdb://{tmp_path}/db#raw",
        }
        producer.submit_many([Image(kind, ref) for kind, ref in refs.items()])
        until(lambda: producer.progress().pending == 0, worker)
    results = {kind: producer.result(kind) for kind in refs}
    assert {kind: result.error for kind, result in results.items()} == dict.fromkeys(refs)
    assert len({result.classes for result in results.values()}) == 1


def test_networks_are_read_from_flags_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEQUEUE_ALLOW_NETWORK", "10.1.0.0/16 fd00::/8 192.0.2.7")
    expected = tuple(map(ip_network, ("10.1.0.0/16", "fd00::/8", "192.0.2.7")))
    assert Settings.from_environment().allow_networks == expected


@pytest.mark.parametrize("value", ["10.1.0.1/16", "localhost", "10.0.0.0/33", "everything"])
def test_what_is_no_network_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("IMAGEQUEUE_ALLOW_NETWORK", value)
    with pytest.raises(SettingsError, match="--allow-network"):
        Settings.from_environment()
