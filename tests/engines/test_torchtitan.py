"""torchtitan's own config manager and mesh check on every plan: `python -m pytest -m engines`."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn import PLANS, words_of, written

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]
FUNCTIONS = {
    "llama3": ("llama3", "llama3_8b"),
    "qwen3-30b": ("qwen3", "qwen3_30b_a3b"),
    "deepseek-v3": ("deepseek_v3", "deepseek_v3_671b"),
    "deepseek-v2": ("deepseek_v3", "deepseek_v3_16b"),
    "moe": ("deepseek_v3", "deepseek_v3_16b"),
    "dense": ("llama3", "llama3_70b"),
}
"""(--module, --config) of networks; those that torchtitan has no function for are asked with another's."""


def test_torchtitan_takes_every_plan_and_reads_it_back() -> None:
    manager = pytest.importorskip("torchtitan.config.manager")
    from torchtitan.distributed.parallel_dims import ParallelDims

    for plan, files in written("torchtitan", "torchtitan", PLANS):
        words, _ = words_of(files["plan.sh"])
        lay, network = plan.layout, plan.problem.architecture
        kind = next((name for name in FUNCTIONS if network.id.startswith(name)), "moe" if network.is_moe else "dense")
        module, function = FUNCTIONS[kind]
        config = manager.ConfigManager().parse_args(["--module", module, "--config", function, *words])
        dims = ParallelDims.from_config(config.parallelism, lay["num_gpus"])
        copies = dims.dp_replicate * dims.dp_shard
        pieces = config.training.global_batch_size // (config.training.local_batch_size * copies)
        if dims.pp > 1:
            pieces *= config.training.local_batch_size // config.parallelism.pipeline_parallel_microbatch_size
        read = {
            "tensor_parallel": dims.tp,
            "pipeline_parallel": dims.pp,
            "context_parallel": dims.cp,
            "expert_parallel": dims.ep,
            "data_parallel": copies,
            "num_micro_batches": pieces,
            "global_batch_size": config.training.global_batch_size,
            "sequence_length": config.training.seq_len,
        }
        assert read == {name: lay[name] for name in read}, files["plan.sh"]
        kept = type(config.activation_checkpoint).__qualname__
        whole = any(plan.recomputed)
        modules = plan.problem.scenario.layout.recompute_modules
        assert kept == ("FullAC.Config" if whole else "SelectiveAC.Config" if modules else "NoneType"), files["plan.sh"]
        if dims.pp > 1:
            from torchtitan.distributed.pipeline_parallel import _generate_llm_fqn_per_model_part

            stages = dims.pp * lay["virtual_pipeline"]
            assert config.parallelism.pipeline_parallel_layers_per_stage * stages == sum(plan.layers)
            parts = _generate_llm_fqn_per_model_part(stages, sum(plan.layers), 0, 0)
            held = [sum(name.startswith("layers.") for part in parts[rank :: dims.pp] for name in part)
                    for rank in range(dims.pp)]  # fmt: skip
            assert held == list(plan.layers)


def test_the_sequence_divides_as_the_trainer_wants() -> None:
    """Trainer.__init__ needs a GPU; its check of lengths (trainer.py:302-311) is asked by its own text."""
    trainer = Path(pytest.importorskip("torchtitan.config").__path__[0]).parent / "trainer.py"
    assert "2 * parallel_dims.cp if parallel_dims.cp > 1 else 1" in trainer.read_text()
    for plan, _ in written("torchtitan", "torchtitan", PLANS):
        lay = plan.layout
        several = 2 * lay["context_parallel"] if lay["context_parallel"] > 1 else 1
        assert lay["sequence_length"] % (lay["tensor_parallel"] * several) == 0
