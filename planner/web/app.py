"""The application: pages, fragments, downloads and the JSON API, all over the same questions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from planner.web.api_routes import api
from planner.web.guard import Guard
from planner.web.views import Pages
from planner.web.workers import Busy, Overdue, Workers

STATIC = str(files("planner.web") / "static")


def application(
    workers: Workers, *, token: str | None = None, hosts: frozenset[str] | None = None, start: str = "qwen7b_rl"
) -> Guard:
    """The server as an ASGI application.

    Args:
        workers: who solves, within which limits; started with the server and stopped with it.
        token: demanded of every request but /healthz; None on loopback.
        hosts: names that the Host header may give; None for any.
        start: shipped scenario that the first page shows.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        workers.start()
        yield
        workers.stop()

    app = FastAPI(title="planner", version="1", lifespan=lifespan, docs_url=None, redoc_url=None,
                  openapi_url="/api/v1/openapi.json")  # fmt: skip
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.include_router(api(workers))
    app.include_router(Pages(workers, start).router)
    _answer_errors(app)

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok", "workers": len(workers.processes)})

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> PlainTextResponse:
        lines = [f"planner_questions_{name}_total {count}" for name, count in vars(workers.counts).items()]
        return PlainTextResponse("\n".join([*lines, f"planner_workers {len(workers.processes)}", ""]))

    return Guard(app, workers.limits, token, hosts)


BUSY = "Too many questions wait for an answer; try again in a few seconds."
OVERDUE = "No answer within the time and memory that this server grants a question."


def _answer_errors(app: FastAPI) -> None:
    def said(request: Request, text: str) -> Response:
        if request.url.path.startswith("/answer/"):  # put into a page
            return HTMLResponse(f"<h1>No answer</h1><p>{text}</p>", 503)
        return PlainTextResponse(f"{text}\n", 503)

    @app.exception_handler(Busy)
    async def busy(request: Request, _: Busy) -> Response:
        return said(request, BUSY)

    @app.exception_handler(Overdue)
    async def overdue(request: Request, _: Overdue) -> Response:
        return said(request, OVERDUE)

    @app.exception_handler(HTTPException)
    async def wrong(request: Request, error: HTTPException) -> HTMLResponse | JSONResponse:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"problems": [{"what": str(error.detail)}]}, error.status_code)
        return HTMLResponse(f"<p>{error.status_code}: no such page. <a href=/>planner</a></p>", error.status_code)
