"""The only place where a unit is converted. Memory is binary (KiB, MiB, GiB), bandwidth and FLOP are decimal (GB/s)."""

from __future__ import annotations

import re

KIB = 1024
MIB = 1024**2
GIB = 1024**3
KB = 1000
MB = 1000**2
GB = 1000**3
TERA = 1e12
US_PER_S = 1e6
MS_PER_S = 1e3

_TOKENS = re.compile(r"\s*([0-9]{1,9})\s*([kKmM]?)\s*\Z")
_SIZE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*(KiB|MiB|GiB|TiB|KB|MB|GB|TB|B)\s*$")
_FACTOR = {
    "B": 1,
    "KiB": KIB,
    "MiB": MIB,
    "GiB": GIB,
    "TiB": 1024**4,
    "KB": KB,
    "MB": MB,
    "GB": GB,
    "TB": 1000**4,
}


def gib(size_bytes: float) -> float:
    """Bytes to GiB (2^30 bytes)."""
    return size_bytes / GIB


def gib_to_bytes(size_gib: float) -> float:
    """GiB (2^30 bytes) to bytes."""
    return size_gib * GIB


def gb_to_gib(size_gb: float) -> float:
    """Decimal GB (10^9 bytes) to GiB (2^30 bytes)."""
    return size_gb * GB / GIB


def gib_to_gb(size_gib: float) -> float:
    """GiB (2^30 bytes) to decimal GB (10^9 bytes)."""
    return size_gib * GIB / GB


def gbit_per_s_to_gb_per_s(rate_gbit_per_s: float) -> float:
    """Line rate in Gbit/s to GB/s, both decimal."""
    return rate_gbit_per_s / 8


def parse_size_bytes(text: str) -> float:
    """Read '80GB' or '80 GiB' strictly; a bare number or a rate ('80 GB/s') raises ValueError.

    >>> parse_size_bytes("1 KiB")
    1024.0
    """
    match = _SIZE.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size with a unit such as '20GiB' or '80GB'")
    return float(match.group(1)) * _FACTOR[match.group(2)]


def parse_tokens(text: str) -> int:
    """Read a number of tokens: k is 1,024 and m 1,024 times that, as context lengths are named.

    Raises ValueError for anything else, and for none.

    >>> parse_tokens("8k")
    8192
    """
    match = _TOKENS.match(text)
    count = int(match[1]) * {"k": 1024, "m": 1024**2}.get(match[2].lower(), 1) if match else 0
    if not count:
        raise ValueError(f"{text!r} is no number of tokens such as 8192 or 8k")
    return count


def format_gib(size_bytes: float) -> str:
    """Bytes as GiB with two decimals and the unit."""
    return f"{size_bytes / GIB:.2f} GiB"


def format_seconds(seconds: float) -> str:
    """Seconds with a unit a person reads: us, ms, s, h or days."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 3 * 3600:
        return f"{seconds:.2f} s"
    if seconds < 72 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def number(value: float, digits: int = 2) -> str:
    """A figure with thousands separators and no negative zero."""
    text = f"{value:,.{digits}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign."""
    text = number(value, digits)
    return text if text.startswith("-") or float(text.replace(",", "")) == 0 else f"+{text}"


def span(hours: float) -> str:
    """A duration in days, or in hours where it is less than two days."""
    return f"{number(hours, 1)} hours" if hours < 48 else f"{number(hours / 24, 1)} days"


def percent(share: float, digits: int = 1) -> str:
    """0.715 as 71.5 %."""
    return f"{share * 100:.{digits}f} %"
