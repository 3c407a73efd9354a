"""Public launch files of different shapes, re-created from their settings: what lint reads of each, and what it finds.

`PYTHONPATH=. python tests/launch/test_public_scripts.py` writes tests/golden/lint anew; no figure of memory is in it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.inputs.catalog import default_catalog
from planner.launch.lint import Linted, lint

FOLDER, GOLDEN = Path("tests/fixtures/launch"), Path("tests/golden/lint")
FILES = (
    *("slime_colocated.sh", "slime_two_pools.sh", "verl_fsdp.sh", "verl_megatron.sh", "megatron_gpt3_175b.sh"),
    *(
        "megatron_mixtral.sh",
        "megatron_llama3_fp8.sh",
        "ms_swift_moonlight.sh",
        "nemo_rl_8b.yaml",
        "openrlhf_hybrid.sh",
    ),
    *("axolotl_fsdp_tp_cp.yaml", "llama_factory_full.yaml"),
)


def report(linted: Linted) -> str:
    """Verdict, findings, every value with its line, what is open or taken as usual."""
    found = linted.found
    verdict = {None: "not costed", True: "fits", False: "does not fit"}[linted.fits]
    lines = [f"{found.launcher} ({found.engine}): {verdict}", "", "findings"]
    lines += [f"  {one.where.line}: {one.severity} {one.rule}: {one.text}" for one in linted.findings]
    lines += ["", "read"]
    for word, place in sorted(found.places.items()):
        lines.append(f"  {Path(place.file).name}:{place.line} {word} = {found.words.get(word)}")
    lines += ["", "open"]
    lines += [f"  {mistake.what}" for mistake in linted.open]
    lines += [f"  {path}: {why}" for path, why in found.assumed.items()]
    lines += [f"  {Path(place.file).name}:{place.line} {why}" for place, why in found.unread]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", FILES)
def test_what_lint_says_of_a_public_script(name: str) -> None:
    golden = GOLDEN / f"{name}.txt"
    assert report(lint(FOLDER / name, default_catalog())) == golden.read_text(), (
        "PYTHONPATH=. python tests/launch/test_public_scripts.py"
    )


def test_what_each_is_there_for() -> None:
    """Facts of the corpus that a reader must get, whatever the reports say."""
    said = {name: (GOLDEN / f"{name}.txt").read_text() for name in FILES}
    assert "qwen3_4b.sh:3 model = qwen3-4b" in said["slime_colocated.sh"]
    assert "warning idle_reference" in said["slime_colocated.sh"]
    assert "layers_per_stage = [24, 24, 24, 22]" in said["slime_two_pools.sh"]
    assert "generating_gpus = 64" in said["slime_two_pools.sh"]
    assert "unknown_setting" not in said["verl_fsdp.sh"], "options of uv are no settings of verl"
    assert "first_stage_layers = 11" in said["verl_megatron.sh"]
    assert "grad_offload; no setting of the engine is like it" in said["verl_megatron.sh"], "the file has param_offload"
    for rule in ("two_batch_sizes", "unquoted_array", "gpus_divide"):
        assert f"error {rule}" in said["megatron_gpt3_175b.sh"]
    assert "error expert_grid" in said["megatron_mixtral.sh"]
    assert "warning other_rotary_base" in said["megatron_llama3_fp8.sh"]
    assert "gpus_per_node = 8" in said["ms_swift_moonlight.sh"]
    assert "nemo_rl_base.yaml:21 tokens_per_gpu = 4096" in said["nemo_rl_8b.yaml"]
    assert "does not know --gradient_checkpointing" in said["openrlhf_hybrid.sh"]
    assert "know sequence_length and drops it in silence; did you mean sequence_len?" in said["axolotl_fsdp_tp_cp.yaml"]
    assert "ds_z3_auto.json:6 zero_stage = 3" in said["llama_factory_full.yaml"]


def write() -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (GOLDEN / f"{name}.txt").write_text(report(lint(FOLDER / name, default_catalog())))


if __name__ == "__main__":
    write()
