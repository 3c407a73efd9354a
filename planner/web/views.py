"""The pages: each is its address, and each address a scenario with changes."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, PackageLoader, select_autoescape

from planner.errors import InputError
from planner.inputs.asked import TASKS
from planner.inputs.document import Document, parse_document, with_overrides
from planner.inputs.examples import EXAMPLE as NAMED
from planner.web.asked import Answer
from planner.web.base import base, scenario_text, scenarios
from planner.web.closed_catalog import ClosedCatalog, closed_catalog
from planner.web.controls import decision_controls, main_controls
from planner.web.state import EXAMPLE, OWN_SCENARIO, TASK, State, state_of
from planner.web.waiting import while_wanted
from planner.web.workers import Workers

VIEWS = {"plan": "Plan", "compare": "Compare", "front": "Front"}
"""Pages by name, with their titles."""
AXES = {"headroom": "headroom", "gpus": "GPUs", "sequence_length": "sequence length", "dollars": "dollars"}


@dataclass(frozen=True)
class View:
    """What every page is made from."""

    state: State
    document: Document
    """The scenario before its changes."""
    text: str
    catalog: ClosedCatalog
    problems: tuple[str, ...] = ()

    def asked(self, state: State | None = None, **more: object) -> Answer:
        """This view, or another state of its scenario, as a question for a worker."""
        state = state or self.state
        document = {"text": self.text, "name": self.document.name, "overrides": list(state.overrides)}
        return {**document, "config": state.config, **more}


def _view(state: State) -> View:
    catalog = closed_catalog(state.config)
    name, text = base(state, catalog)
    return View(state, parse_document(text, name), text, catalog)


class Pages:
    """Routes of the pages."""

    def __init__(self, workers: Workers, start: str) -> None:
        self.workers, self.start = workers, start
        self.router = APIRouter(include_in_schema=False)
        environment = Environment(
            loader=PackageLoader("planner.web"), autoescape=select_autoescape(default=True), trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        self.templates = Jinja2Templates(env=environment)
        get: Callable[..., Any] = self.router.get
        for name in VIEWS:
            get("/" if name == "plan" else f"/{name}")(self._page(name))
        get("/answer/{name}")(self.fragment)
        get("/download/scenario.yaml")(self.scenario)
        get("/download/launch")(self.launch)
        get("/download/report.html")(self.report)

    def _page(self, name: str) -> Callable[[Request], Any]:
        async def page(request: Request) -> Response:
            view = self._view(request)
            return self._render(request, "page.html", view, name=name)

        return page

    def _view(self, request: Request) -> View:
        """The view of an address; that of the first page, and what is wrong, where the address is."""
        first, pairs = State(example=self.start), request.query_params.multi_items()
        try:
            named = {name for name, _ in pairs} & {EXAMPLE, TASK, OWN_SCENARIO}
            return _view(state_of(pairs if named else [(EXAMPLE, self.start), *pairs]))
        except InputError as error:
            return replace(_view(first), problems=tuple(problem.render() for problem in error.problems))

    def _render(self, request: Request, template: str, view: View, **more: Any) -> HTMLResponse:
        context = {
            "state": view.state,
            "problems": view.problems,
            "views": VIEWS,
            "examples": scenarios(),
            "tasks": TASKS,
            "controls": main_controls(view.state, view.document, view.catalog),
            "decisions": decision_controls(view.state, view.document),
            "axes": AXES,
            "base": "",
            "query": view.state.query(),
            "command": command(view.state),
            "applied": lambda changes: view.state.changed(changes).query(),
            "over": request.query_params.get("over") or "headroom",
            "side": "\n".join(request.query_params.getlist("side")),
            "extra": _extra(request),
            **more,
        }
        return self.templates.TemplateResponse(request, template, context)

    async def fragment(self, request: Request, name: str) -> Response:
        """The answer of one page, put into it by htmx."""
        view = self._view(request)
        if view.problems:
            return self._render(request, "refused.html", view, refused=[{"what": text} for text in view.problems])
        query = request.query_params
        if name == "plan":
            kind, asked = "solve", view.asked()
        elif name == "why":
            kind, asked = "explain", view.asked(why_not=[query["why"]] if query.get("why") else [])
        elif name == "front":
            over, offer = query.get("over") or "headroom", query.get("offer") or None
            kind, asked = "front", view.asked(over=over, offer=offer)
        elif name == "near":
            kind, asked = "near", view.asked()
        elif name == "compare":
            others = [view.state.changed(side.split()) for side in query.getlist("side") if side.strip()]
            kind, asked = "compare", {"sides": [view.asked(), *(view.asked(other) for other in others)]}
        else:
            return HTMLResponse("<p>no such answer</p>", 404)
        found = await while_wanted(request, self.workers.ask(kind, asked))
        if "problems" in found:
            return self._render(request, "refused.html", view, refused=found["problems"])
        return self._render(request, f"{name}.html", view, found=found, document=found["document"])

    async def scenario(self, request: Request) -> Response:
        """The scenario as YAML, changes applied."""
        view = self._view(request)
        if view.problems:
            return PlainTextResponse("\n".join(view.problems) + "\n", 422)
        try:
            text = scenario_text(with_overrides(view.document, view.state.overrides))
        except InputError as error:
            return PlainTextResponse(f"{error}\n", 422)
        return _attached(text, "scenario.yaml")

    async def launch(self, request: Request) -> Response:
        """The plan's launch files, one after the other."""
        view = self._view(request)
        if view.problems:
            return PlainTextResponse("\n".join(view.problems) + "\n", 422)
        asked = view.asked(to=request.query_params.get("to"))
        found = await while_wanted(request, self.workers.ask("launch", asked))
        if "problems" in found:
            return PlainTextResponse("\n".join(problem["what"] for problem in found["problems"]) + "\n", 422)
        names = list(found["files"])
        if len(names) == 1:
            return _attached(found["files"][names[0]], names[0])
        text = "\n".join(f"# ===== {name} =====\n{found['files'][name]}" for name in names)
        return _attached(text, "launch.txt")

    async def report(self, request: Request) -> Response:
        """The report as `--format html` writes it."""
        view = self._view(request)
        if view.problems:
            return PlainTextResponse("\n".join(view.problems) + "\n", 422)
        found = await while_wanted(request, self.workers.ask("solve", view.asked()))
        if "problems" in found:
            return PlainTextResponse("\n".join(problem["what"] for problem in found["problems"]) + "\n", 422)
        return _attached(found["html"], "report.html")


def command(state: State) -> str:
    """The question as one would type it."""
    sets = [part for text in state.overrides for part in ("--set", text)]
    if state.text is None and state.task is not None:
        return shlex.join(["planner", "ask", state.model, "--gpus", state.gpus, "--task", state.task, *sets])
    name = "scenario.yaml" if state.text is not None else f"{NAMED}{state.example}"
    return shlex.join(["planner", "solve", name, *sets])


def _extra(request: Request) -> str:
    """The part of an address that is no scenario: axis, offer and sides."""
    return urlencode([pair for pair in request.query_params.multi_items() if pair[0] in ("over", "offer", "side")])


def _attached(text: str, name: str) -> Response:
    kind = "text/html" if name.endswith(".html") else "text/plain"
    headers = {"content-disposition": f'attachment; filename="{name.replace(chr(34), "")}"'}
    return Response(text, media_type=f"{kind}; charset=utf-8", headers=headers)
