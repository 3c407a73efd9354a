"""PyTorch memory snapshots (`torch.cuda.memory._dump_snapshot`): what was allocated at the fullest moment they know.

A snapshot holds the segments and blocks of the moment it was written, and the last events before it. The events are
walked backwards from the blocks to the moment with most memory, then forwards for the stack of each block.
Format: torch 2.13.0, torch/cuda/memory.py (_snapshot) and torch/csrc/cuda/memory_snapshot.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from planner.errors import InputError, Mistake, Place
from planner.inputs.files import read_bytes
from planner.inputs.pickled import Plain, read_plain

MAX_SNAPSHOT_BYTES = 1 << 30
MOST_FRAMES = 64
MOST_POINTS = 400
"""Points of the timeline that are kept, the fullest of each stretch."""
FREED = "free_completed"
Stack = tuple[str, ...]
"""`file:function` of each frame, innermost first."""


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
    whole = _dict(found, "", name)
    segments = [_dict(each, "segments", name) for each in _list(whole, "segments", name)]
    if not segments:
        raise _shape("no segments", name)
    used: dict[int, int] = {}
    for segment in segments:
        device = _int(segment, "device", name)
        used[device] = used.get(device, 0) + sum(size for _, size, _ in _live(segment, name))
    device = min(used, key=lambda each: (-used[each], each))
    traces = _list(whole, "device_traces", name) if "device_traces" in whole else []
    trace = traces[device] if 0 <= device < len(traces) else []
    if not isinstance(trace, list):
        raise _shape("device_traces holds no lists", name)
    events = [_dict(each, "device_traces", name) for each in trace]
    own = [segment for segment in segments if segment["device"] == device]
    return _replayed(own, events, device, name)


def _replayed(
    segments: list[Mapping[Plain, Plain]], events: list[Mapping[Plain, Plain]], device: int, name: str
) -> Snapshot:
    final = {address: (size, stack) for segment in segments for address, size, stack in _live(segment, name)}
    now, reserved = sum(size for size, _ in final.values()), sum(_int(s, "total_size", name) for s in segments)
    steps = [(str(e.get("action")), _address(e, name), _int(e, "size", name)) for e in events]
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
    peak = tuple(_alive(before, final, events, steps, best_at, freed))
    last = steps[-1] if steps else ("", 0, 0)
    seconds = [_seconds(e) for e in events]
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


def _live(segment: Mapping[Plain, Plain], name: str) -> Iterator[tuple[int, int, Stack]]:
    """(address, size, stack) of blocks that are not free, those waiting for a stream included."""
    at = _address(segment, name)
    for each in _list(segment, "blocks", name):
        block = _dict(each, "blocks", name)
        size = _int(block, "size", name)
        if str(block.get("state", "")).startswith("active"):
            asked = _int(block, "requested_size", name) if "requested_size" in block else size
            yield (_address(block, name) if "address" in block else at), min(asked, size), _stack(block.get("frames"))
        at += size


def _stack(frames: Plain) -> Stack:
    if not isinstance(frames, list | tuple):
        return ()
    made = []
    for frame in frames[:MOST_FRAMES]:
        if isinstance(frame, dict):
            made.append(":".join(str(frame.get(key, "")) for key in ("filename", "name")))
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
    return found / 1e6 if isinstance(found, int | float) else None


def _shape(what: str, name: str) -> InputError:
    return InputError(
        Mistake(
            f"{name} is no memory snapshot",
            Place(name),
            what,
            "a file written by torch.cuda.memory._dump_snapshot, torch 2.1 or later",
        )
    )


def _dict(found: Plain, where: str, name: str) -> Mapping[Plain, Plain]:
    if not isinstance(found, dict):
        raise _shape(f"{where or 'the file'} holds {type(found).__name__}, not dict", name)
    return found


def _list(found: Mapping[Plain, Plain], key: str, name: str) -> list[Plain]:
    value = found.get(key)
    if not isinstance(value, list):
        raise _shape(f"{key} is {type(value).__name__}, not list", name)
    return value


def _int(found: Mapping[Plain, Plain], key: str, name: str) -> int:
    value = found.get(key, 0 if key == "device" else None)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _shape(f"{key} is {value!r:.40}, not a number", name)
    return value


def _address(found: Mapping[Plain, Plain], name: str) -> int:
    return _int(found, "addr" if "addr" in found else "address", name)
