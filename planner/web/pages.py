"""The pages: each is its address, and each address a scenario with changes."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, PackageLoader, select_autoescape

from planner.errors import InputError
from planner.inputs.document import Document, parse_document, with_overrides
from planner.web.closed_catalog import ClosedCatalog, closed_catalog
from planner.web.controls import decision_controls, examples, main_controls
from planner.web.shipped import scenario_folder
from planner.web.state import State, state_of
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
    catalog: ClosedCatalog
    problems: tuple[str, ...] = ()


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
        state = State(example=self.start)
        try:
            pairs = request.query_params.multi_items()
            state = state_of(pairs if any(key == "example" for key, _ in pairs) else [("example", self.start), *pairs])
            return View(state, self._document(state), closed_catalog(state.config))
        except InputError as error:
            known = scenario_folder() / f"{self.start}.yaml"
            state = State(example=self.start)
            document = parse_document(known.read_text(encoding="utf-8"), known.name)
            return View(state, document, closed_catalog(), tuple(problem.render() for problem in error.problems))

    def _document(self, state: State) -> Document:
        """The scenario before its changes."""
        if state.text is not None:
            return parse_document(state.text, "scenario.yaml")
        known = examples(scenario_folder())
        name = state.example if state.example in known else self.start
        return parse_document(known[name].read_text(encoding="utf-8"), known[name].name)

    def _asked(self, state: State, **more: Any) -> dict[str, Any]:
        text = state.text
        if text is None:
            known = examples(scenario_folder())
            text = known.get(state.example, known[self.start]).read_text(encoding="utf-8")
        name = "scenario.yaml" if state.text is not None else f"{state.example}.yaml"
        return {"text": text, "name": name, "overrides": list(state.overrides), "config": state.config, **more}

    def _render(self, request: Request, template: str, view: View, **more: Any) -> HTMLResponse:
        context = {
            "state": view.state,
            "problems": view.problems,
            "views": VIEWS,
            "examples": list(examples(scenario_folder())),
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
            kind, asked = "solve", self._asked(view.state)
        elif name == "why":
            kind, asked = "explain", self._asked(view.state, why_not=[query["why"]] if query.get("why") else [])
        elif name == "front":
            more = {"over": query.get("over") or "headroom", "offer": query.get("offer") or None}
            kind, asked = "front", self._asked(view.state, **more)
        elif name == "near":
            kind, asked = "near", self._asked(view.state)
        elif name == "compare":
            others = [view.state.changed(side.split()) for side in query.getlist("side") if side.strip()]
            kind, asked = "compare", {"sides": [self._asked(view.state), *(self._asked(other) for other in others)]}
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
        from planner.web.shipped import scenario_text

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
        asked = self._asked(view.state, to=request.query_params.get("to"))
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
        found = await while_wanted(request, self.workers.ask("solve", self._asked(view.state)))
        if "problems" in found:
            return PlainTextResponse("\n".join(problem["what"] for problem in found["problems"]) + "\n", 422)
        return _attached(found["html"], "report.html")


def command(state: State) -> str:
    """The question as one would type it."""
    name = "scenario.yaml" if state.text is not None else f"example:{state.example}"
    return shlex.join(["planner", "solve", name, *(part for text in state.overrides for part in ("--set", text))])


def _extra(request: Request) -> str:
    """The part of an address that is no scenario: axis, offer and sides."""
    return urlencode([pair for pair in request.query_params.multi_items() if pair[0] in ("over", "offer", "side")])


def _attached(text: str, name: str) -> Response:
    kind = "text/html" if name.endswith(".html") else "text/plain"
    headers = {"content-disposition": f'attachment; filename="{name.replace(chr(34), "")}"'}
    return Response(text, media_type=f"{kind}; charset=utf-8", headers=headers)
