"""What an entry of the catalogs states, told from its lines alone: reading 85 files as YAML takes a second."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path


def text_of(path: Path) -> str:
    """The text of an entry's file, read again only where the file has another time or size. Raises OSError."""
    found = os.stat(path)
    return _text(path, found.st_mtime_ns, found.st_size, found.st_ino)


@lru_cache(maxsize=1024)
def _text(path: Path, changed_ns: int, size_bytes: int, inode: int) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def stated(files: Mapping[str, Path], name: str, key: str) -> str | None:
    """The text after a top-level key of an entry, or of the one that it extends: empty where there is none.

    None where lines alone cannot tell it, as in another style of YAML.
    """
    seen = set[str]()
    while name in files and name not in seen:
        seen.add(name)
        text = text_of(files[name])
        line = re.search(rf"^{key}: *([^ #\n][^#\n]*)", text, re.MULTILINE)
        if line is not None:
            return line[1].strip().strip("'\"")
        base = re.search(r"^extends: *([\w.-]+) *$", text, re.MULTILINE)
        if base is None:
            return None if key in text else ""
        name = base[1]
    return None
