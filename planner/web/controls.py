"""The controls of the page: which field of a scenario each one sets, and what it offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.inputs.catalog import Catalog
from planner.inputs.document import Document, value_at
from planner.web.state import GPUS, MODEL, PASTED, State


@dataclass(frozen=True)
class Control:
    """One field."""

    path: str
    label: str
    value: str
    """What the page changed it to; empty where it stands as in the scenario."""
    stands: str
    """What the scenario says, or `open`."""
    choices: tuple[str, ...] = ()
    """Empty for a free text."""
    hint: str = ""
    low: float | None = None
    high: float | None = None
    """Both given: a slider beside the number."""
    step: int = 1
    """Of the slider."""

    @property
    def at(self) -> str:
        """Where the slider stands: at what was typed, what the scenario says (or wishes first), or its low end."""
        said = self.value or self.stands.partition(",")[0]
        return said if said.replace(".", "", 1).isdigit() else str(self.low)


DECISIONS = (
    ("layout.tensor_parallel", "tensor parallel"),
    ("layout.pipeline_parallel", "pipeline parallel"),
    ("layout.context_parallel", "context parallel"),
    ("layout.expert_parallel", "expert parallel"),
    ("layout.data_parallel", "data parallel"),
    ("layout.virtual_pipeline", "virtual stages"),
    ("layout.recomputed_layers", "recomputed layers"),
    ("batch.micro_batch_size", "micro-batch"),
    ("batch.max_tokens_per_gpu", "token cap"),
    ("layout.zero_stage", "ZeRO stage"),
)
"""Left open unless a value, a list such as [2, 4] or `any` is typed."""
COUNTS = frozenset({"layout.zero_stage"})
"""Kinds rather than amounts: no limit makes sense of them."""
MOST_JOBS = 12
"""Whose deadlines have a control."""
MOST_POOLS = 8
"""Whose GPUs have a control."""
LENGTHS = {"rl": ("rl.response_length", "response length"), "": ("batch.sequence_length", "sequence length")}
BATCHES = {"rl": ("rl.rollout_batch_size", "prompts a rollout"), "": ("batch.global_batch_size", "global batch")}


def stands(document: Document, path: str) -> str:
    """The value that a scenario gives to a dotted path, as text; empty where it says nothing."""
    try:
        value = value_at(document, path)
    except (KeyError, IndexError, TypeError):
        return ""
    return "" if value is None else _said(value)


def _said(value: object) -> str:
    if isinstance(value, dict) and "want" in value and "allow" in value:
        allowed = [_said(one) for one in value["allow"] if one != value["want"]]
        return f"{value['want']}, else {' or '.join(allowed)}" if allowed else _said(value["want"])
    return str(value).lower() if isinstance(value, bool) else str(value)


def main_controls(state: State, document: Document, catalog: Catalog) -> list[Control]:
    """Model, machines, work, engine and headroom."""
    task = stands(document, "task")
    length, batch = (table["rl" if task == "rl" else ""] for table in (LENGTHS, BATCHES))
    models = (*((PASTED,) if state.config is not None else ()), *catalog.ids("models"))
    by_words = state.text is None and state.task is not None

    def control(
        path: str,
        label: str,
        choices: Sequence[str] = (),
        hint: str = "",
        low: float | None = None,
        high: float | None = None,
        step: int = 1,
    ) -> Control:
        known = stands(document, path)
        return Control(path, label, state.value(path), known, tuple(choices), hint, low, high, step)

    if by_words:
        words = [Control(MODEL, "model", state.model, "", models), Control(GPUS, "GPUs", state.gpus, "", hint="4xh100")]
    else:
        words = [control("model", "model", models)]
        pools = _pools(document)
        if not pools:
            words.append(control("cluster.node", "machines", catalog.ids("nodes")))
        for path, label in pools or [("cluster", "GPUs")]:
            if stands(document, f"{path}.max_gpus"):
                words.append(control(f"{path}.max_gpus", label, hint="at most"))
            else:
                words.append(control(f"{path}.num_gpus", label, hint="a number or a list such as [8, 16]"))
    return [
        *words,
        control(*length, hint="tokens", low=1024, high=131072, step=1024),
        control(*batch, hint="sequences a step"),
        control("engine", "engine", catalog.ids("engines")),
        control("limits.headroom_gib", "headroom", hint="GiB kept free", low=0, high=40),
    ]


def _pools(document: Document) -> list[tuple[str, str]]:
    """(path, label) of each pool of machines of a scenario that names several."""
    try:
        pools = value_at(document, "cluster.pools")
    except (KeyError, IndexError, TypeError):
        return []
    listed = pools if isinstance(pools, list) else []
    return [
        (f"cluster.pools[{place}]", f"{pool.get('node', 'pool')}: GPUs")
        for place, pool in enumerate(listed[:MOST_POOLS])
        if isinstance(pool, dict)
    ]


def decision_controls(state: State, document: Document) -> list[Control]:
    """What the search decides, to be pinned or limited."""
    return [
        Control(path, label, state.value(path), stands(document, path) or "open", hint="any, 4, [2, 4] or {max: 4}")
        for path, label in DECISIONS
    ]


def budget_controls(state: State, document: Document) -> list[Control]:
    """What a choice of offers must keep, and how long each job may take."""

    def control(path: str, label: str, hint: str = "", choices: tuple[str, ...] = ()) -> Control:
        return Control(path, label, state.value(path), stands(document, path), choices, hint)

    jobs = document.data.get("jobs") if isinstance(document.data, dict) else None
    names = [str(job.get("name")) for job in jobs or () if isinstance(job, dict)][:MOST_JOBS]
    return [
        control("objective", "objective", choices=("cheapest", "earliest")),
        control("max_usd", "budget", "US dollars at most"),
        control("confidence", "confidence", "0.5 to 0.99: chance that each deadline holds"),
        control("goodput", "goodput", "share of the time that is trained"),
        control("max_nodes_at_once", "nodes at once", "at most"),
        *(control(f"jobs[{place}].deadline_days", f"{name}: deadline", "days") for place, name in enumerate(names)),
    ]


def twice(controls: Sequence[Control]) -> list[tuple[str, str]]:
    """(words, change) of each number of a scenario doubled."""
    found = []
    for control in controls:
        value = control.value or control.stands.partition(",")[0]
        if value.isdecimal():
            found.append((f"{control.label} {value} to {int(value) * 2}", f"{control.path}={int(value) * 2}"))
    return found


@dataclass(frozen=True)
class Decided:
    """One decision of a plan, and the states in which it is pinned, limited or let go of."""

    label: str
    value: str
    ways: tuple[tuple[str, str], ...]
    """(what a click does, query)"""


def decided(state: State, layout: Mapping[str, object]) -> list[Decided]:
    """The decisions of a plan that the page can set."""
    found = []
    for path, label in DECISIONS:
        name = path.split(".")[1]
        value = layout.get(name, layout.get(f"{name}_per_stage"))
        if isinstance(value, list):
            value = value[0] if len(set(value)) == 1 else None
        if not isinstance(value, int) or (value == 1 and path == "layout.expert_parallel"):
            continue  # nothing to pin: not in this plan, one for each stage, or no experts
        if state.value(path):
            ways = [("leave open", state.without(path).query())]
        else:
            ways = [("pin", state.changed([f"{path}={value}"]).query())]
            if value > 1 and path not in COUNTS:
                ways.append((f"at most {value // 2}", state.changed([f"{path}={{max: {value // 2}}}"]).query()))
        found.append(Decided(label, f"{value:,}", tuple(ways)))
    return found
