"""What options of an engine cost or gain, against arithmetic by hand."""

from __future__ import annotations

import pytest

from planner.analysis.engine_options import option_effects
from planner.formulas.parameters import count_parameters
from planner.inputs.catalog import default_catalog
from planner.report.engine_summary import effect_text
from planner.units import GIB


def test_gradients_in_two_bytes_save_two_bytes_a_parameter() -> None:
    catalog = default_catalog()
    whole = catalog.find("engines", "megatron-core")
    engine = whole.model_copy(update={"options": {"bf16_gradients": whole.options["bf16_gradients"]}})
    (effect,) = option_effects(engine, catalog).values()
    parameters = count_parameters(catalog.find("models", "llama3.1-8b")).total
    assert effect.gib == pytest.approx(-2 * parameters / GIB, rel=0.05)
    assert effect.time < 0
    assert effect.run == "8B on 8 GPUs"


def test_a_loss_in_chunks_saves_what_a_whole_one_costs_and_more() -> None:
    """Whole logits in fp32 with their gradient: 8,192 tokens x 128,256 words x 4 bytes is 3.9 GiB each."""
    effects = option_effects(default_catalog().find("engines", "torchtune-fsdp"), default_catalog())
    assert effects["chunked_loss"].gib < 0 < effects["whole_loss"].gib
    assert effects["whole_loss"].gib == pytest.approx(0, abs=3 * 8192 * 128_256 * 4 / GIB)
    assert effect_text(effects["chunked_loss"]).endswith("GiB, step 0.0 % (8B on 8 GPUs)")
    assert effects["offload_activations"].gib < 0
    assert effect_text(None) == "nothing on the reference runs"
