"""The pages: each is its address, and each address a scenario with changes."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
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
from planner.report.blocks import Plot
from planner.report.figures.canvas import STYLE as FIGURES
from planner.report.figures.draw import figure_svg
from planner.web.answers import MOST_SIDES, Answer
from planner.web.base import FIRST_BUDGET, base, budgets, scenario_text, scenarios
from planner.web.closed_catalog import ClosedCatalog, closed_catalog
from planner.web.controls import budget_controls, decided, decision_controls, main_controls, twice
from planner.web.links import SAVED, command, sides
from planner.web.state import EXAMPLE, OWN_SCENARIO, TASK, State, state_of
from planner.web.waiting import while_wanted
from planner.web.workers import Workers

VIEWS = {
    "plan": "Plan",
    "compare": "Compare",
    "front": "Front",
    "timeline": "Timeline",
    "topology": "Topology",
    "budget": "Budget",
}
"""Pages by name, with their titles."""
KINDS = {"plan": "solve", "timeline": "solve", "topology": "solve", "why": "explain", "json": "solve"}
"""The question behind an answer, where it has another name."""
FRAGMENTS = (*VIEWS, "why", "near", "json")
"""Answers that are put into a page."""
AXES = {"headroom": "headroom", "gpus": "GPUs", "sequence_length": "sequence length", "dollars": "dollars"}
NEAR_TIES = 3
"""Layouts beside a plan, itself among them."""
EXTRA = ("over", "offer", "side", "why")
"""Names in an address that are part of a view and not of its scenario."""


@dataclass(frozen=True)
class View:
    """What every page is made from."""

    state: State
    document: Document
    """The scenario before its changes."""
    text: str
    catalog: ClosedCatalog
    extra: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()

    def asked(self, name: str) -> Answer:
        """The question behind one answer about this view. Raises InputError for a side that cannot be read."""
        document = {"text": self.text, "name": self.document.name, "overrides": list(self.state.overrides)}
        asked = {**document, "config": self.state.config}
        if name == "compare":
            others = [_view(other).asked("") for other in sides(self.state, self.extra)[: MOST_SIDES - 1]]
            return {"sides": [asked, *others]}
        if name == "why":
            why = self.one("why")
            return {**asked, "why_not": [why] if why else [], "neighbours": not why}
        if name == "front":
            return {**asked, "over": self.one("over") or "headroom", "offer": self.one("offer")}
        return {**asked, "count": NEAR_TIES} if name == "near" else asked

    def ideas(self) -> list[tuple[str, str]]:
        """(words, change) of plans that one may want to compare with this one."""
        return twice(main_controls(self.state, self.document, self.catalog))

    def one(self, name: str) -> str | None:
        """A part of the address that is not of the scenario."""
        return next((value for key, value in self.extra if key == name and value), None)


def _view(state: State, extra: Sequence[tuple[str, str]] = ()) -> View:
    catalog = closed_catalog(state.config)
    name, text = base(state, catalog)
    return View(state, parse_document(text, name), text, catalog, tuple(extra))


class Pages:
    """Routes of the pages."""

    def __init__(self, workers: Workers, start: str) -> None:
        self.workers, self.start = workers, start
        self.router = APIRouter(include_in_schema=False)
        environment = Environment(
            loader=PackageLoader("planner.web"), autoescape=select_autoescape(default=True), trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        environment.filters["typed"] = shlex.join
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
            return self._render(request, "page.html", self._view(request, name), name)

        return page

    def _view(self, request: Request, name: str) -> View:
        """The view of an address; that of the first page, and what is wrong, where the address is."""
        first = State(example=FIRST_BUDGET if name == "budget" else self.start)
        pairs = request.query_params.multi_items()
        extra = [pair for pair in pairs if pair[0] in EXTRA]
        try:
            named = {key for key, _ in pairs} & {EXAMPLE, TASK, OWN_SCENARIO}
            view = _view(state_of(pairs if named else [(EXAMPLE, first.example), *pairs]), extra)
            view.asked(name)  # sides of a comparison are read here too
            return view
        except InputError as error:
            return replace(_view(first), problems=tuple(problem.render() for problem in error.problems))

    def _render(self, request: Request, template: str, view: View, name: str, **more: Any) -> HTMLResponse:
        state, is_budget = view.state, name == "budget"
        controls = (
            budget_controls(state, view.document) if is_budget else
            main_controls(state, view.document, view.catalog)
        )  # fmt: skip
        decisions = [] if is_budget else decision_controls(state, view.document)
        known = {control.path for control in (*controls, *decisions)}
        context = {
            "name": name,
            "state": state,
            "problems": view.problems,
            "views": VIEWS,
            "links": {key: "" if is_budget != (key == "budget") else state.query() for key in VIEWS},
            "examples": budgets() if is_budget else scenarios(),
            "tasks": () if is_budget else TASKS,
            "controls": controls,
            "decisions": decisions,
            "others": [
                (path, value, state.without(path).query()) for path, value in state.changes if path not in known
            ],
            "axes": AXES,
            "base": "",
            "figures": FIGURES,
            "inline": "inline" in request.query_params,
            "query": state.query(),
            "command": command(name, state, view.extra),
            "yaml": lambda: _changed(view),
            "applied": lambda changes: state.changed(changes).query(),
            "over": view.one("over") or "headroom",
            "offer": view.one("offer") or "",
            "offers": view.catalog.ids("prices"),
            "side": [*(value for key, value in view.extra if key == "side"), *[""] * MOST_SIDES][: MOST_SIDES - 1],
            "extra": urlencode(view.extra),
            **more,
        }  # fmt: skip
        return self.templates.TemplateResponse(request, template, context)

    async def fragment(self, request: Request, name: str) -> Response:
        """The answer of one page, put into it by htmx."""
        if name not in FRAGMENTS:
            return HTMLResponse("<p>no such answer</p>", 404)
        view = self._view(request, name)
        if view.problems:
            return self._render(request, "refused.html", view, name, refused=[{"what": text} for text in view.problems])
        if name == "compare" and not view.one("side"):
            ideas = [(text, f"{view.state.query()}&{urlencode({'side': side})}") for text, side in view.ideas()]
            return self._render(request, "beside.html", view, name, ideas=ideas)
        found = await self._answer(request, KINDS.get(name, name), view.asked(name))
        if "problems" in found:
            return self._render(request, "refused.html", view, name, refused=found["problems"])
        return self._render(request, f"{name}.html", view, name, found=found, **_shown(name, view, found))

    async def _answer(self, request: Request, kind: str, asked: Answer) -> Answer:
        return await while_wanted(request, self.workers.ask(kind, asked))

    async def scenario(self, request: Request) -> Response:
        """The scenario as YAML, changes applied."""
        view = self._view(request, "plan")
        if view.problems:
            return _wrong(view.problems)
        try:
            return _attached(_changed(view), SAVED)
        except InputError as error:
            return _wrong([str(error)])

    async def launch(self, request: Request) -> Response:
        """The plan's launch files, one after the other."""
        view = self._view(request, "plan")
        if view.problems:
            return _wrong(view.problems)
        asked = {**view.asked("plan"), "to": request.query_params.get("to")}
        found = await self._answer(request, "launch", asked)
        if "problems" in found:
            return _wrong([problem["what"] for problem in found["problems"]])
        names = list(found["files"])
        if len(names) == 1:
            return _attached(found["files"][names[0]], names[0])
        text = "\n".join(f"# ===== {name} =====\n{found['files'][name]}" for name in names)
        return _attached(text, "launch.txt")

    async def report(self, request: Request) -> Response:
        """The report of a view as `--format html` writes it."""
        name = request.query_params.get("view") or "plan"
        if name not in FRAGMENTS:
            return _wrong([f"no view {name!r}"])
        view = self._view(request, name)
        if view.problems:
            return _wrong(view.problems)
        asked = {**view.asked(name), "report": command(name, view.state, view.extra)}
        found = await self._answer(request, KINDS.get(name, name), asked)
        if "problems" in found:
            return _wrong([problem["what"] for problem in found["problems"]])
        return _attached(found["report"], "report.html")


def _shown(name: str, view: View, found: Answer) -> Answer:
    """What a template needs besides the answer."""
    if name == "plan":
        plan = found["document"]["plan"]
        return {"decided": decided(view.state, plan["layout"]) if plan is not None else []}
    if name == "compare":
        return {"beside": list(zip("ABCD", [view.state, *sides(view.state, view.extra)], strict=False))}
    if name == "front" and "plot" in found:
        links = [f"./?{view.state.changed(changes).query()}" for changes in found["sets"]]
        plot = found["plot"]
        points, labels = (tuple(map(tuple, plot["points"])), tuple(plot["labels"]))
        return {"svg": figure_svg(Plot(plot["title"], plot["x"], plot["y"], points, labels, links=tuple(links)))}
    return {}


def _changed(view: View) -> str:
    """The scenario with its changes as YAML. Raises InputError for a change that has no place."""
    return scenario_text(with_overrides(view.document, view.state.overrides))


def _wrong(problems: Sequence[str]) -> Response:
    return PlainTextResponse("\n".join(problems) + "\n", 422)


def _attached(text: str, name: str) -> Response:
    kind = "text/html" if name.endswith(".html") else "text/plain"
    headers = {"content-disposition": f'attachment; filename="{name.replace(chr(34), "")}"'}
    return Response(text, media_type=f"{kind}; charset=utf-8", headers=headers)
