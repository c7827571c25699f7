"""A disk that gives back one bit wrong."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path


def flip_a_bit(path: Path) -> None:
    """Change one bit in the middle of a ZIP file's largest member."""
    with zipfile.ZipFile(path) as archive:
        member = max(archive.infolist(), key=lambda info: info.file_size)
    content = bytearray(path.read_bytes())
    name, extra = struct.unpack_from("<HH", content, member.header_offset + 26)
    content[member.header_offset + 30 + name + extra + member.file_size // 2] ^= 1
    path.write_bytes(content)
