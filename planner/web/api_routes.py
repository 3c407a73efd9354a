"""`/api/v1`: the questions of the command line as JSON, with the same envelopes."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from planner.web.asked import MOST_SIDES, Answer, Asked
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


def api(workers: Workers) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/api/v1", tags=["planner"])

    async def answered(request: Request, kind: str, asked: Asked) -> JSONResponse:
        found = await while_wanted(request, workers.ask(kind, asked))
        return JSONResponse(found if "problems" in found else _body(found), _status(found))

    @routes.post("/solve")
    async def solve(request: Request, ask: Ask) -> JSONResponse:
        """The best layout, with its proof."""
        return await answered(request, "solve", _asked(ask))

    @routes.post("/estimate")
    async def estimate(request: Request, ask: Ask) -> JSONResponse:
        """The ledgers of one pinned layout."""
        return await answered(request, "estimate", _asked(ask))

    @routes.post("/explain")
    async def explain(request: Request, ask: AskWhy) -> JSONResponse:
        """What binds, and what other decisions would do."""
        return await answered(request, "explain", _asked(ask))

    @routes.post("/near")
    async def near(request: Request, ask: AskNear) -> JSONResponse:
        """The best distinct layouts."""
        return await answered(request, "near", _asked(ask))

    @routes.post("/front")
    async def front(request: Request, ask: AskFront) -> JSONResponse:
        """Throughput against something else."""
        return await answered(request, "front", _asked(ask))

    @routes.post("/launch")
    async def launch(request: Request, ask: AskLaunch) -> JSONResponse:
        """Files that start the plan."""
        return await answered(request, "launch", _asked(ask))

    @routes.post("/compare")
    async def compare(request: Request, ask: AskCompare) -> JSONResponse:
        """Plans side by side."""
        return await answered(request, "compare", {"sides": [_asked(side) for side in ask.sides]})

    return routes


def _asked(ask: Ask) -> Answer:
    more = ask.model_dump(exclude={"scenario", "overrides", "model_config_json"})
    text = ask.scenario if isinstance(ask.scenario, str) else json.dumps(ask.scenario)
    return {"text": text, "name": "<request>", "overrides": ask.overrides, "config": ask.model_config_json, **more}


def _body(found: Answer) -> Answer:
    document: Answer = found.get("document") or {"files": found.get("files"), "launcher": found.get("launcher")}
    return document


def _status(found: Answer) -> int:
    return STATUS.get(found["exit_code"], 422) if "problems" in found else 200
