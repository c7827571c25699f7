"""Read the tensors of a ``torch.save`` file that may be hostile.

Such a file is a zip archive holding a pickle and the tensors' raw bytes. The pickle is never run:
:func:`scan` walks its opcodes with ``pickletools``, accepts only those a state dict needs, works
out every tensor's place, and checks it against the bytes there are. :func:`read_tensors` then
takes the numbers from those bytes. A file that passed is shown to torch as well
(:func:`confirm`): two readers that share no code must agree.
"""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skilldistill.errors import CorruptFile, UnsafeFile, UnsupportedExpert, excerpt
from skilldistill.experts.archive import Archive, Limits
from skilldistill.experts.pickles import quiet

MAX_BYTES = 64 * 2**20
MAX_OPCODES = 100_000
MAX_PICKLE_BYTES = 4 * 2**20
MAX_DIMENSIONS = 8
_LIMITS = Limits(members=4096, member_bytes=MAX_BYTES, total_bytes=MAX_BYTES)
_BFLOAT16 = "torch BFloat16Storage"
_DTYPES = {
    "torch FloatStorage": "<f4",
    "torch DoubleStorage": "<f8",
    "torch HalfStorage": "<f2",
    _BFLOAT16: "<u2",
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
    "torch ShortStorage": "<i2",
    "torch CharStorage": "<i1",
    "torch ByteStorage": "<u1",
    "torch BoolStorage": "?",
}
_ORDERED_DICT = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_ALLOWED = {*_DTYPES, _ORDERED_DICT, _TENSOR, _PARAMETER}
_SIDE_FILES = {
    "version",
    "byteorder",
    ".format_version",
    ".storage_alignment",
    ".data/serialization_id",
}


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies, in elements of its storage."""

    dtype: str
    storage: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str
    count: int


class _Mark:
    pass


def scan(data: bytes, label: str, *, any_content: bool = False) -> dict[str | int, Any]:
    """What a ``torch.save`` file holds, tensors standing as :class:`TensorPlace`.

    Args:
        data: the file.
        label: what to call it in error messages.
        any_content: do not insist on a dictionary; an empty one stands for anything else.

    Raises:
        UnsafeFile: the pickle would do more than rebuild tensors.
        CorruptFile: damaged, or a tensor that reaches beyond its bytes.
        UnsupportedExpert: not a dictionary, or of a layout that is not read here.
    """
    archive, prefix = _open(data, label)
    pickled = f"{prefix}/data.pkl"
    if archive.size(pickled) > MAX_PICKLE_BYTES:
        raise UnsafeFile(f"{label}: its pickle has {archive.size(pickled)} bytes")
    with quiet():
        content = _Machine(archive, prefix, label).run(archive.read(pickled))
    if any_content and not isinstance(content, dict):
        return {}
    if not isinstance(content, dict):
        raise UnsupportedExpert(f"{label} holds no dictionary of tensors")
    return content


def read_tensors(
    data: bytes, label: str, *, check_name: Callable[[str], None] = lambda name: None
) -> dict[str, NDArray[Any]]:
    """The tensors of a state dict as NumPy arrays, float32 where they hold fractions.

    Args:
        data: the file.
        label: what to call it in error messages.
        check_name: raises for names that no tensor may have, before any number is read.

    Raises:
        UnsafeFile, CorruptFile, UnsupportedExpert: as :func:`scan`.
        UnsafeFile: tensors that, by lying over one another, hold more than the file does.
        CorruptFile: a number that is not finite.
    """
    places = _named_places(scan(data, label), label)
    for name in places:
        check_name(name)
    archive, prefix = _open(data, label)
    # Tensors may share a storage: it is read once, and freed with the last array that views it.
    storages: dict[str, bytes] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for name, place in places.items():
        if place.storage not in storages:
            storages[place.storage] = archive.read(f"{prefix}/data/{place.storage}")
        arrays[name] = _array(place, storages[place.storage])
        if not np.isfinite(arrays[name]).all():
            raise CorruptFile(f"{label}: tensor {excerpt(name)!r} holds NaN or infinity")
    return arrays


def _named_places(content: Mapping[str | int, Any], label: str) -> dict[str, TensorPlace]:
    """The places by name, provided that all arrays together may be held in memory."""
    places: dict[str, TensorPlace] = {}
    total = 0
    for name, place in content.items():
        if not isinstance(name, str) or not isinstance(place, TensorPlace):
            raise UnsupportedExpert(f"{label}: entry {excerpt(name)!r} is not a named tensor")
        total += math.prod(place.size) * max(np.dtype(_DTYPES[place.dtype]).itemsize, 4)
        if total > MAX_BYTES:
            raise UnsafeFile(f"{label}: its tensors hold more than {MAX_BYTES} bytes in all")
        places[name] = place
    return places


def _array(place: TensorPlace, storage: bytes) -> NDArray[Any]:
    """A tensor as an array: a view of the storage where it holds float32."""
    stored = np.dtype(_DTYPES[place.dtype])
    array: NDArray[Any] = np.ndarray(
        place.size,
        stored,
        storage,
        offset=place.offset * stored.itemsize,
        strides=[step * stored.itemsize for step in place.stride],
    )
    if place.dtype == _BFLOAT16:  # the upper half of a float32
        array = (array.astype("<u4") << 16).view("<f4")
    if array.dtype.kind != "f":
        return array
    with np.errstate(over="ignore"):  # a float64 too large becomes inf and is refused as such
        return array.astype(np.float32, copy=False)


def confirm(data: bytes, arrays: Mapping[str, NDArray[Any]], label: str) -> None:
    """Have ``torch.load(weights_only=True)`` read the same file, and compare.

    Only for files that were found sound: it loads torch, and torch reads an archive written anew
    from the members checked here.

    Raises:
        CorruptFile: torch reads something else, or nothing.
    """
    import torch

    copy = _rewrite(data, label)
    try:
        tensors = torch.load(copy, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch raises, the file is to blame
        reason = excerpt(str(error))
        raise CorruptFile(f"{label}: torch cannot read the tensors: {reason}") from error
    for name, array in arrays.items():
        tensor = tensors.get(name)
        if tensor is None or not np.array_equal(tensor.detach().float().numpy(), array):
            raise CorruptFile(f"{label}: torch reads {name!r} differently")


def _open(data: bytes, label: str) -> tuple[Archive, str]:
    """The archive, and the folder all of its members are in."""
    if not data.startswith(b"PK"):
        raise UnsafeFile(
            f"{label} is a bare pickle, not the zip archive torch has written since version 1.6"
        )
    archive = Archive(io.BytesIO(data), label, _LIMITS)
    prefix = archive.names[0].split("/")[0] if archive.names else ""
    for name in archive.names:
        folder, _, rest = name.partition("/")
        known = rest in _SIDE_FILES or rest == "data.pkl" or rest.startswith("data/")
        if folder != prefix or not known:
            raise UnsafeFile(f"{label}: member {name!r} does not belong into a file of tensors")
    if f"{prefix}/data.pkl" not in archive.names:
        raise CorruptFile(f"{label} has no data.pkl")
    order = f"{prefix}/byteorder"
    if order in archive.names and archive.read(order) != b"little":
        raise UnsupportedExpert(f"{label} was written on a big-endian machine")
    return archive, prefix


def _rewrite(data: bytes, label: str) -> io.BytesIO:
    """The same members in an archive of our own making, so that no other reader can be fooled."""
    archive, _ = _open(data, label)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as copy:
        for name in archive.names:
            copy.writestr(name, archive.read(name))
    target.seek(0)
    return target


@dataclass
class _Machine:
    """A pickle machine that knows how to build dictionaries, and tensors by their place.

    Forty opcodes make a tuple of a trillion leaves out of one, by putting it twice into the next,
    and a hundred thousand make one too deep to recurse into. So no value that the pickle made is
    ever hashed, compared, or formatted before it is known to be text or a number.
    """

    archive: Archive
    prefix: str
    label: str
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self, pickled: bytes) -> Any:
        try:
            for count, (opcode, argument, place) in enumerate(pickletools.genops(pickled)):
                if count > MAX_OPCODES:
                    raise UnsafeFile(f"{self.label}: more than {MAX_OPCODES} pickle opcodes")
                if opcode.name == "STOP":
                    if place != len(pickled) - 1 or len(self.stack) != 1:
                        raise CorruptFile(f"{self.label}: the pickle does not end where it should")
                    return self.stack[0]
                self._do(opcode.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
            reason = excerpt(str(error))
            raise CorruptFile(f"{self.label}: the pickle is broken: {reason}") from error
        raise CorruptFile(f"{self.label}: the pickle has no end")

    def _do(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO":
                pass
            case "GLOBAL":
                if argument not in _ALLOWED:
                    raise UnsafeFile(f"{self.label}: its pickle calls {excerpt(argument)!r}")
                stack.append(_Global(argument))
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "MARK":
                stack.append(_Mark())
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": ()}[name])
            case "TUPLE":
                stack.append(tuple(self._pop_to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(name[-1])
                stack.append(tuple(self._pop(size)))
            case "APPEND" | "APPENDS":
                items = self._pop(1) if name == "APPEND" else self._pop_to_mark()
                self._top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._pop(2) if name == "SETITEM" else self._pop_to_mark()
                self._top(dict).update(zip(map(_key, items[::2]), items[1::2], strict=True))
            case "BUILD":
                self._pop(1)  # attributes of the dictionary, such as the modules' versions
                self._top(dict)
            case "BINPERSID":
                stack.append(self._storage(*self._pop(1)))
            case "REDUCE":
                stack.append(self._call(*self._pop(2)))
            case _:
                raise UnsafeFile(f"{self.label}: its pickle uses the opcode {name}")

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("stack is empty")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def _pop_to_mark(self) -> list[Any]:
        items: list[Any] = []
        while not isinstance(item := self.stack.pop(), _Mark):
            items.append(item)
        return items[::-1]

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise TypeError(f"expected a {kind.__name__} on the stack")
        return self.stack[-1]

    def _storage(self, identity: Any) -> _Storage:
        if type(identity) is not tuple or len(identity) != 5:
            raise ValueError("something that is no storage is referred to")
        word, kind, key, _, count = identity
        if type(word) is not str or word != "storage":
            raise ValueError("something that is no storage is referred to")
        if not isinstance(kind, _Global) or kind.name not in _DTYPES:
            raise ValueError("a storage of unknown numbers")
        if type(key) is not str or type(count) is not int:
            raise ValueError("a storage whose name is no text, or whose size is no number")
        member = f"{self.prefix}/data/{key}"
        if member not in self.archive.names:
            raise ValueError(f"the bytes of storage {excerpt(key)!r} are missing")
        size = self.archive.size(member)
        if size != count * np.dtype(_DTYPES[kind.name]).itemsize:
            raise ValueError(f"storage {excerpt(key)!r} of {size} bytes declares another size")
        return _Storage(kind.name, key, count)

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, _Global) or type(arguments) is not tuple:
            raise UnsafeFile(f"{self.label}: its pickle calls something it made itself")
        if function.name == _ORDERED_DICT and not arguments:
            return {}
        if function.name == _PARAMETER and isinstance(arguments[0], TensorPlace):
            return arguments[0]
        if function.name == _TENSOR and isinstance(arguments[0], _Storage):
            return _place(*arguments[:4])
        raise UnsafeFile(f"{self.label}: its pickle calls {function.name!r} in an unknown way")


def _key(value: Any) -> str | int:
    """A dictionary's key as state dicts have them.

    Raises:
        ValueError: anything else.
    """
    if type(value) is str or type(value) is int:
        return value
    raise ValueError("a dictionary's key is neither text nor a number")


def _place(storage: _Storage, offset: Any, size: Any, stride: Any) -> TensorPlace:
    for numbers in (size, stride, (offset,)):
        if type(numbers) is not tuple or len(numbers) > MAX_DIMENSIONS:
            raise ValueError(f"a tensor's size is no tuple of up to {MAX_DIMENSIONS} numbers")
        if any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError("a tensor's size or place holds something that is no count")
    elements = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if elements > storage.count or (elements and last >= storage.count):
        raise ValueError(f"a tensor of size {excerpt(size)} in {storage.count} numbers")
    return TensorPlace(storage.dtype, storage.key, offset, size, stride)
