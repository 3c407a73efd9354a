"""What an entry of the catalogs states, told from its lines alone: reading 85 files as YAML takes a second."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path


def stated(files: Mapping[str, Path], name: str, key: str) -> str | None:
    """The text after a top-level key of an entry, or of the one that it extends: empty where there is none.

    None where lines alone cannot tell it, as in another style of YAML.
    """
    seen = set[str]()
    while name in files and name not in seen:
        seen.add(name)
        text = files[name].read_text(encoding="utf-8", errors="replace")
        line = re.search(rf"^{key}: *([^ #\n][^#\n]*)", text, re.MULTILINE)
        if line is not None:
            return line[1].strip().strip("'\"")
        base = re.search(r"^extends: *([\w.-]+) *$", text, re.MULTILINE)
        if base is None:
            return None if key in text else ""
        name = base[1]
    return None
