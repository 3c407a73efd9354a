"""Where the numbers of an engine file come from: read in code unless a file says that they were fitted or assumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, Field, model_validator

from planner.schema.base import Frozen

OTHER_NUMBERS = "numbers alone differ from an entry that was checked"
"""What the validation of such an entry is told: what its options make of it is not tried again."""


class Fitted(Frozen):
    """The runs that a number was fitted on: what differs among them, and how it is fitted again without some."""

    sources: list[str] = Field(min_length=1)
    """Sources of the runs: ids of validation/data, or where else they were published."""
    text: str
    """What was fitted to what."""
    vocabularies: list[int] = Field(default_factory=list)
    """Different vocabularies among the runs."""
    depths: list[int] = Field(default_factory=list)
    """Different numbers of layers."""
    widths: list[int] = Field(default_factory=list)
    """Different hidden sizes."""
    models: list[str] = Field(default_factory=list)
    """Different networks."""
    span: tuple[float, float] | None = None
    """Values between which it is looked for when it is fitted again, so that the median error is least; none where its
    runs are not among those of validation/data, or were not fitted by their median error."""


class Fittable(Frozen):
    """A record whose numbers may have been fitted."""

    fitted: dict[str, Fitted] = Field(default_factory=dict)
    """Fields that were fitted, by name; what is named neither here nor as assumed was read in code or counted."""

    @model_validator(mode="after")
    def _fitted_fields_exist(self) -> Fittable:
        if self.fitted and (unknown := sorted(set(self.fitted) - set(type(self).model_fields))):
            raise ValueError(f"fitted: no field {', '.join(unknown)} here")
        return self


class Stated(Fittable):
    """A record that also names which of its own numbers were neither read in code nor taken from runs."""

    assumed: list[str] = Field(default_factory=list)
    """Those numbers, by field."""

    @model_validator(mode="after")
    def _assumed_fields_exist(self) -> Stated:
        if self.assumed and (unknown := sorted(set(self.assumed) - set(type(self).model_fields))):
            raise ValueError(f"assumed: no field {', '.join(unknown)} here")
        return self

    @property
    def headroom_standing(self) -> str:
        """What is said beside a default headroom that no spread of runs stands behind."""
        return " (assumed)" if "default_headroom_fraction" in self.assumed else ""


def fits_in(value: object) -> Iterator[Fitted]:
    """What the fitted numbers of a record, and of the records inside it, say of themselves."""
    if isinstance(value, Fittable):
        yield from value.fitted.values()
    inside = vars(value).values() if isinstance(value, BaseModel) else value.values() if isinstance(value, dict) else ()
    for inner in value if isinstance(value, list) else inside:
        if isinstance(inner, (BaseModel, dict, list)):
            yield from fits_in(inner)


def found_fitted(
    data: Any, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Fitted, Mapping[str, Any]]]:
    """(place of the number, what it was fitted on, the record that holds it) of each one in a file's data."""
    if isinstance(data, Mapping):
        for name, said in (data.get("fitted") or {}).items():
            yield (*path, name), Fitted.model_validate(said), data
        for key, inner in data.items():
            if key != "fitted":
                yield from found_fitted(inner, (*path, key))
    elif isinstance(data, list):
        for index, inner in enumerate(data):
            yield from found_fitted(inner, (*path, index))
