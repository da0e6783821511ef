"""Writes a NetDef as the bytes of a .pb file: what `read_net` reads, and what Caffe2 reads."""

from .netdef import Argument, NetDef, OperatorDef
from .wire import encode_bytes, encode_float, encode_int


def write_net(net: NetDef) -> bytes:
    """Encode a net; `read_net(write_net(net)) == net`, floats being rounded to float32."""
    parts = [_text(1, net.name)]
    parts += [encode_bytes(2, _operator(op)) for op in net.ops]
    parts.append(_text(3, net.type))
    parts += [encode_bytes(6, _argument(arg)) for arg in net.args]
    parts += [encode_bytes(7, name.encode()) for name in net.external_inputs]
    parts += [encode_bytes(8, name.encode()) for name in net.external_outputs]
    return b"".join(parts)


def _text(field: int, value: str) -> bytes:
    return encode_bytes(field, value.encode()) if value else b""


def _operator(op: OperatorDef) -> bytes:
    parts = [encode_bytes(1, name.encode()) for name in op.inputs]
    parts += [encode_bytes(2, name.encode()) for name in op.outputs]
    parts += [_text(3, op.name), _text(4, op.type)]
    parts += [encode_bytes(5, _argument(arg)) for arg in op.args]
    parts.append(_text(7, op.engine))
    return b"".join(parts)


def _argument(arg: Argument) -> bytes:
    parts = [_text(1, arg.name)]
    if arg.f is not None:
        parts.append(encode_float(2, arg.f))
    if arg.i is not None:
        parts.append(encode_int(3, arg.i))
    if arg.s is not None:
        parts.append(encode_bytes(4, arg.s))
    parts += [encode_float(5, value) for value in arg.floats]
    parts += [encode_int(6, value) for value in arg.ints]
    parts += [encode_bytes(7, value) for value in arg.strings]
    return b"".join(parts)
