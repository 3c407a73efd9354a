"""The seconds that people wait and limits are given in: wall seconds, unless a test lets them pass more slowly."""

from __future__ import annotations

import time

stretch = 1.0
"""Wall seconds in one of these. The suite makes it large: no answer of it hangs on how fast or loaded a machine is."""
LONGEST_S = 1e9
"""Wall seconds, 30 years. [s]"""


def now() -> float:
    """Seconds since some moment."""
    return time.monotonic() / stretch


def wall_s(seconds: float) -> float:
    """What a timer that knows only wall seconds must be set to."""
    return min(seconds * stretch, LONGEST_S)
