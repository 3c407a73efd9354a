"""How a scenario states one value, or leaves it open: pins, lists, ranges and wishes.

`IntChoice` is a pin (4), a list ([1, 2, 4]), a range ({min: 1, max: 8}) or `any`.
`Wish` is a pin (8192) or {want: 8192, allow: [8192, 4096]}: given up only when nothing fits otherwise.
`Tokens` may be typed as 8k (8,192).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from planner.schema.base import Frozen, Tokens

PositiveInt = Annotated[int, Field(ge=1, le=2**31, strict=True)]
GpuCount = Annotated[int, Field(ge=1, le=2**20, strict=True)]
"""GPUs of a cluster: up to a million."""
NonNegativeInt = Annotated[int, Field(ge=0, le=2**31, strict=True)]


class IntRange(Frozen):
    """Every legal value between two bounds, both included."""

    min: PositiveInt | None = None
    max: PositiveInt | None = None

    @model_validator(mode="after")
    def _ordered(self) -> IntRange:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


IntChoice = PositiveInt | Annotated[list[PositiveInt], Field(min_length=1)] | IntRange | Literal["any"]
TokenChoice = Tokens | Annotated[list[Tokens], Field(min_length=1)] | IntRange | Literal["any"]
CountChoice = NonNegativeInt | Annotated[list[NonNegativeInt], Field(min_length=1)] | IntRange | Literal["any", "all"]


class IntWish(Frozen):
    """A value one wants, and those one would take when nothing fits otherwise, best first."""

    want: PositiveInt
    allow: Annotated[list[PositiveInt], Field(min_length=1)]

    @model_validator(mode="after")
    def _wanted_is_allowed(self) -> IntWish:
        if self.want not in self.allow:
            raise ValueError(f"want {self.want} is not among allow {self.allow}")
        return self


class TokenWish(IntWish):
    """A length one wants, and those one would take when nothing fits otherwise, best first; 8k is 8,192."""

    want: Tokens
    allow: Annotated[list[Tokens], Field(min_length=1)]


class NameWish(Frozen):
    """A name one wants, and those one would take when nothing fits otherwise, best first."""

    want: str
    allow: Annotated[list[str], Field(min_length=1)]

    @model_validator(mode="after")
    def _wanted_is_allowed(self) -> NameWish:
        if self.want not in self.allow:
            raise ValueError(f"want {self.want} is not among allow {self.allow}")
        return self


NameChoice = str | Annotated[list[str], Field(min_length=1)]
"""One name, or several to choose from."""
