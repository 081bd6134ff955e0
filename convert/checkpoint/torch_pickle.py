"""Reads the pickle inside a ``.bin`` shard without running any of its calls.

A pickle is a program for a small stack machine, and Python's own machine calls every function that the program names.
This one has only the instructions that ``torch.save`` writes for a dictionary of tensors. It calls nothing: names
that it knows become descriptions, and a name that it does not know is an error with that name.

A ``pickle.Unpickler`` with a ``find_class`` of its own is no replacement. 1,009 bytes whose dictionary key is a tuple
of 2**200 parts keep it busy for ever, LONG_BINPUT makes it allocate 16 bytes for each place up to the one that is
named, and BUILD sets attributes of the functions that ``find_class`` returns. It has no hook for any of the three.
"""

import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


class ForbiddenPickle(ValueError):
    """The pickle asks for an object that weights never need; the text names it, to follow "it asks for"."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A stretch of values in the zip."""

    dtype: str
    """As safetensors spells it."""
    key: str
    """Its name in the folder ``data`` of the zip."""


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor as a look at a storage; offset and strides count values."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def is_contiguous(self) -> bool:
        """Whether the values lie row after row, without gaps."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True


_STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}

_MAX_DIMENSIONS = 8

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Keys that training programs save the tensors of a model under."""

_CALLABLE = frozenset(
    {
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
    }
)


@dataclass(frozen=True, slots=True)
class _Name:
    module: str
    name: str


class _Mark:
    """Where a run of values on the stack starts."""


_MARK = _Mark()

# Instructions that push their argument as it is, or a constant.
_ARGUMENT = frozenset(
    (
        "BININT", "BININT1", "BININT2", "LONG1", "INT", "BINFLOAT",
        "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE",
    )
)  # fmt: skip
_CONSTANTS: dict[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PASSED_OVER = frozenset(("PROTO", "FRAME"))


def read_tensors(data: bytes) -> dict[str, TensorView]:
    """Return the tensors of a pickled dictionary, by name.

    Raises:
        ForbiddenPickle: it asks for more than tensors.
        ValueError: it is no such pickle.
    """
    try:
        result = _Machine().run(data)
    except ForbiddenPickle:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"data.pkl is no pickle of tensors ({type(error).__name__})") from error
    if not isinstance(result, dict):
        raise ValueError("data.pkl holds no dictionary of tensors")
    tensors: dict[str, TensorView] = {}
    for name, value in _unwrapped(result).items():
        if not isinstance(value, TensorView):
            raise ValueError(f"its entry {name!r} is no tensor")
        tensors[name] = value
    return tensors


def _unwrapped(result: dict[str, object]) -> dict[str, object]:
    """Return the dictionary of tensors that training programs save together with a step, a loss and the like."""
    inner = [value for key in _WRAPPERS if isinstance(value := result.get(key), dict)]
    return inner[0] if len(inner) == 1 else result


@dataclass(slots=True)
class _Machine:
    stack: list[object] = field(default_factory=list)
    memo: dict[int, object] = field(default_factory=dict)

    def run(self, data: bytes) -> object:
        """Return the top of the stack after the program."""
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return self.stack.pop()
            self._step(opcode.name, argument)
        raise ValueError("no end")

    def _step(self, name: str, argument: object) -> None:
        if name in _ARGUMENT:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _PLAIN:
            _PLAIN[name](self)
        elif name in _WITH_ARGUMENT:
            _WITH_ARGUMENT[name](self, argument)
        elif name not in _PASSED_OVER:
            raise ForbiddenPickle(f"the pickle instruction {name}")

    def pop_run(self) -> list[object]:
        """Take everything down to the last mark off the stack."""
        at = len(self.stack) - 1
        while not isinstance(self.stack[at], _Mark):
            at -= 1
            if at < 0:
                raise ValueError("no mark")
        run = self.stack[at + 1 :]
        del self.stack[at:]
        return run

    def pop_many(self, count: int) -> tuple[object, ...]:
        """Take ``count`` values off the stack."""
        taken = self.stack[len(self.stack) - count :]
        if len(taken) != count:
            raise ValueError("stack too short")
        del self.stack[len(self.stack) - count :]
        return tuple(taken)


def _global(machine: _Machine, argument: object) -> None:
    module, _, name = str(argument).partition(" ")
    machine.stack.append(_known(module, name))


def _stack_global(machine: _Machine) -> None:
    module, name = machine.pop_many(2)
    machine.stack.append(_known(module, name))


def _known(module: object, name: object) -> _Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("a name that is no text")
    if (module, name) in _CALLABLE or (module == "torch" and name in _STORAGES):
        return _Name(module, name)
    raise ForbiddenPickle(f"{module}.{name}")


def _reduce(machine: _Machine) -> None:
    function, arguments = machine.pop_many(2)
    match function, arguments:
        case _Name(name="OrderedDict"), ():
            machine.stack.append({})
        case _Name(name="OrderedDict"), (list(pairs),):
            machine.stack.append(dict(_pairs(pairs)))
        case _Name(name="_rebuild_tensor_v2"), (Storage() as storage, int(offset), tuple(shape), tuple(strides), *_):
            machine.stack.append(TensorView(storage, offset, _sizes(shape), _sizes(strides)))
        case _Name(name="_rebuild_parameter"), (TensorView() as tensor, *_):
            machine.stack.append(tensor)
        case _:
            raise ForbiddenPickle("a call that rebuilds no tensor")


def _pairs(values: list[object]) -> Iterator[tuple[str, object]]:
    for pair in values:
        match pair:
            case (str(key), value) | [str(key), value]:
                yield key, value
            case _:
                raise ValueError("no pairs")


def _sizes(values: tuple[object, ...]) -> tuple[int, ...]:
    if len(values) > _MAX_DIMENSIONS:
        raise ValueError("too many dimensions")
    sizes = tuple(value for value in values if isinstance(value, int) and value >= 0)
    if len(sizes) != len(values):
        raise ValueError("a size that is no number")
    return sizes


def _persistent(machine: _Machine) -> None:
    match machine.stack.pop():
        case ("storage", _Name(module="torch", name=kind), str(key), str(), int()) if kind in _STORAGES:
            machine.stack.append(Storage(_STORAGES[kind], key))
        case _:
            raise ForbiddenPickle("a persistent object that is no storage")


def _build(machine: _Machine) -> None:
    # torch hangs version numbers on the dictionary of a module; nothing else has such a state.
    target, _ = machine.pop_many(2)
    if not isinstance(target, dict):
        raise ForbiddenPickle("an object with a state")
    machine.stack.append(target)


def _set_items(machine: _Machine, items: list[object] | tuple[object, ...]) -> None:
    target = machine.stack[-1]
    if not isinstance(target, dict):
        raise ForbiddenPickle("items of what is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str | int):  # hashing anything else can be made to take for ever
            raise ValueError("a name that is no text")
        target[str(key)] = value  # optimisers number what they keep


def _extend(machine: _Machine, items: list[object] | tuple[object, ...]) -> None:
    target = machine.stack[-1]
    if not isinstance(target, list):
        raise ForbiddenPickle("elements of what is no list")
    target.extend(items)


def _remember(machine: _Machine, argument: object) -> None:
    machine.memo[len(machine.memo) if argument is None else _index(argument)] = machine.stack[-1]


def _recall(machine: _Machine, argument: object) -> None:
    machine.stack.append(machine.memo[_index(argument)])


def _index(argument: object) -> int:
    if not isinstance(argument, int):
        raise ValueError("a place that is no number")
    return argument


_PLAIN: dict[str, Callable[[_Machine], None]] = {
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "BINPERSID": _persistent,
    "BUILD": _build,
    "MARK": lambda machine: machine.stack.append(_MARK),
    "EMPTY_DICT": lambda machine: machine.stack.append({}),
    "EMPTY_LIST": lambda machine: machine.stack.append([]),
    "EMPTY_TUPLE": lambda machine: machine.stack.append(()),
    "TUPLE": lambda machine: machine.stack.append(tuple(machine.pop_run())),
    "TUPLE1": lambda machine: machine.stack.append(machine.pop_many(1)),
    "TUPLE2": lambda machine: machine.stack.append(machine.pop_many(2)),
    "TUPLE3": lambda machine: machine.stack.append(machine.pop_many(3)),
    "SETITEM": lambda machine: _set_items(machine, machine.pop_many(2)),
    "SETITEMS": lambda machine: _set_items(machine, machine.pop_run()),
    "APPEND": lambda machine: _extend(machine, machine.pop_many(1)),
    "APPENDS": lambda machine: _extend(machine, machine.pop_run()),
}

_WITH_ARGUMENT: dict[str, Callable[[_Machine, object], None]] = {
    "GLOBAL": _global,
    "PUT": _remember,
    "BINPUT": _remember,
    "LONG_BINPUT": _remember,
    "MEMOIZE": _remember,
    "GET": _recall,
    "BINGET": _recall,
    "LONG_BINGET": _recall,
}
