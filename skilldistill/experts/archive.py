"""Read a zip file that may be hostile.

Python's ``zipfile`` is made for friendly archives: it reads the whole directory before anybody
can object, and trusts sizes while unpacking. This reader takes nothing that it need not: regular
members, stored or deflated, with plain names, that neither overlap nor lie. Nothing is ever
written to disk. Format: PKWARE APPNOTE 6.3.10, sections 4.3 and 4.5.3.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from skilldistill.errors import CorruptFile, UnsafeFile

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ZIP64_EXTRA = 0x0001
_UNKNOWN = 0xFFFFFFFF
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_SIZES_FOLLOW = 0x0008
_STORED, _DEFLATED = 0, 8
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)*")
_NAME_SIZE = 128
_FILE_TYPE, _REGULAR = 0xF000, 0x8000
_RATIO, _RATIO_FREE = 200, 2**20
"""Unpacked over packed size that is refused, and the size up to which nobody minds."""


@dataclass(frozen=True)
class Limits:
    """What an archive may hold."""

    members: int
    member_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class _Member:
    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    header: int
    start: int = 0


class Archive:
    """The members of a zip file, checked as far as that goes without unpacking.

    Args:
        file: seekable, opened for reading bytes; must stay open while members are read.
        label: what to call the file in error messages.
        limits: how much is too much.

    Raises:
        CorruptFile: not a zip file, or a damaged one.
        UnsafeFile: a zip file no honest program writes, or one beyond the limits.
    """

    def __init__(self, file: BinaryIO, label: str, limits: Limits) -> None:
        self._file, self._label, self._limits = file, label, limits
        self._end = file.seek(0, 2)
        try:
            directory, count, offset = self._find_directory()
            members = self._parse_directory(directory, count, offset)
            self._members = self._locate(members, offset)
        except struct.error as error:
            raise CorruptFile(f"{label} is cut short: {error}") from error

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members, in the order of the directory."""
        return tuple(self._members)

    def size(self, name: str) -> int:
        """Unpacked size of a member in bytes, as declared."""
        return self._members[name].size

    def read(self, name: str) -> bytes:
        """Unpack one member.

        Raises:
            UnsafeFile: it holds more than it declares.
            CorruptFile: it is damaged.
        """
        member = self._members[name]
        packed = self._bytes(member.start, member.packed)
        data = packed if member.method == _STORED else self._inflate(member, packed)
        if len(data) != member.size or zlib.crc32(data) != member.crc:
            raise CorruptFile(f"{self._label}: member {name!r} is damaged (size or checksum)")
        return data

    def _inflate(self, member: _Member, packed: bytes) -> bytes:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            # One byte more than declared is enough to know that the declaration lies.
            data = stream.decompress(packed, member.size + 1)
        except zlib.error as error:
            raise CorruptFile(f"{self._label}: member {member.name!r}: {error}") from error
        if len(data) > member.size:
            raise UnsafeFile(
                f"{self._label}: member {member.name!r} unpacks to more than the "
                f"{member.size} bytes it declares"
            )
        if not stream.eof or stream.unused_data:
            raise CorruptFile(f"{self._label}: member {member.name!r} is damaged (deflate stream)")
        return data

    def _bytes(self, start: int, count: int) -> bytes:
        if start < 0 or start + count > self._end:
            raise CorruptFile(f"{self._label} is cut short, or points outside itself")
        self._file.seek(start)
        data = self._file.read(count)
        if len(data) != count:
            raise CorruptFile(f"{self._label} is cut short")
        return data

    def _find_directory(self) -> tuple[bytes, int, int]:
        """The central directory's bytes, its number of entries, and where it starts."""
        span = min(self._end, _END.size + 0xFFFF)
        tail = self._bytes(self._end - span, span)
        found = tail.rfind(b"PK\x05\x06")
        if found < 0 or len(tail) - found < _END.size:
            raise CorruptFile(f"{self._label} is no zip file, or is cut short")
        place = self._end - span + found
        _, disk, first_disk, here, count, size, offset, comment = _END.unpack_from(tail, found)
        if place + _END.size + comment != self._end:
            raise CorruptFile(f"{self._label} has bytes after its end, or is cut short")
        end = place
        if place >= _END64_LOCATOR.size:
            locator = self._bytes(place - _END64_LOCATOR.size, _END64_LOCATOR.size)
            if locator.startswith(b"PK\x06\x07"):
                _, _, end, _ = _END64_LOCATOR.unpack(locator)
                record = _END64.unpack(self._bytes(end, _END64.size))
                if record[0] != b"PK\x06\x06":
                    raise CorruptFile(f"{self._label} has a broken zip64 record")
                disk, first_disk, here, count, size, offset = record[4:]
        if disk or first_disk or here != count:
            raise UnsafeFile(f"{self._label} is one part of a zip file in several parts")
        if count > self._limits.members or size > self._limits.members * 2**10:
            raise UnsafeFile(
                f"{self._label} has {count} members in {size} bytes of directory; "
                f"{self._limits.members} are allowed"
            )
        if offset + size != end:
            raise UnsafeFile(f"{self._label}: the directory is not where the end record says")
        return self._bytes(offset, size), count, offset

    def _parse_directory(self, directory: bytes, count: int, end: int) -> list[_Member]:
        members: list[_Member] = []
        place = 0
        while place < len(directory):
            fields = _CENTRAL.unpack_from(directory, place)
            if fields[0] != b"PK\x01\x02":
                raise CorruptFile(f"{self._label}: entry {len(members)} of the directory is broken")
            flags, method, crc, packed, size = fields[3], fields[4], *fields[7:10]
            name_size, extra_size, comment_size, disk = fields[10:14]
            attributes, header = fields[15], fields[16]
            start = place + _CENTRAL.size
            place = start + name_size + extra_size + comment_size
            if place > len(directory):
                raise CorruptFile(f"{self._label}: the directory is cut short")
            name = self._name(directory[start : start + name_size])
            extra = directory[start + name_size : start + name_size + extra_size]
            size, packed, header = self._zip64(extra, size, packed, header)
            self._refuse_kind(name, flags, method, attributes, disk)
            members.append(_Member(name, flags, method, crc, packed, size, header))
        if len(members) != count:
            raise UnsafeFile(f"{self._label} declares {count} members and lists {len(members)}")
        self._refuse_sizes(members, end)
        return members

    def _name(self, raw: bytes) -> str:
        name = raw.decode("latin-1")
        parts = name.split("/")
        plain = len(name) <= _NAME_SIZE and _PLAIN_NAME.fullmatch(name)
        if not plain or ".." in parts or "." in parts:
            raise UnsafeFile(f"{self._label}: a member is called {name[:80]!r}")
        return name

    def _zip64(self, extra: bytes, *values: int) -> tuple[int, ...]:
        """Replace the values that did not fit into 32 bits by those of the zip64 field."""
        found = b""
        place = 0
        while place + 4 <= len(extra):
            kind, size = struct.unpack_from("<2H", extra, place)
            if kind == _ZIP64_EXTRA:
                found = extra[place + 4 : place + 4 + size]
            place += 4 + size
        result: list[int] = []
        for value in values:
            if value == _UNKNOWN:
                (value,) = struct.unpack_from("<Q", found)
                found = found[8:]
            result.append(value)
        return tuple(result)

    def _refuse_kind(self, name: str, flags: int, method: int, attributes: int, disk: int) -> None:
        reason = ""
        if flags & _ENCRYPTED:
            reason = "is encrypted"
        elif method not in (_STORED, _DEFLATED):
            reason = f"is packed by method {method}"
        elif (attributes >> 16) & _FILE_TYPE not in (0, _REGULAR):
            reason = "is a link or a special file"
        elif disk:
            reason = "lies in another part of the archive"
        if reason:
            raise UnsafeFile(f"{self._label}: member {name!r} {reason}")

    def _refuse_sizes(self, members: list[_Member], end: int) -> None:
        total = 0
        seen: set[str] = set()
        for member in members:
            total += member.size
            reason = ""
            if member.name in seen:
                reason = "appears twice"
            elif member.size > self._limits.member_bytes:
                reason = f"has {member.size} bytes; {self._limits.member_bytes} are allowed"
            elif total > self._limits.total_bytes:
                reason = f"makes more than {self._limits.total_bytes} bytes in all"
            elif member.packed > end or (member.method == _STORED and member.packed != member.size):
                reason = f"declares sizes that cannot be ({member.packed}, {member.size})"
            elif member.size > max(_RATIO_FREE, _RATIO * member.packed):
                reason = f"unpacks to {member.size / max(member.packed, 1):.0f} times its size"
            if reason:
                raise UnsafeFile(f"{self._label}: member {member.name!r} {reason}")
            seen.add(member.name)

    def _locate(self, members: list[_Member], end: int) -> dict[str, _Member]:
        """Check every member's own header, and where its data begins."""
        located: dict[str, _Member] = {}
        taken = 0
        for member in sorted(members, key=lambda item: item.header):
            fields = _LOCAL.unpack(self._bytes(member.header, _LOCAL.size))
            signature, _, flags, method, _, _, crc, packed, size, name_size, extra_size = fields
            names = self._bytes(member.header + _LOCAL.size, name_size + extra_size)
            start = member.header + _LOCAL.size + name_size + extra_size
            if signature != b"PK\x03\x04" or names[:name_size] != member.name.encode():
                raise UnsafeFile(f"{self._label}: member {member.name!r} is not where it should be")
            if member.header < taken or start + member.packed > end:
                raise UnsafeFile(f"{self._label}: member {member.name!r} overlaps another")
            if not flags & _SIZES_FOLLOW:
                size, packed = self._zip64(names[name_size:], size, packed)
                if (crc, packed, size) != (member.crc, member.packed, member.size):
                    raise UnsafeFile(f"{self._label}: member {member.name!r} declares two sizes")
            if method != member.method or flags != member.flags:
                raise UnsafeFile(f"{self._label}: member {member.name!r} declares two formats")
            taken = start + member.packed
            located[member.name] = _Member(**{**vars(member), "start": start})
        return {member.name: located[member.name] for member in members}
