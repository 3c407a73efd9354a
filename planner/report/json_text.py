"""JSON as text, the same bytes for the same document."""

from __future__ import annotations

import json

JsonObject = dict[str, object]
"""What a JSON object holds: text, numbers, truth values, None, and lists and objects of them."""


def dumps(document: JsonObject) -> str:
    """JSON text in ASCII, keys in the order in which they were put in."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"
