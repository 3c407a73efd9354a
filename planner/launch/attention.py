"""Networks that Transformers has no sdpa for: attention is eager and keeps whole scores unless a file names a kernel.

Which networks these are and what trains them is told in planner.problem.named_attention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.errors import Place
from planner.inputs.catalog import Catalog
from planner.launch.reading.formats import FAMILY
from planner.launch.reading.found import Found
from planner.launch.reading.scenario import known_model, model_of
from planner.launch.reading.tables import TABLES
from planner.launch.script import refuse
from planner.launch.traps import Finding
from planner.problem.named_attention import OPTION, WHOLE, kernels_of, trained_by
from planner.search.plan import Plan

NAMING = ("attn_implementation", "flash_attn", "attn_impl")
"""Settings whose value names the attention: Transformers, TRL and axolotl; LLaMA-Factory; ms-swift."""
SWITCHES = ("flash_attention", "flex_attention", "xformers_attention", "sage_attention")
"""Switches of axolotl that name it (utils/schemas/enums.py, LEGACY_ATTN_FLAG_TO_IMPL)."""
UNNAMED, EAGER, REFUSED = frozenset(("", "auto", "null", "none")), frozenset(("eager", "disabled")), "sdpa"


def named_kernel(plan: Plan, catalog: Catalog, launcher: str) -> str | None:
    """The kernel that a file must name for what the plan counts; None where it need not.

    Raises InputError where the plan counts a fused kernel and none is known for its GPU, or for fp32.
    """
    problem = plan.problem
    kernels = kernels_of(problem.architecture, catalog)
    if kernels is None or not problem.engine.fused_attention:
        return None
    kernel = trained_by(kernels, problem.gpu, problem.precision).kernel
    if kernel is None:
        where = "in fp32" if problem.precision.id == WHOLE else f"on {problem.gpu.name}"
        raise refuse(
            plan, f"{launcher} knows no fused attention for {problem.architecture.id} {where}",
            f"Transformers has no sdpa for it; what trains it in 16 bits: {_told(kernels)}",
            f"engine_options: [{OPTION}], which counts the scores that eager attention keeps", "engine_options",
        )  # fmt: skip
    return kernel


def say_attention(found: Found, catalog: Catalog, overrides: Sequence[str]) -> list[Finding]:
    """Read a file that names no kernel for such a network as eager attention, and say so.

    Nothing is changed where `overrides` state engine_options.
    """
    model = known_model(model_of(str(found.words.get("model")), catalog) or "", catalog)
    kernels = kernels_of(model, catalog) if model is not None and found.launcher in FAMILY else None
    stated = any(change.partition("=")[0].strip() == "engine_options" for change in overrides)
    if model is None or kernels is None or stated or OPTION not in catalog.find("engines", found.engine).options:
        return []
    name = next((name for name in NAMING if (found.text(name) or "").lower() not in UNNAMED), None)
    said = (found.text(name) or "").lower() if name is not None else ""
    where = found.options[name].place if name is not None else found.places.get("model", Place(found.launcher))
    table = catalog.flags(TABLES[found.launcher][0][0])
    if table.names_kernels:
        if said not in UNNAMED:
            return []
        text = f"{table.engine} names a kernel for {model.id} itself: costed as if that is installed"
        return [Finding("note", "kernel_of_attention", text, where)]
    if said == REFUSED:
        text = f"Transformers has no sdpa for {model.id} and refuses it; a kernel: {_told(kernels)}"
        return [Finding("error", "refused_attention", text, where)]
    silent = said in UNNAMED and not any(found.has(switch) for switch in SWITCHES)
    on = found.words.get("engine_options")
    if (silent or said in EAGER) and not (isinstance(on, list) and OPTION in on):
        found.switch_on(OPTION, "model" if silent else "")
    if not silent:
        return []
    text = (
        f"no line names a kernel, and Transformers has no sdpa for {model.id}: costed as eager attention, which keeps "
        f"whole scores; attn_implementation {_told(kernels)}"
    )
    return [Finding("warning", "eager_attention", text, where)]


def _told(kernels: Mapping[str, str]) -> str:
    """Each kernel with the chips that it trains on."""
    chips = {kernel: [chip for chip in kernels if kernels[chip] == kernel] for kernel in kernels.values()}
    return "; ".join(f"{kernel} on {', '.join(on)}" for kernel, on in chips.items())
