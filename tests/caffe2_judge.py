"""Compares a net's folder with real Caffe2 (Predictor and workspace, QNNPACK), blob by blob.

    python tests/caffe2_judge.py FOLDER ... --caffe2 /tmp/caffe2/bin/python

Real Caffe2's last packages are for Python 3.7, which pyenv has. To set it up, once:

    ~/.pyenv/versions/3.7.16/bin/python -m venv /tmp/caffe2
    /tmp/caffe2/bin/pip install torch==1.4.0 'numpy<1.22' 'protobuf<3.21' future six

The project's engine computes every blob of a few pictures and writes them to a file; then this same script runs in
Python 3.7 with `--inside`, computes them with Caffe2 and counts the elements that differ. Exit code 1 if any does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path


def write_blobs(folder, path, engine):
    """Run the project's engine on pictures; write the input and every blob."""
    import numpy as np

    from imagequeue_worker.caffe2 import PixelScaling, QTensor, load_net
    from imagequeue_worker.zoo import describe
    from synthetic_net import synthetic_pictures

    spec = describe(folder).preprocessing
    net = load_net(folder, engine=engine, scaling=PixelScaling(spec.mean, spec.std))
    pictures = np.concatenate([synthetic_pictures(3, spec.crop), _photographs(spec)])
    data = net.float_input(pictures)
    arrays = {"in." + name: array for name, array in data.items()}
    for name, blob in net.run_blobs(data).items():
        if isinstance(blob, QTensor):
            arrays["int8." + name] = blob.data
            arrays["scale." + name] = np.array([blob.scale, blob.zero_point], np.float64)
        elif blob.dtype == np.float32:
            arrays["float." + name] = blob
    np.savez(path, **arrays)


def _photographs(spec):
    import numpy as np

    from imagequeue_worker.images import preprocess
    from imagequeue_worker.making.default_net import photographs

    return np.stack([preprocess(path.read_bytes(), spec) for path in photographs()[:3]])


def compare_in_caffe2(folder, path):
    """In Python 3.7: run Caffe2 on the same input; return [compared, differing] elements, and the worst blobs."""
    import numpy as np
    from caffe2.proto import caffe2_pb2
    from caffe2.python import workspace

    nets = []
    for name in ("init_net.pb", "predict_net.pb"):
        net = caffe2_pb2.NetDef()
        net.ParseFromString((folder / name).read_bytes())
        nets.append(net)
    init, predict = nets
    wanted = np.load(str(path))
    data = {name[3:]: wanted[name] for name in wanted.files if name.startswith("in.")}
    workspace.RunNetOnce(init)
    for name, array in data.items():
        workspace.FeedBlob(name, array)
    workspace.CreateNet(predict)
    workspace.RunNet(predict.name)
    compared, differing, blobs, wrong = 0, 0, 0, []
    for op in predict.op:
        name = op.output[0]
        if "int8." + name in wanted.files:
            blob = workspace.FetchInt8Blob(name)
            bad = int(np.count_nonzero(blob.data != wanted["int8." + name]))
            bad += [np.float32(blob.scale), blob.zero_point] != list(wanted["scale." + name].astype(np.float32))
        elif "float." + name in wanted.files:
            blob = workspace.FetchBlob(name)
            bad = int(np.count_nonzero(blob != wanted["float." + name]))
        else:
            wrong.append(name + " was not computed")
            continue
        blobs += 1
        compared += int(np.prod(wanted[("int8." if "int8." + name in wanted.files else "float.") + name].shape))
        differing += bad
        wrong += [name] * bool(bad)
    answer = workspace.Predictor(init.SerializeToString(), predict.SerializeToString()).run(data)[0]
    bad = int(np.count_nonzero(answer != wanted["float." + predict.external_output[0]]))
    return {"blobs": blobs, "compared": compared, "differing": differing, "predictor_differing": bad, "wrong": wrong}


def main():
    """Judge folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--caffe2", default="/tmp/caffe2/bin/python", help="Python 3.7 with torch 1.4.0")
    parser.add_argument("--engine", default="portable")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(compare_in_caffe2(options.folders[0], options.inside)))
        return 0
    failed = False
    for folder in options.folders:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "blobs.npz"
            write_blobs(folder, path, options.engine)
            # -I: beside this script lies a folder called caffe2.
            command = [options.caffe2, "-I", __file__, str(folder), "--inside", str(path)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            print(f"{folder}: Caffe2 ended with code {done.returncode} (an abort: a check of its own failed)")
            failed = True
            continue
        counts = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{folder}: {counts['blobs']} blobs, {counts['compared']:,} elements compared, {counts['differing']} "
            f"differing; Predictor: {counts['predictor_differing']} differing; {', '.join(counts['wrong'])}"
        )
        failed = failed or bool(counts["differing"] or counts["predictor_differing"] or counts["wrong"])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
