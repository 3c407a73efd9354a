"""Published layouts as scenarios, and docs/layouts.md: `python -m validation.layouts.table`.

With --check it says whether the page is current (exit code 5 if not); with --scenario NAME it prints one scenario.
What the search finds beside them is in solved.json, made by `python benchmarks/layouts.py`.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from planner.errors import InputError
from planner.inputs.document import Document, document_of, read_document
from planner.problem.resolve import question_of
from planner.search.estimate import estimate
from planner.search.plan import Plan, verdict
from planner.search.space import rules_of
from planner.units import number, signed

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "layouts.md"
SOLVED = FOLDER / "solved.json"
DEGREES = {
    "TP": "tensor_parallel",
    "PP": "pipeline_parallel",
    "VP": "virtual_pipeline",
    "CP": "context_parallel",
    "EP": "expert_parallel",
    "ETP": "expert_tensor_parallel",
}
FREE = {"virtual_pipeline": "any", "layers_per_stage": "auto"}
"""What the search is given of the layout: every other degree is open by default."""


@dataclass(frozen=True)
class Published:
    """One layout of layouts.yaml."""

    name: str
    entry: dict[str, Any]

    @property
    def num_gpus(self) -> int:
        """GPUs of the run."""
        return int(self.entry["machines"].split(" x ")[0])

    @property
    def batch(self) -> tuple[int, int]:
        """(sequences, tokens of one)"""
        count, tokens = self.entry["batch"].split(" x ")
        return int(count), int(tokens)

    def scenario(self, *, pinned: bool) -> dict[str, Any]:
        """The run with its layout pinned, or the same work on the same machines with the layout left to the search."""
        entry, (count, tokens) = self.entry | ({} if pinned else self.entry.get("searched", {})), self.batch
        batch: dict[str, Any] = {"global_batch_size": count, "sequence_length": tokens}
        layout = self._pins() if pinned else dict(FREE)
        if not pinned and entry["engine"] != "megatron-core":
            layout.pop("virtual_pipeline")
        if pinned:
            batch["micro_batch_size"] = int(re.findall(r"mbs(\d+)", entry["layout"])[0])
        layout |= {"recompute_modules": entry.get("modules", [])}
        layout |= {"activation_offload": True} if entry.get("offload") else {}
        kept = {key: entry[key] for key in ("model", "engine", "precision", "adapter", "optimizer") if key in entry}
        cluster = {"node": entry["machines"].split(" x ")[1], "num_gpus": self.num_gpus}
        options = {"engine_options": entry["options"]} if entry.get("options") else {}
        head = {"name": self.name.replace("-", "_"), "task": entry.get("task", "pretrain")}
        return {**head, **kept, **options, "cluster": cluster, "batch": batch, "layout": layout}

    def _pins(self) -> dict[str, Any]:
        asked = dict(re.findall(r"\b(TP|PP|VP|CP|EP|ETP)(\d+)", self.entry["layout"]))
        pins: dict[str, Any] = {long: int(asked.get(short, 1)) for short, long in DEGREES.items()}
        listed = self.entry.get("layers")
        pins["layers_per_stage"] = "even" if listed is None else [n for part in listed for n in _run(part)]
        return {**pins, "recomputed_layers": self.entry.get("recomputed", 0)}

    def document(self, *, pinned: bool = True) -> Document:
        """The scenario as a document."""
        return document_of(self.scenario(pinned=pinned))

    @cached_property
    def seconds(self) -> float | None:
        """What was published, as seconds of a step; None where no speed was. [s]

        From model TFLOP/s: 6 FLOP a parameter and token, the input embedding apart, and causal attention,
        6 layers * width * length, as arXiv:2205.05198 halved.
        """
        said, (count, tokens) = self.entry["published"], self.batch
        work = count * tokens
        if "seconds" in said:
            return float(said["seconds"])
        if "tokens_per_s_per_gpu" in said:
            return work / (said["tokens_per_s_per_gpu"] * self.num_gpus)
        if "tflops" not in said:
            return None
        problem = question_of(self.document()).first
        a, used = problem.architecture, problem.parameters.active_per_token - problem.parameters.embedding
        each = 6 * used + 6 * a.num_hidden_layers * a.query_width * tokens
        return work * each / (said["tflops"] * 1e12 * self.num_gpus)


@dataclass(frozen=True)
class Estimated:
    """A published layout, and what the planner says of it."""

    published: Published
    plan: Plan | None
    broken: tuple[str, ...]
    """Rules that refuse it, each with where it stands in the engine's code."""


def _run(part: int | str) -> list[int]:
    """`14 x 8` is fourteen stages of 8 layers."""
    if isinstance(part, int):
        return [part]
    times, layers = part.split(" x ")
    return [int(layers)] * int(times)


def published() -> list[Published]:
    """Every layout, in the order of the file."""
    data = read_document(str(FOLDER / "layouts.yaml")).data
    assert isinstance(data, dict)
    return [Published(name, entry) for name, entry in data.items()]


def estimated(one: Published) -> Estimated:
    """One layout through `planner estimate`."""
    try:
        return Estimated(one, estimate(one.document()), ())
    except InputError as error:
        said = " ".join(problem.render() for problem in error.problems)
        problem = question_of(one.document()).first
        named = [rule for rule in rules_of(problem) if rule.name in said]
        texts = tuple(f"`{rule.name}`: {rule.text} ({rule.source})" for rule in named)
        return Estimated(one, None, texts or (said,))


def solved() -> dict[str, Any]:
    """What the search found, by name."""
    data: dict[str, Any] = json.loads(SOLVED.read_text(encoding="utf-8"))
    return data


def _row(one: Estimated, found: dict[str, Any] | None) -> str:
    published, plan = one.published, one.plan
    said = published.seconds
    cells = [published.name, published.entry["machines"], published.entry["layout"]]
    cells.append("-" if said is None else number(said, 2))
    if plan is None:
        cells += ["refused", "-", "-"]
    else:
        error = "" if said is None else f" ({signed((plan.step_seconds / said - 1) * 100, 0)} %)"
        cells.append(f"{number(plan.step_seconds, 2)}{error}")
        cells.append(f"{number(plan.tokens_per_second, 0)}")
        cells.append(f"{plan.peak_gib:.1f} / {plan.usable_gib:.1f}, {verdict(plan)}")
    if found is None or found.get("layout") is None:
        cells += [found["status"] if found else "not asked", "-", "-", "-"]
    else:
        gain = ""
        if plan is not None:
            gain = f" ({signed((plan.step_seconds / found['seconds'] - 1) * 100, 0)} % tokens/s)"
        cells.append(f"{found['layout']}{'' if found['status'] == 'optimal' else ', ' + found['status']}")
        cells.append(f"{number(found['seconds'], 2)}{gain}")
        cells += [number(found["tokens_per_second"], 0), number(found["free_gib"], 1)]
    return f"| {' | '.join(cells)} |"


COLUMNS = (
    *("run", "machines", "published layout", "published s", "estimated s", "tokens/s", "peak / usable GiB"),
    *("the search's layout", "s", "tokens/s", "free GiB"),
)
HEAD = """# Published layouts, and what the search finds instead

Made by `python -m validation.layouts.table` from `validation/layouts/layouts.yaml`, with the real number of layers of
each network; `python -m validation.layouts.table --scenario NAME` prints one as a scenario. The published layout is
pinned and estimated as it is; beside it stands what `planner solve` finds for the same work, precision, options and
recomputed modules on the same machines with the degrees, the micro-batch, the layers of each stage and full
recomputation open (`python benchmarks/layouts.py`); where the engine is known from its paper alone, on Megatron-core.

Most of these runs are among the rows that times were looked at while formulas were written (`docs/time.md`), so that
the errors are in-sample; what the search finds instead was run by nobody. An estimate that does not fit by memory
says so: the layout ran, and the recomputation it ran with is not always published. The search keeps the engine's
usual headroom free; a published layout need not.
"""


def render() -> str:
    """The page."""
    rows, found = [estimated(one) for one in published()], solved()
    lines = [HEAD, f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    lines += [_row(one, found.get(one.published.name)) for one in rows]
    lines += ["", "## Refusals", ""]
    refused = [f"- {one.published.name}: {'; '.join(one.broken)}" for one in rows if one.plan is None]
    lines += refused or ["None: every layout of this table passes the rules of its engine."]
    lines += ["", "## Sources, and what they leave open", ""]
    for one in published():
        source, assumed = one.entry["source"], one.entry.get("assumed")
        lines.append(f"- {one.name}: {source['ref']}, {source['date']}." + (f" Assumed: {assumed}." if assumed else ""))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--scenario" in sys.argv[1:]:
        wanted = sys.argv[sys.argv.index("--scenario") + 1]
        print(json.dumps(next(one for one in published() if one.name == wanted).scenario(pinned=True), indent=1))
        sys.exit(0)
    page = render()
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == page else 5)
    PAGE.write_text(page, encoding="utf-8")
