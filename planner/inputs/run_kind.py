"""What published runs are told apart by when the error of a prediction is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from planner.schema.catalog import Architecture, Precision
from planner.schema.engine import Engine
from planner.schema.preference import DPO
from planner.schema.scenario import Scenario
from planner.units import number

BEYOND = 1.25
"""Times the longest sequence or the largest vocabulary of the published runs from which a run lies beyond them."""


@dataclass(frozen=True)
class RunKind:
    """One run, as far as other runs may be like it."""

    adapters: str
    """`full training`, `adapters`, or `adapters on a quantised base`."""
    experts: bool
    precision: str
    """`16 bits`, `fp8` or `fp32`."""
    switches: tuple[str, ...]
    """Engine options that are on and modules that are recomputed alone, sorted."""
    sequence_length: int
    vocab_size: int
    rl: bool = False
    pairs: bool = False
    """It trains on pairs of answers, beside a frozen reference."""
    linear: bool = False
    """Some layers have linear attention."""
    hybrid: bool = False
    """Layers are one block alone, some of them Mamba-2."""
    residual_gib: float = 0.0
    """What trainer and rollout engine on the same GPUs leave behind beyond what is counted. [GiB]"""

    def of_length(self, tokens: int) -> RunKind:
        """The same with sequences of so many tokens."""
        return replace(self, sequence_length=tokens)

    @property
    def cell(self) -> str:
        """What rows must share to be one kind."""
        beside = f", {self.beside_attention}" if self.beside_attention else ""
        return f"{self.adapters}, {'experts' if self.experts else 'dense'}, {self.precision}{beside}"

    @property
    def beside_attention(self) -> str:
        """What some layers have that do not attend; empty where all do."""
        return "linear attention" if self.linear else "Mamba-2" if self.hybrid else ""


TIME_ONLY = ("timing", "overlap", "generation", "rules")
"""Fields of an engine that memory does not know."""


def run_kind(
    scenario: Scenario, engine: Engine, architecture: Architecture, precision: Precision, base: Precision, tokens: int
) -> RunKind:
    """The kind of a run: the engine before its options are set, weights under adapters in `base`, longest sequence."""
    adapters = "full training"
    if scenario.adapter is not None:
        adapters = "adapters" if base.trainable else "adapters on a quantised base"
    fp8 = precision.compute == "fp8"
    colocated = scenario.rl is not None and scenario.rl.placement == "colocated" and engine.colocation is not None
    return RunKind(
        adapters=adapters,
        experts=architecture.num_experts is not None,
        precision="fp8" if fp8 else "fp32" if precision.compute == "fp32" else "16 bits",
        switches=tuple(sorted([*_switches(scenario, engine), *scenario.layout.recompute_modules])),
        sequence_length=tokens,
        vocab_size=architecture.vocab_size,
        rl=scenario.rl is not None,
        pairs=scenario.task == DPO,
        linear=architecture.is_linear,
        hybrid=architecture.is_hybrid,
        residual_gib=engine.colocation.trainer_residual_gib if colocated and engine.colocation is not None else 0.0,
    )


def _switches(scenario: Scenario, engine: Engine) -> list[str]:
    """Options that are on and that memory knows."""
    return [
        name
        for name in scenario.engine_options
        if name not in engine.options or set(engine.options[name].set) - set(TIME_ONLY) or _named(engine, name)
    ]


def _named(engine: Engine, option: str) -> bool:
    """Whether a tensor of the engine depends on the option."""
    kept = (engine.saved, engine.saved_by_adapter, engine.stub)
    lists = (*kept, engine.backward, engine.loss, engine.held, engine.log_prob)
    return any(tensor.option in (option, f"not {option}") for tensors in lists for tensor in tensors)


@dataclass(frozen=True)
class SeenKinds:
    """What the published runs of an engine have among them."""

    cells: Mapping[str, int]
    """Rows by kind."""
    switches: frozenset[str]
    longest_sequence: int
    vocabularies: tuple[int, int]
    """Smallest and largest."""

    def missing(self, kind: RunKind) -> tuple[str, ...]:
        """What the run has that no published run of the engine had, in words."""
        out = ["reinforcement learning"] if kind.rl else []
        out += ["training on pairs"] if kind.pairs else []
        if kind.cell not in self.cells:
            out.append(kind.cell)
        out += [f"option {name}" for name in kind.switches if name not in self.switches]
        if kind.sequence_length > BEYOND * self.longest_sequence:
            out.append(
                f"{number(kind.sequence_length, 0)} tokens a sequence (published: up to "
                f"{number(self.longest_sequence, 0)})"
            )
        low, high = self.vocabularies
        if not low / BEYOND <= kind.vocab_size <= BEYOND * high:
            out.append(
                f"a vocabulary of {number(kind.vocab_size, 0)} (published: {number(low, 0)} to {number(high, 0)})"
            )
        return tuple(out)


def seen_kinds(kinds: Iterable[RunKind]) -> SeenKinds:
    """What these runs have among them; at least one."""
    known = list(kinds)
    cells: dict[str, int] = {}
    for kind in known:
        cells[kind.cell] = cells.get(kind.cell, 0) + 1
    vocabularies = [kind.vocab_size for kind in known]
    return SeenKinds(
        cells=dict(sorted(cells.items())),
        switches=frozenset(name for kind in known for name in kind.switches),
        longest_sequence=max(kind.sequence_length for kind in known),
        vocabularies=(min(vocabularies), max(vocabularies)),
    )
