"""The main graph of a .tflite file: its tensors and its operators, in the order in which they run.

Only what a classifier needs is kept; field numbers are those of TensorFlow Lite's schema.
"""

from dataclasses import dataclass

from imagequeue_worker.caffe2.errors import InvalidNet

from .flatbuffer import Table, fail, root
from .names import CUSTOM, OPERATORS, TYPES, name_of

IDENTIFIER = b"TFL3"
VERSION = 3

# The largest classifiers have a thousand operators and three tensors for each; hostile files must cost little.
MAX_OPERATORS = 2_000
MAX_TENSORS = 20_000
MAX_LINKS = 256
MAX_RANK = 8
MAX_NAME = 400


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: `data` is empty unless it is a constant. `scales` counts them: more than one is per channel."""

    number: int
    name: str
    type: str
    shape: tuple[int, ...]
    scales: int
    scale: float
    zero_point: int
    data: memoryview

    def __str__(self) -> str:
        return f"tensor {self.number} ({self.name[:80]!r}, {self.type} {list(self.shape)})"


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator; inputs and outputs are tensor numbers, -1 is an input left out."""

    number: int
    type: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options_type: int
    options: Table | None

    @property
    def where(self) -> str:
        """Which one it is, for errors."""
        return f"operator {self.number} of the TFLite net"


@dataclass(frozen=True, slots=True)
class Model:
    """A graph with one input and one output."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    input: Tensor
    output: Tensor


def read_model(data: bytes) -> Model:
    """Read the main graph.

    Raises:
        NetFormatError: The bytes are truncated, damaged or no .tflite file.
        InvalidNet: The file is sound, but its graph has other than one input and one output.
    """
    model = root(data, IDENTIFIER)
    version = model.integer(0, "I")
    if version != VERSION:
        raise fail(0, f"the schema has version {version}; {VERSION} is known")
    graphs, codes = model.tables(2, MAX_OPERATORS), _codes(model)
    if not graphs:
        raise fail(0, "holds no graph")
    tensors = _tensors(graphs[0], model.tables(4, MAX_TENSORS))
    operators = tuple(
        _operator(number, table, codes, len(tensors)) for number, table in enumerate(graphs[0].tables(3, MAX_OPERATORS))
    )
    ends = []
    for field, what in ((1, "inputs"), (2, "outputs")):
        numbers = _links(graphs[0], field, len(tensors))
        if len(numbers) != 1 or numbers[0] < 0:
            raise InvalidNet(f"the TFLite net has {len(numbers)} {what}; a classifier has one; export it alone")
        ends.append(tensors[numbers[0]])
    return Model(tensors, operators, ends[0], ends[1])


def _codes(model: Table) -> list[str]:
    names = []
    for table in model.tables(1, MAX_OPERATORS):
        # Numbers beyond 126 came later, and stand in a field of their own.
        number = max(table.integer(0, "b"), table.integer(3, "i"))
        name = name_of(OPERATORS, number, "operator")
        names.append(f"{name} {table.text(1, MAX_NAME)!r}" if number == CUSTOM else name)
    return names


def _tensors(graph: Table, buffers: list[Table]) -> tuple[Tensor, ...]:
    tensors = []
    for number, table in enumerate(graph.tables(0, MAX_TENSORS)):
        buffer = table.integer(2, "I")
        if buffer >= max(1, len(buffers)):
            raise fail(0, f"tensor {number} has buffer {buffer} of {len(buffers)}")
        if table.table(6) is not None:
            raise InvalidNet(f"tensor {number} of the TFLite net is sparse; only dense ones are read; export it dense")
        quantization = table.table(4)
        scales, scale, zero_point = (0, 0.0, 0) if quantization is None else _quantization(quantization)
        tensors.append(
            Tensor(
                number,
                table.text(3, MAX_NAME),
                name_of(TYPES, table.integer(1, "b"), "type"),
                table.integers(0, "i", MAX_RANK),
                scales,
                scale,
                zero_point,
                buffers[buffer].raw(0) if buffers else memoryview(b""),
            )
        )
    return tuple(tensors)


def _quantization(table: Table) -> tuple[int, float, int]:
    return table.length(2), table.first_real(2), table.first_integer(3, "q")


def _operator(number: int, table: Table, codes: list[str], tensors: int) -> Operator:
    code = table.integer(0, "I")
    if code >= len(codes):
        raise fail(0, f"operator {number} has code {code} of {len(codes)}")
    inputs, outputs = _links(table, 1, tensors), _links(table, 2, tensors)
    return Operator(number, codes[code], inputs, outputs, table.integer(3, "B"), table.table(4))


def _links(table: Table, field: int, tensors: int) -> tuple[int, ...]:
    numbers = table.integers(field, "i", MAX_LINKS)
    if any(not -1 <= number < tensors for number in numbers):
        raise fail(0, f"an operator or the graph names tensors {list(numbers)[:8]} of {tensors}")
    return numbers
