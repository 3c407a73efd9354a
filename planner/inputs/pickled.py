"""Pickles of plain data (dict, list, text, numbers) read without Python's unpickler: nothing in them can be called.

A machine of its own for the 36 opcodes that plain data need, protocols 2 to 5. Every other opcode (one that names a
class, calls something, builds an object, asks for a persistent id) is refused by name, as are numbers and nesting that
exceed the file. Nothing is allocated beyond what the bytes themselves hold. Opcodes: CPython Lib/pickletools.py.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from typing import Final

from planner.errors import InputError, Mistake, Place

Plain = None | bool | int | float | str | bytes | list["Plain"] | tuple["Plain", ...] | dict["Plain", "Plain"]
MAGIC = b"\x80"
"""First byte of a pickle of protocol 2 or later."""
MOST_STACK: Final = 10_000_000
LONGEST_INTEGER: Final = 16
"""Bytes of an integer; addresses have 8."""
_NAMES: Final = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}


class Refused(Exception):
    """A pickle holds more than plain data, or is damaged; the text says what and at which byte."""


def read_plain(data: bytes, name: str) -> Plain:
    """The data of a pickle. Raises InputError, saying which opcode at which byte, for anything but plain data."""
    try:
        return _Machine(data).run()
    except Refused as refused:
        raise InputError(
            Mistake(
                f"{name} is refused",
                Place(name),
                str(refused),
                "a file that torch.cuda.memory._dump_snapshot wrote; nothing of this one was executed",
            )
        ) from None


class _Machine:
    """Stack, marks and memo of one pickle."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.stack: list[Plain] = []
        self.marks: list[int] = []
        self.memo: dict[int, Plain] = {}

    def run(self) -> Plain:
        data, end, table = self.data, len(self.data), _TABLE
        while self.at < end:
            opcode = data[self.at]
            if opcode == _STOP:
                if len(self.stack) != 1 or self.marks:
                    raise self.wrong("STOP with more or less than one value")
                return self.stack[0]
            self.at += 1
            action = table.get(opcode)
            if action is None:
                self.at -= 1
                said = _NAMES.get(opcode)
                raise self.wrong(f"opcode {said} is not plain data" if said else f"no opcode: {opcode:#04x}")
            action(self)
            if len(self.stack) > MOST_STACK:
                raise self.wrong("more values at once than any snapshot holds")
        raise self.wrong("the file ends before STOP")

    def wrong(self, what: str) -> Refused:
        return Refused(f"{what}, at byte {self.at:,} of {len(self.data):,}")

    def bytes_(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise self.wrong(f"{count:,} bytes are announced, fewer follow")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, count: int) -> int:
        return int.from_bytes(self.bytes_(count), "little")

    def text(self, count: int) -> None:
        try:
            self.stack.append(self.bytes_(count).decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            raise self.wrong("text that is no UTF-8") from None

    def pop(self) -> Plain:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.wrong("a value is missing")
        return self.stack.pop()

    def marked(self) -> list[Plain]:
        if not self.marks:
            raise self.wrong("a mark is missing")
        start = self.marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def top(self, kind: type) -> Plain:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0) or type(self.stack[-1]) is not kind:
            raise self.wrong(f"no {kind.__name__} to add to")
        return self.stack[-1]

    def extend(self, items: list[Plain]) -> None:
        target = self.top(list)
        assert isinstance(target, list)
        target.extend(items)

    def update(self, items: list[Plain]) -> None:
        target = self.top(dict)
        assert isinstance(target, dict)
        if len(items) % 2:
            raise self.wrong("a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int | float | bytes | None):
                raise self.wrong("a key that is no text and no number")
            target[key] = value

    def integer(self, count: int) -> None:
        if count > LONGEST_INTEGER:
            raise self.wrong(f"an integer of {count:,} bytes")
        self.stack.append(int.from_bytes(self.bytes_(count), "little", signed=True))

    def tuple_(self, count: int) -> None:
        self.stack.append(tuple(reversed([self.pop() for _ in range(count)])))

    def remember(self, index: int) -> None:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.wrong("nothing to remember")
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise self.wrong(f"value {index:,} was never remembered")
        self.stack.append(self.memo[index])


_STOP: Final = ord(".")
_TABLE: Final[dict[int, Callable[[_Machine], None]]] = {
    0x80: lambda m: _protocol(m),
    0x95: lambda m: _frame(m),
    ord("("): lambda m: m.marks.append(len(m.stack)),
    ord("0"): lambda m: (m.pop(), None)[1],
    ord("N"): lambda m: m.stack.append(None),
    0x88: lambda m: m.stack.append(True),
    0x89: lambda m: m.stack.append(False),
    ord("K"): lambda m: m.stack.append(m.number(1)),
    ord("M"): lambda m: m.stack.append(m.number(2)),
    ord("J"): lambda m: m.integer(4),
    0x8A: lambda m: m.integer(m.number(1)),
    0x8B: lambda m: m.integer(m.number(4)),
    ord("G"): lambda m: m.stack.append(struct.unpack(">d", m.bytes_(8))[0]),
    0x8C: lambda m: m.text(m.number(1)),
    ord("X"): lambda m: m.text(m.number(4)),
    0x8D: lambda m: m.text(m.number(8)),
    ord("C"): lambda m: m.stack.append(m.bytes_(m.number(1))),
    ord("B"): lambda m: m.stack.append(m.bytes_(m.number(4))),
    ord("]"): lambda m: m.stack.append([]),
    ord("}"): lambda m: m.stack.append({}),
    ord(")"): lambda m: m.stack.append(()),
    ord("a"): lambda m: m.extend([m.pop()]),
    ord("e"): lambda m: m.extend(m.marked()),
    ord("l"): lambda m: m.stack.append(m.marked()),
    ord("s"): lambda m: m.update([m.pop(), m.pop()][::-1]),
    ord("u"): lambda m: m.update(m.marked()),
    ord("t"): lambda m: m.stack.append(tuple(m.marked())),
    0x85: lambda m: m.tuple_(1),
    0x86: lambda m: m.tuple_(2),
    0x87: lambda m: m.tuple_(3),
    0x94: lambda m: m.remember(len(m.memo)),
    ord("q"): lambda m: m.remember(m.number(1)),
    ord("r"): lambda m: m.remember(m.number(4)),
    ord("h"): lambda m: m.recall(m.number(1)),
    ord("j"): lambda m: m.recall(m.number(4)),
}


def _protocol(machine: _Machine) -> None:
    found = machine.number(1)
    if not 2 <= found <= 5:
        raise machine.wrong(f"protocol {found}")


def _frame(machine: _Machine) -> None:
    size = machine.number(8)
    if machine.at + size > len(machine.data):
        raise machine.wrong(f"a frame of {size:,} bytes is announced, fewer follow")
