"""The controls of the page: which field of a scenario each one sets, and what it offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.inputs.catalog import Catalog
from planner.inputs.document import Document
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
LENGTHS = {"rl": ("rl.response_length", "response length"), "": ("batch.sequence_length", "sequence length")}
BATCHES = {"rl": ("rl.rollout_batch_size", "prompts a rollout"), "": ("batch.global_batch_size", "global batch")}


def stands(document: Document, path: str) -> str:
    """The value that a scenario gives to a dotted path, as text; empty where it says nothing."""
    value = document.data
    for step in path.split("."):
        if not isinstance(value, dict) or step not in value:
            return ""
        value = value[step]
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
    ) -> Control:
        return Control(path, label, state.value(path), stands(document, path), tuple(choices), hint, low, high)

    if by_words:
        words = [Control(MODEL, "model", state.model, "", models), Control(GPUS, "GPUs", state.gpus, "", hint="4xh100")]
    else:
        words = [
            control("model", "model", models),
            control("cluster.node", "machines", catalog.ids("nodes")),
            control("cluster.num_gpus", "GPUs", hint="a number or a list such as [8, 16]"),
        ]
    return [
        *words,
        control(*length, hint="tokens", low=1024, high=131072),
        control(*batch, hint="sequences a step"),
        control("engine", "engine", catalog.ids("engines")),
        control("limits.headroom_gib", "headroom", hint="GiB kept free", low=0, high=40),
    ]


def decision_controls(state: State, document: Document) -> list[Control]:
    """What the search decides, to be pinned or limited."""
    return [
        Control(path, label, state.value(path), stands(document, path) or "open", hint="any, 4 or [2, 4]")
        for path, label in DECISIONS
    ]
