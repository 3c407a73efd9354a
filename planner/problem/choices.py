"""What a scenario's choice of integers leaves open."""

from __future__ import annotations

from planner.schema.choices import IntRange


def divisors(number: int, limit: int) -> list[int]:
    """Divisors of a number up to a limit, ascending."""
    return [d for d in range(1, min(number, limit) + 1) if number % d == 0]


def choose(choice: object, candidates: list[int]) -> list[int]:
    """Values that a scenario's choice leaves: its own where it names them, else the candidates in its range."""
    if isinstance(choice, bool):
        raise TypeError("a choice of integers is not a truth value")
    if isinstance(choice, int):
        return [choice]
    if isinstance(choice, list):
        return sorted(set(choice))
    if isinstance(choice, IntRange):
        low, high = choice.min or 0, choice.max or max(candidates, default=0)
        return [c for c in candidates if low <= c <= high]
    return candidates
