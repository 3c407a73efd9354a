"""PyTorch memory snapshots (`torch.cuda.memory._dump_snapshot`): what was allocated at the fullest moment they know.

A snapshot holds the segments and blocks of the moment it was written, and the last events before it. The events are
walked backwards from the blocks to the moment with most memory, then forwards for the stack of each block.
Format: torch 2.13.0, torch/cuda/memory.py (_snapshot) and torch/csrc/cuda/memory_snapshot.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from planner.errors import InputError, Mistake, Place
from planner.inputs.document import dotted_path
from planner.inputs.files import read_bytes
from planner.inputs.pickled import Plain, read_plain

MAX_SNAPSHOT_BYTES = 1 << 30
MOST_FRAMES = 64
MOST_POINTS = 400
"""Points of the timeline that are kept, the fullest of each stretch."""
FREED = "free_completed"
Stack = tuple[str, ...]
"""`file:function` of each frame, innermost first."""


class _At(NamedTuple):
    """Where a value of a snapshot stands."""

    file: str
    steps: tuple[str | int, ...] = ()

    def inside(self, step: str | int) -> _At:
        """The value under a key or at an index of this one."""
        return _At(self.file, (*self.steps, step))

    def no_snapshot(self, because: str) -> InputError:
        """What to raise of the value."""
        place = Place(self.file, path=dotted_path(self.steps))
        attempt = "a file written by torch.cuda.memory._dump_snapshot, torch 2.1 or later"
        return InputError(Mistake(f"{self.file} is no memory snapshot", place, because, attempt))


Placed = list[tuple[Mapping[Plain, Plain], _At]]
"""Mappings of a snapshot, each with its place."""


@dataclass(frozen=True)
class Allocation:
    """One block that was allocated at the fullest moment."""

    address: int
    size: int
    """Asked for, before the allocator rounds it. [bytes]"""
    stack: Stack
    made: int | None
    """Event that made it; None where it was there before the first event."""
    freed: int | None
    """Event that freed it; None where it was still there when the snapshot was written."""


@dataclass(frozen=True)
class Snapshot:
    """One GPU at its fullest moment."""

    name: str
    device: int
    peak: tuple[Allocation, ...]
    peak_bytes: int
    peak_event: int | None
    """None where no events were recorded: the peak is then the moment of writing."""
    events: int
    reserved_bytes: int
    """Of all segments at the fullest moment."""
    refused_bytes: int | None
    """What was asked for when the card had no more, where the events end so."""
    timeline: tuple[tuple[float, float], ...]
    """(event or second, GiB allocated)."""


def read_snapshot(path: Path) -> Snapshot:
    """Read a snapshot without executing anything in it. Raises InputError where it is none, or holds more than data."""
    return snapshot_of(read_plain(read_bytes(path, most_bytes=MAX_SNAPSHOT_BYTES), str(path)), str(path))


def snapshot_of(found: Plain, name: str) -> Snapshot:
    """The fullest GPU of a snapshot's plain data."""
    whole = _mapping(found, _At(name))
    segments = _mappings(whole, "segments", _At(name))
    if not segments:
        raise _At(name, ("segments",)).no_snapshot("there is none")
    used: dict[int, int] = {}
    for segment, at in segments:
        device = _int(segment, "device", at)
        used[device] = used.get(device, 0) + sum(size for _, size, _ in _live(segment, at))
    device = min(used, key=lambda each: (-used[each], each))
    traces, at = whole.get("device_traces", []), _At(name, ("device_traces",))
    if not isinstance(traces, list):
        raise at.no_snapshot(f"it is {_said(traces)}, not a list")
    events = _mappings_of(traces[device], at.inside(device)) if device < len(traces) else []
    own = [(segment, at) for segment, at in segments if segment["device"] == device]
    return _replayed(own, events, device, name)


def _replayed(segments: Placed, events: Placed, device: int, name: str) -> Snapshot:
    final = {address: (size, stack) for segment, at in segments for address, size, stack in _live(segment, at)}
    now, reserved = sum(size for size, _ in final.values()), sum(_int(s, "total_size", at) for s, at in segments)
    steps = [(_text(event, "action"), _address(event, at), _int(event, "size", at)) for event, at in events]
    freed = FREED if any(action == FREED for action, _, _ in steps) else "free"
    best, best_at, best_reserved = now, len(steps), reserved
    series = [(len(steps), now)]
    before = {address: size for address, (size, _) in final.items()}
    for index in range(len(steps) - 1, -1, -1):
        action, address, size = steps[index]
        if action == freed:
            before[address] = size
            now += size
        elif action == "alloc":
            now -= before.pop(address, 0)
        elif action in ("segment_alloc", "segment_map"):
            reserved -= size
        elif action in ("segment_free", "segment_unmap"):
            reserved += size
        series.append((index, now))
        if now > best:
            best, best_at, best_reserved = now, index, reserved
    peak = tuple(_alive(before, final, [event for event, _ in events], steps, best_at, freed))
    last = steps[-1] if steps else ("", 0, 0)
    seconds = [_seconds(event) for event, _ in events]
    return Snapshot(
        name=name,
        device=device,
        peak=peak,
        peak_bytes=sum(each.size for each in peak),
        peak_event=best_at if steps else None,
        events=len(steps),
        reserved_bytes=max(best_reserved, sum(each.size for each in peak)),
        refused_bytes=last[2] if last[0] == "oom" else None,
        timeline=_thinned(series[::-1], seconds),
    )


def _alive(
    before: dict[int, int],
    final: dict[int, tuple[int, Stack]],
    events: list[Mapping[Plain, Plain]],
    steps: list[tuple[str, int, int]],
    peak: int,
    freed: str,
) -> Iterator[Allocation]:
    """Blocks alive before event `peak`, oldest first."""
    alive: dict[int, tuple[int, int | None]] = {address: (size, None) for address, size in before.items()}
    for index in range(peak):
        action, address, size = steps[index]
        if action == freed:
            alive.pop(address, None)
        elif action == "alloc":
            alive[address] = size, index
    ends: dict[int, int] = {}
    for index in range(len(steps) - 1, peak - 1, -1):
        if steps[index][0] == freed:
            ends[steps[index][1]] = index
    for address, (size, made) in sorted(
        alive.items(), key=lambda pair: (-1 if pair[1][1] is None else pair[1][1], pair[0])
    ):
        end = ends.get(address)
        stack = _stack(events[made].get("frames")) if made is not None else ()
        if made is None and end is None and address in final:
            stack = final[address][1]
        yield Allocation(address, size, stack, made, end)


def _live(segment: Mapping[Plain, Plain], where: _At) -> Iterator[tuple[int, int, Stack]]:
    """(address, size, stack) of blocks that are not free, those waiting for a stream included."""
    next_address = _address(segment, where)
    for block, at in _mappings(segment, "blocks", where):
        size = _int(block, "size", at)
        if _text(block, "state").startswith("active"):
            asked = _int(block, "requested_size", at) if "requested_size" in block else size
            address = _address(block, at) if "address" in block else next_address
            yield address, min(asked, size), _stack(block.get("frames"))
        next_address += size


def _stack(frames: Plain) -> Stack:
    if not isinstance(frames, list | tuple):
        return ()
    made = []
    for frame in frames[:MOST_FRAMES]:
        if isinstance(frame, dict):
            made.append(":".join(_text(frame, key) for key in ("filename", "name")))
    return tuple(made)


def _thinned(series: list[tuple[int, int]], seconds: list[float | None]) -> tuple[tuple[float, float], ...]:
    """The fullest point of each stretch, over seconds where all events have a time."""
    start = seconds[0] if seconds and all(each is not None for each in seconds) else None
    stretch = max(1, -(-len(series) // MOST_POINTS))
    out = []
    for at in range(0, len(series), stretch):
        index, size = max(series[at : at + stretch], key=lambda point: point[1])
        when = float(index)
        if start is not None:
            when = (seconds[min(index, len(seconds) - 1)] or 0.0) - start
        out.append((when, size / 2**30))
    return tuple(out)


def _seconds(event: Mapping[Plain, Plain]) -> float | None:
    found = event.get("time_us")
    return found / 1e6 if isinstance(found, int | float) and math.isfinite(found) else None


def _mapping(found: Plain, at: _At) -> Mapping[Plain, Plain]:
    if not isinstance(found, dict):
        raise at.no_snapshot(f"it is {_said(found)}, not a mapping")
    return found


def _mappings(owner: Mapping[Plain, Plain], key: str, at: _At) -> Placed:
    return _mappings_of(owner.get(key), at.inside(key))


def _mappings_of(found: Plain, at: _At) -> Placed:
    if not isinstance(found, list):
        raise at.no_snapshot(f"it is {_said(found)}, not a list")
    placed = ((each, at.inside(index)) for index, each in enumerate(found))
    return [(_mapping(each, place), place) for each, place in placed]


def _int(found: Mapping[Plain, Plain], key: str, at: _At) -> int:
    value = found.get(key, 0 if key == "device" else None)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise at.inside(key).no_snapshot(f"it is {_said(value)}, not a number of at least 0")
    return value


def _address(found: Mapping[Plain, Plain], at: _At) -> int:
    return _int(found, "addr" if "addr" in found else "address", at)


def _text(found: Mapping[Plain, Plain], key: str) -> str:
    """The text under a key; nothing where something else stands there."""
    value = found.get(key)
    return value if isinstance(value, str) else ""


def _said(value: Plain) -> str:
    """A value for a message. One that holds others is named, not written out: they may be shared without end."""
    if value is None:
        return "not there"
    return f"{value!r:.40}" if isinstance(value, str | int | float | bytes) else f"a {type(value).__name__}"
