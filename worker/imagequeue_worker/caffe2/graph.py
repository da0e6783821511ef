"""Joins init_net and predict_net to one checked graph: constants, operators, input and output.

Blobs become numbered slots, a new one for each time that a name is written, so that operators that work in
place need no special care later.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .arguments import Arguments
from .errors import InvalidNet, UnsupportedOperator
from .netdef import NetDef, OperatorDef
from .operators import OPERATORS, Scratch, make_operator
from .tensor import TensorSpec

MAX_OPERATORS = 10_000
MAX_CONSTANT_ELEMENTS = 1 << 27


@dataclass(frozen=True, slots=True)
class Node:
    """One operator between its slots."""

    args: Arguments
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass
class Graph:
    """A net as a list of nodes in the order in which they run.

    Attributes:
        name: The predict net's.
        prelude: From the image to the quantized image: `NCHW2NHWC` if there, and `Int8Quantize`.
        body: All other operators that run for each batch.
        constants: What init_net and operators on constants alone computed, by slot.
        names: The blob name of each slot.
        input: The image's slot.
        outputs: Names that the net declares as its outputs.
        input_size: (H, W) if the net carries it, as our own exporter writes it (net argument `input_size`).
    """

    name: str
    prelude: list[Node] = field(default_factory=list)
    body: list[Node] = field(default_factory=list)
    constants: dict[int, TensorSpec] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    input: int = -1
    outputs: tuple[str, ...] = ()
    input_size: tuple[int, int] | None = None

    @property
    def entry(self) -> int:
        """The quantized image's slot."""
        return self.prelude[-1].outputs[0]

    def slot(self, name: str) -> int:
        """Make a new slot for a blob."""
        self.names.append(name)
        return len(self.names) - 1


def build_graph(init: NetDef, predict: NetDef) -> Graph:
    """Join and check two nets.

    Raises:
        UnsupportedOperator: An operator that no engine has.
        InvalidNet: Missing blobs, blobs read before they are written, no or several image inputs.
        InvalidOperator: A constant that is wrong in itself.
    """
    if len(init.ops) + len(predict.ops) > MAX_OPERATORS:
        raise InvalidNet(f"has {len(init.ops) + len(predict.ops):,} operators; the limit is {MAX_OPERATORS:,}")
    graph = Graph(predict.name or init.name, outputs=predict.external_outputs, input_size=_carried_size(predict))
    current: dict[str, int] = {}
    _check_types(init, predict)
    written = {name for op in init.ops for name in op.outputs}
    read = {name for op in predict.ops for name in op.inputs}
    images = [name for name in dict.fromkeys(predict.external_inputs) if name not in written and name in read]
    if len(images) != 1:
        raise InvalidNet(
            f"the net has {len(images)} inputs besides its constants ({', '.join(images[:5]) or 'none'}); "
            "must have exactly one, the image; list it as external_input and fill the others in init_net.pb"
        )
    nodes: list[Node] = []
    for file, net in (("init_net", init), ("predict_net", predict)):
        if net is predict:
            graph.input = current[images[0]] = graph.slot(images[0])
        for number, op in enumerate(net.ops):
            node = _node(graph, op, current, f"operator {number} of {file}, writes {', '.join(op.outputs)}")
            if all(slot in graph.constants for slot in node.inputs):
                _fold(graph, node)
            else:
                nodes.append(node)
    graph.prelude = list(_prelude(graph, nodes))
    graph.body = [node for node in nodes if node not in graph.prelude]
    return graph


def _check_types(*nets: NetDef) -> None:
    for net in nets:
        for number, op in enumerate(net.ops):
            if op.type not in OPERATORS:
                raise UnsupportedOperator(op.type, OPERATORS, f"operator {number} of {net.name or 'a net'}")


def _carried_size(net: NetDef) -> tuple[int, int] | None:
    for arg in net.args:
        if arg.name == "input_size":
            if len(arg.ints) != 2 or not all(0 < size <= 1 << 14 for size in arg.ints):
                raise InvalidNet(f"net argument input_size is {list(arg.ints)}; must be height and width, 1 to 16384")
            return arg.ints[0], arg.ints[1]
    return None


def _node(graph: Graph, op: OperatorDef, current: dict[str, int], where: str) -> Node:
    for name in op.inputs:
        if name not in current:
            raise InvalidNet(
                f"{op.type} ({where}) reads blob {name!r}, which nothing has written by then; "
                "fill it in init_net.pb or list it as external_input"
            )
    inputs = tuple(current[name] for name in op.inputs)
    if not op.outputs or len(set(op.outputs)) != len(op.outputs):
        raise InvalidNet(f"{op.type} ({where}) has outputs {list(op.outputs)}; must have one or more, all different")
    outputs = []
    for name in op.outputs:
        current[name] = graph.slot(name)
        outputs.append(current[name])
    return Node(Arguments(op.type, op.args, where), inputs, tuple(outputs))


def declare(node: Node, specs: Sequence[TensorSpec]) -> Iterator[tuple[int, TensorSpec]]:
    """Pair the slots that an operator writes with what it promises for them."""
    if len(node.outputs) > len(specs):
        raise InvalidNet(f"{node.args.op_type}{node.args.where} names {len(node.outputs)} outputs; it has {len(specs)}")
    return zip(node.outputs, specs, strict=False)


def _fold(graph: Graph, node: Node) -> None:
    """Run an operator whose inputs are constants: its outputs are constants too."""
    inputs = [graph.constants[slot] for slot in node.inputs]
    operator = make_operator(inputs, node.args)
    total = sum(spec.size for spec in (*graph.constants.values(), *operator.outputs))
    if total > MAX_CONSTANT_ELEMENTS:
        raise InvalidNet(f"the net's constants have {total:,} elements; the limit is {MAX_CONSTANT_ELEMENTS:,}")
    arrays = operator.run([spec.constant for spec in inputs if spec.constant is not None], Scratch())
    for (slot, spec), data in zip(declare(node, operator.outputs), arrays, strict=False):
        graph.constants[slot] = TensorSpec(spec.kind, data.shape, spec.scale, spec.zero_point, data)


def _prelude(graph: Graph, nodes: Sequence[Node]) -> Iterator[Node]:
    """Follow the image to the operator that quantizes it."""
    slot = graph.input
    while True:
        readers = [node for node in nodes if slot in node.inputs]
        if len(readers) != 1 or readers[0].args.op_type not in ("NCHW2NHWC", "Int8Quantize"):
            found = ", ".join(node.args.op_type for node in readers) or "nothing"
            raise InvalidNet(
                f"blob {graph.names[slot]!r}, the image, is read by {found}; must go to one Int8Quantize, "
                "through NCHW2NHWC at most"
            )
        if readers[0].inputs != (slot,):
            raise InvalidNet(
                f"{readers[0].args.op_type}{readers[0].args.where} reads {len(readers[0].inputs)} blobs; "
                f"must read {graph.names[slot]!r}, the image, alone"
            )
        yield readers[0]
        if readers[0].args.op_type == "Int8Quantize":
            return
        slot = readers[0].outputs[0]
