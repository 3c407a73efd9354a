"""`/api/v1`: the questions of the command line as JSON, with the same envelopes."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from planner.web.answers import MOST_SIDES, Answer
from planner.web.state import PASTED
from planner.web.waiting import while_wanted
from planner.web.workers import Workers

STATUS = {2: 422, 3: 503, 4: 500}
"""HTTP status of a refused question by the exit code that the command line gives."""


class Ask(BaseModel):
    """A scenario, and what is changed in it."""

    model_config = ConfigDict(extra="forbid")
    scenario: dict[str, JsonValue] | str
    """As in a scenario file: a mapping, or YAML text."""
    overrides: Annotated[list[str], Field(max_length=100)] = []
    """PATH=VALUE texts, as `--set` takes them."""
    model_config_json: Annotated[str | None, Field(description=f"config.json of the model `{PASTED}`")] = None

    def question(self) -> Answer:
        """As a worker is asked."""
        more = self.model_dump(exclude={"scenario", "overrides", "model_config_json"})
        text = self.scenario if isinstance(self.scenario, str) else json.dumps(self.scenario)
        return {
            "text": text,
            "name": "<request>",
            "overrides": self.overrides,
            "config": self.model_config_json,
            **more,
        }


class AskWhy(Ask):
    """And values to ask about."""

    why_not: Annotated[list[str], Field(max_length=8)] = []
    """PATH=VALUE texts."""
    neighbours: bool = True
    """Solve the next changes one would try too."""


class AskNear(Ask):
    """And how many layouts."""

    count: Annotated[int, Field(ge=1, le=10)] = 5


class AskFront(Ask):
    """And what throughput is weighed against."""

    over: str = "headroom"
    """headroom, gpus, sequence_length or dollars."""
    offer: str | None = None
    """Id of a price in the catalog, for dollars."""


class AskLaunch(Ask):
    """And whose settings."""

    to: str | None = None
    """A launcher; None for the engine's first."""


class AskCompare(BaseModel):
    """Scenarios to set side by side."""

    model_config = ConfigDict(extra="forbid")
    sides: Annotated[list[Ask], Field(min_length=2, max_length=MOST_SIDES)]

    def question(self) -> Answer:
        """As a worker is asked."""
        return {"sides": [side.question() for side in self.sides]}


QUESTIONS: dict[str, tuple[type[Ask] | type[AskCompare], str]] = {
    "solve": (Ask, "The best layout, with its proof."),
    "estimate": (Ask, "The ledgers of one pinned layout."),
    "explain": (AskWhy, "What binds, and what other decisions would do."),
    "near": (AskNear, "The best distinct layouts."),
    "front": (AskFront, "Throughput against something else."),
    "launch": (AskLaunch, "Files that start the plan."),
    "compare": (AskCompare, "Plans side by side."),
    "budget": (Ask, "The cheapest offers that meet every deadline; jobs name shipped scenarios."),
}
"""Body and purpose of each."""


def api(workers: Workers) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/api/v1", tags=["planner"])
    for kind, (body, purpose) in QUESTIONS.items():
        routes.add_api_route(f"/{kind}", _answering(workers, kind, body), methods=["POST"], summary=purpose, name=kind)
    return routes


def _answering(workers: Workers, kind: str, body: type[BaseModel]) -> Any:
    async def answered(request: Request, ask: Ask | AskCompare) -> JSONResponse:
        found = await while_wanted(request, workers.ask(kind, {**ask.question(), "data": True}))
        return JSONResponse(found if "problems" in found else _body(found), _status(found))

    answered.__annotations__ = {"request": Request, "ask": body, "return": JSONResponse}
    return answered


def _body(found: Answer) -> Answer:
    document: Answer = found.get("document") or {"files": found.get("files"), "launcher": found.get("launcher")}
    return document


def _status(found: Answer) -> int:
    return STATUS.get(found["exit_code"], 422) if "problems" in found else 200
