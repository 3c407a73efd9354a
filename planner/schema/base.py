"""What every catalog entry and scenario block shares."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from planner.errors import visible
from planner.units import parse_tokens

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

GbPerSecond = Annotated[float, Field(ge=1e-3, le=1e7)]
"""A bandwidth, decimal. [GB/s]"""
TeraFlops = Annotated[float, Field(ge=1e-3, le=1e7)]
"""A rate of arithmetic. [TFLOP/s]"""
Gib = Annotated[float, Field(ge=0, le=2**24)]
"""An amount of memory up to 16 PiB. [GiB]"""
SomeGib = Annotated[float, Field(ge=2**-10, le=2**24)]
"""A capacity: at least 1 MiB, up to 16 PiB. [GiB]"""
BytesEach = Annotated[float, Field(ge=0, le=1024)]
"""Bytes of one element or parameter."""
SomeBytesEach = Annotated[float, Field(ge=1 / 64, le=1024)]
"""Bytes of one element or parameter, some at least."""
Factor = Annotated[float, Field(ge=0, le=1e6)]
"""A plain multiplier."""
Count = Annotated[int, Field(ge=0, le=2**31)]
Micros = Annotated[float, Field(ge=0, le=1e9)]
"""[us]"""
Millis = Annotated[float, Field(ge=0, le=1e9)]
"""[ms]"""
Seconds = Annotated[float, Field(ge=0, le=1e9)]
"""[s]"""
Usd = Annotated[float, Field(ge=0, le=1e9)]
"""US dollars."""


def _one_line(text: str) -> str:
    """Raises ValueError for a name that could pass for more than a name."""
    bad = next((c for c in text if visible(c) != c), None)
    if bad is not None:
        raise ValueError(f"a name is one line of visible characters; it holds U+{ord(bad):04X}")
    if not text.strip():
        raise ValueError("a name needs a visible character")
    return text


OneLine = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_one_line)]
"""A name: one line of up to 80 visible characters."""


class Frozen(BaseModel):
    """An immutable record; an unknown key is an error, never ignored.

    Its validator is built when the first one is read: most commands read few of the many kinds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The JSON Schema with the docstrings of fields as descriptions."""
        from planner.schema.docstrings import field_docstrings

        found = handler(core)
        properties = handler.resolve_ref_schema(found).get("properties", {})
        said = field_docstrings(cls)
        for name, info in cls.model_fields.items():
            if name in said and (key := properties.get(info.alias or name)) is not None:
                key.setdefault("description", said[name])
        return found


class Source(Frozen):
    """Where a block of facts comes from."""

    ref: str
    """Document, repository at a commit, or paper, precise enough to find the value again."""
    date: str
    """When it was published or read, YYYY-MM-DD or YYYY-MM."""
    note: str | None = None
    """What to beware of."""


_THOUSANDS = r"^[0-9]{1,6} ?[kKmM]$"


def as_tokens(value: object) -> object:
    """8k as the tokens that it means; a number in quotes stays a text, which is refused."""
    return parse_tokens(value) if isinstance(value, str) and re.match(_THOUSANDS, value) else value


Tokens = Annotated[
    int,
    Field(ge=1, le=2**31, strict=True),
    BeforeValidator(
        as_tokens,
        json_schema_input_type=Annotated[int, Field(ge=1, le=2**31)] | Annotated[str, Field(pattern=_THOUSANDS)],
    ),
]
"""A number of tokens: 8192, or 8k."""


def as_name(value: object) -> object:
    """A number as the name that was meant: 4090 is a GPU."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
