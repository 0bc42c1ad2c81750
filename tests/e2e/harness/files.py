"""Reading what the `file` sink wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def file_sink(path: Path, allow_torn: bool = False) -> list[dict[str, Any]]:
    """Every change of the file. A last line without its end is what a killed writer leaves: an error unless
    allowed, and then left out."""
    data = path.read_bytes() if path.exists() else b""
    lines = data.split(b"\n")
    torn = lines.pop()
    assert allow_torn or not torn, f"{path} ends in a torn line: {torn[-200:]!r}"
    return [json.loads(line) for line in lines]
