"""What passes between pages and workers; light, so that the server is up before a worker has imported the search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Asked = Mapping[str, Any]
"""A scenario as text, its name and overrides, and what else is asked."""
Answer = dict[str, Any]
"""What a page or a program is told; `problems` and `exit_code` instead where it was refused."""
MOST_SIDES = 4
"""Plans beside each other."""
