"""Small metadata files: JSON behind one line that says what it is, in which format, and a checksum of both.

    tailrace topic 1 5d0f6b2c
    {"name": "flights", "partitions": 4, ...}

People can read them, and a program cannot mistake a damaged, cut or foreign one for anything else. They are replaced
whole, so there is never half of one. A newer format keeps the first line, so that an older program can refuse it.
"""

import json
import re
from pathlib import Path
from typing import Any

from crc32c import crc32c

from logstore.disk import Disk
from logstore.errors import DataLoss, FormatTooNew, MetadataCorrupt

BYTES_MAX = 1024 * 1024

_FIRST_LINE = re.compile(rb"tailrace ([a-z]+) ([0-9]{1,9}) ([0-9a-f]{8})\n")


def write_document(disk: Disk, path: Path, *, kind: str, version: int, content: dict[str, Any]) -> None:
    """Replace the file, synced. Raises what the disk raises."""
    body = json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"
    disk.replace_file(path, b"tailrace %b %d %08x\n" % (kind.encode(), version, _checksum(kind, version, body)) + body)


def read_document(disk: Disk, path: Path, *, kind: str, version: int) -> dict[str, Any]:
    """Read the file. Raises FileNotFoundError, `MetadataCorrupt`, and `FormatTooNew` above `version`."""
    try:
        data = disk.read_file(path, BYTES_MAX)
    except DataLoss as error:
        raise corrupt(path, str(error)) from error
    line = _FIRST_LINE.match(data)
    if line is None:
        raise corrupt(path, f"it does not begin with 'tailrace {kind}' and a checksum")
    found_kind, found_version, checksum = line[1].decode(), int(line[2]), int(line[3], 16)
    body = data[line.end() :]
    if checksum != _checksum(found_kind, found_version, body):
        raise corrupt(path, "its checksum is wrong")
    if found_kind != kind:
        raise corrupt(path, f"it is a file of kind {found_kind!r} in the place of one of kind {kind!r}")
    if found_version > version:
        raise FormatTooNew(
            f"{path} has format version {found_version}, and this program knows {version}",
            remedy="Start the version that wrote it, or a newer one.",
        )
    content: dict[str, Any] = json.loads(body)
    return content


def corrupt(path: Path, why: str) -> MetadataCorrupt:
    return MetadataCorrupt(
        f"{path} cannot be believed: {why}",
        remedy="Restore it from a copy of the data directory; do not remove it, the records depend on it.",
    )


def _checksum(kind: str, version: int, body: bytes) -> int:
    return crc32c(b"%b %d\n" % (kind.encode(), version) + body)
