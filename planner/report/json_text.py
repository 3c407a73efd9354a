"""JSON as text, the same bytes for the same document."""

from __future__ import annotations

import json
from typing import Any


def dumps(document: dict[str, Any]) -> str:
    """JSON text in ASCII, keys in the order in which they were put in."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"
