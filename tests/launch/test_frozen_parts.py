"""Which parts of a vision tower a launch file leaves frozen: read by each launcher's keys and defaults, and written."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from drawn import catalog

from planner.errors import InputError
from planner.inputs.document import parse_document
from planner.launch.lint import Linted, lint
from planner.launch.registry import files
from planner.search.search import Outcome, plan

BOTH = ["vision_tower", "projector"]
VL = "Qwen/Qwen2.5-VL-7B-Instruct"
FILES = {
    "swift": "NPROC_PER_NODE=8 swift sft --model {model} --max_length 2048 --torch_dtype bfloat16 --deepspeed zero3 {}",
    "megatron": "NPROC_PER_NODE=8 megatron sft --model {model} --max_length 2048 --tensor_model_parallel_size 2 {}",
    "llama_factory": "model_name_or_path: {model}\nstage: sft\ncutoff_len: 2048\nper_device_train_batch_size: 1\n"
    "gradient_accumulation_steps: 2\nbf16: true\ndeepspeed: ds_z3.json\n{}\n",
    "axolotl": "base_model: {model}\nsequence_len: 2048\nmicro_batch_size: 1\ngradient_accumulation_steps: 2\n"
    "bf16: true\noptimizer: adamw_torch_fused\ngradient_checkpointing: true\ndp_shard_size: 8\nfsdp_version: 2\n{}\n",
    "nemo_rl": "policy:\n  model_name: {model}\n  megatron_cfg:\n    enabled: true\n{}\n",
}
FREEZE = "    freeze_config: {freeze_vision_model: true, freeze_vision_projection: false, freeze_language_model: false}"
SAID = "freeze_vision_tower: true\nfreeze_multi_modal_projector: true"
FULL = "--tuner_type full"


def judged(folder: Path, kind: str, more: str, model: str = VL) -> Linted:
    path = folder / ("run.sh" if kind in ("swift", "megatron") else "run.yaml")
    path.write_text(FILES[kind].replace("{model}", model).replace("{}", more))
    return lint(path, catalog(), ("cluster.num_gpus=8",))


@pytest.mark.parametrize(
    ("kind", "more", "frozen", "own"),
    [
        ("swift", FULL, BOTH, True),
        ("swift", f"{FULL} --freeze_vit false", ["projector"], True),
        ("swift", f"{FULL} --freeze_vit false --freeze_aligner false", None, False),
        ("swift", "", None, False),
        ("megatron", "", BOTH, True),
        ("megatron", "--freeze_aligner false", ["vision_tower"], True),
        ("llama_factory", "finetuning_type: full", BOTH, True),
        ("llama_factory", f"finetuning_type: full\n{SAID}", BOTH, False),
        ("axolotl", "", None, False),
        ("axolotl", "freeze_mm_modules: true", BOTH, False),
        ("nemo_rl", FREEZE, ["vision_tower"], False),
    ],
)  # fmt: skip
def test_a_launchers_own_keys_and_defaults_count(
    kind: str, more: str, frozen: list[str] | None, own: bool, tmp_path: Path
) -> None:
    """`own`: the file is silent, and the report says whose default it is."""
    found = judged(tmp_path, kind, more)
    assert found.scenario.get("frozen") == frozen
    assert ("unless told otherwise" in found.found.assumed.get("frozen", "")) is own


def test_a_network_without_a_tower_says_nothing(tmp_path: Path) -> None:
    found = judged(tmp_path, "swift", FULL, "Qwen/Qwen2.5-7B-Instruct")
    assert "frozen" not in found.scenario
    assert "frozen" not in found.found.assumed
    assert found.plan is not None


def test_what_is_not_counted_is_listed(tmp_path: Path) -> None:
    """A frozen language model, and adapters in the tower beside those of the language model."""
    assert "language model is frozen" in judged(tmp_path, "swift", f"{FULL} --freeze_llm true").open[0].what
    unread = judged(tmp_path, "swift", "--freeze_vit false --target_modules all-linear").found.unread
    assert any("vision tower beside the language model's adapters" in text for _, text in unread)


def test_images_are_asked_for_where_the_tower_trains(tmp_path: Path) -> None:
    """A value that is set is not asked for again; ms-swift's own switch of recomputation is listed where it is off."""
    more = f"{FULL} --freeze_vit false --gradient_checkpointing false --vit_gradient_checkpointing false"
    found = judged(tmp_path, "swift", more)
    assert "2.0 GB for 1,000 patches, 0.1 recomputed" in found.found.assumed["batch.image_tokens"]
    assert any("vit_gradient_checkpointing is off" in text for _, text in found.found.unread)
    again = lint(tmp_path / "run.sh", catalog(), ("cluster.num_gpus=8", "batch.image_tokens=512"))
    assert "batch.image_tokens" not in again.found.assumed
    assert again.plan is not None
    assert found.plan is not None
    assert again.plan.peak_gib > found.plan.peak_gib
    assert "batch.image_tokens" not in judged(tmp_path, "swift", FULL).found.assumed


def test_verl_knows_a_key_that_nothing_reads(tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    path.write_text(
        f"python3 -m verl.trainer.main_ppo actor_rollout_ref.model.path={VL} data.train_batch_size=64 "
        "actor_rollout_ref.actor.freeze_vision_tower=True actor_rollout_ref.actor.use_dynamic_bsz=True"
    )
    found = lint(path, catalog())
    assert "tower_not_frozen" in {finding.rule for finding in found.findings}
    assert "frozen" not in found.scenario


@cache
def solved(engine: str, frozen: tuple[str, ...]) -> Outcome:
    asked = {
        "name": "tower", "task": "sft", "model": "qwen2.5-vl-7b", "engine": engine, "frozen": list(frozen),
        "cluster": {"node": "hgx-h100-8", "num_gpus": 8},
        "batch": {"global_batch_size": 8, "sequence_length": 1024, "micro_batch_size": 1},
        "layout": {"recomputed_layers": "all", "pipeline_parallel": 1, "layers_per_stage": "even"},
        **({"engine_options": ["native_cross_entropy_fusion"]} if engine == "megatron-core" else {}),
    }  # fmt: skip
    return plan(parse_document(json.dumps(asked), "tower.json"), catalog())


def written(launcher: str, engine: str, frozen: tuple[str, ...], folder: Path) -> list[Path]:
    texts = files(launcher, solved(engine, frozen), catalog())
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


@pytest.mark.parametrize("frozen", [(), ("vision_tower",), tuple(BOTH)])
@pytest.mark.parametrize(("launcher", "engine"), [("ms-swift", "megatron-core"), ("llama-factory", "deepspeed")])
def test_what_is_written_is_read_back(launcher: str, engine: str, frozen: tuple[str, ...], tmp_path: Path) -> None:
    first, *_ = written(launcher, engine, frozen, tmp_path)
    back = lint(first, catalog(), ("cluster.num_gpus=8",))
    assert tuple(back.scenario.get("frozen", ())) == frozen
    assert back.plan is not None, back.open
    assert "frozen" not in back.found.assumed


def test_a_launcher_without_a_word_refuses(tmp_path: Path) -> None:
    (axolotl,) = (p for p in written("axolotl", "fsdp2", tuple(BOTH), tmp_path) if p.suffix == ".yaml")
    assert "freeze_mm_modules: true" in axolotl.read_text()
    for launcher, parts in (("axolotl", ("vision_tower",)), ("trl", tuple(BOTH)), ("accelerate", ("projector",))):
        with pytest.raises(InputError, match="frozen"):
            written(launcher, "fsdp2", parts, tmp_path)
