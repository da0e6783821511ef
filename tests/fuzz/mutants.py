"""Damaged nets: files whose bytes changed, and nets whose fields changed, of a small net of many operators."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from caffe2.tiny_net import tiny_init, tiny_predict
from fuzz.damage import KINDS, damage
from imagequeue_worker.caffe2.netdef import Argument, NetDef, OperatorDef, read_net
from imagequeue_worker.caffe2.netdef_writer import write_net
from imagequeue_worker.caffe2.operators import OPERATORS
from native.random_nets import write_random_net

Files = tuple[bytes, bytes]  # init_net.pb, predict_net.pb

STEPS = ("conv", "depthwise", "concat", "skip")
SIZE = 8

BYTES = [b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\x01", b"\x80" * 11]
INTEGERS = [0, 1, -1, 2, 3, 7, 31, 33, 127, 128, 255, 256, 4095, 4096, 4097, 2**15, 2**31 - 1, 2**31, 2**62, -(2**63)]
FLOATS = [0.0, -1.0, 1e-45, 1e-38, 2.0**-32, 1 / 256, 0.02, 0.5, 1.0, 255.0, 3e38, float("inf"), float("nan")]


def small_nets(folder: Path) -> list[Files]:
    """Make what is damaged: the tiny net, and a random one."""
    write_random_net(folder, seed=4, steps=STEPS, size=SIZE)
    files = (folder / "init_net.pb").read_bytes(), (folder / "predict_net.pb").read_bytes()
    return [(write_net(tiny_init()), write_net(tiny_predict())), files]


def mutants(chance: random.Random, nets: list[Files]) -> Iterator[Files]:
    """Damage nets without end: half of them as bytes, half as messages."""
    messages = [(read_net(init), read_net(predict)) for init, predict in nets]
    while True:
        number = chance.randrange(len(nets))
        if chance.random() < 0.5:
            init, predict = nets[number]
            in_init = chance.random() < 0.3
            damaged = damage_bytes(chance, init if in_init else predict, nets)
            yield (damaged, predict) if in_init else (init, damaged)
        else:
            init_net, predict_net = messages[number]
            for _ in range(chance.choice((1, 1, 1, 2, 4))):
                if chance.random() < 0.3:
                    init_net = damage_net(chance, init_net)
                else:
                    predict_net = damage_net(chance, predict_net)
            yield write_net(init_net), write_net(predict_net)


def damage_bytes(chance: random.Random, data: bytes, nets: list[Files]) -> bytes:
    """Flip, overwrite, drop, double and splice."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        place = chance.randrange(len(changed) + 1)
        kind = chance.randrange(KINDS + 1)
        if kind < KINDS:
            damage(chance, changed, place, kind, BYTES, lambda: chance.choice(chance.choice(nets)))
        elif chance.random() < 0.1:
            del changed[place:]
    return bytes(changed)


def damage_net(chance: random.Random, net: NetDef) -> NetDef:
    """Change one thing of a net: the order of its operators, one of them, its inputs and outputs."""
    ops = list(net.ops)
    if not ops:
        return net
    at = chance.randrange(len(ops))
    match chance.randrange(10):
        case 0:
            del ops[at]
        case 1:
            ops.insert(chance.randrange(len(ops) + 1), ops[at])
        case 2:
            other = chance.randrange(len(ops))
            ops[at], ops[other] = ops[other], ops[at]
        case 3:
            names = (*net.external_inputs, *net.external_outputs, "data", "")
            return replace(net, external_inputs=tuple(chance.sample(names, chance.randrange(len(names)))))
        case 4:
            sizes = (chance.choice(INTEGERS), chance.choice((1, 8, 9, 64, 300)))
            return replace(net, args=(Argument("input_size", ints=sizes),))
        case _:
            ops[at] = damage_operator(chance, ops[at], net)
    return replace(net, ops=tuple(ops))


def damage_operator(chance: random.Random, op: OperatorDef, net: NetDef) -> OperatorDef:
    """Change its type, a blob, or an argument."""
    blobs = [name for other in net.ops for name in (*other.inputs, *other.outputs)] or [""]
    match chance.randrange(8):
        case 0:
            return replace(op, type=chance.choice(sorted(OPERATORS)))
        case 1:
            return replace(op, inputs=_changed(chance, op.inputs, blobs))
        case 2:
            return replace(op, outputs=_changed(chance, op.outputs, blobs))
    args = list(op.args)
    if not args or chance.random() < 0.15:
        name = chance.choice(
            ("pad", "kernel", "stride", "dilation", "group", "global_pooling", "axis", "order", "shape")
        )
        return replace(op, args=(*args, Argument(name, i=chance.choice(INTEGERS))))
    at = chance.randrange(len(args))
    if chance.random() < 0.1:
        del args[at]
    else:
        args[at] = damage_argument(chance, args[at])
    return replace(op, args=tuple(args))


def _changed(chance: random.Random, names: tuple[str, ...], blobs: list[str]) -> tuple[str, ...]:
    changed = list(names)
    if changed and chance.random() < 0.7:
        changed[chance.randrange(len(changed))] = chance.choice(blobs)
    elif changed and chance.random() < 0.5:
        changed.pop()
    else:
        changed.append(chance.choice(blobs))
    return tuple(changed)


def damage_argument(chance: random.Random, arg: Argument) -> Argument:
    """Change a value to one at an edge, or to a near one; a list in one place or in length."""
    integer: Callable[[], int] = lambda: chance.choice(INTEGERS)  # noqa: E731 - three uses, one line
    if arg.i is not None:
        return replace(arg, i=chance.choice((integer(), (arg.i + chance.randrange(-2, 3)) % 2**63)))
    if arg.f is not None:
        return replace(arg, f=chance.choice((chance.choice(FLOATS), min(arg.f * 2 ** chance.uniform(-4, 4), 3e38))))
    if arg.s is not None:
        text = bytearray(arg.s)
        if text:
            text[chance.randrange(len(text))] = chance.randrange(256)
        return replace(arg, s=bytes(text)[: chance.choice((None, None, len(text) // 2))])
    if arg.ints:
        ints = list(arg.ints)
        ints[chance.randrange(len(ints))] = chance.choice((integer(), chance.randrange(1, 20)))
        return replace(arg, ints=tuple(ints)[: chance.choice((None, None, len(ints) - 1))])
    return replace(arg, i=integer())
