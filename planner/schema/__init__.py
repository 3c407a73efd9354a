"""Frozen pydantic shapes of everything that is read from a file or written to one; no I/O, no maths."""
