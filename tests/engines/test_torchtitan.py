"""torchtitan's own config manager and mesh check on every plan: `python -m pytest -m engines`."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
from drawn import PLANS, words_of, written
from test_verl_fsdp1 import Live

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


@pytest.mark.parametrize("ranks", [2, 8])
def test_context_ranks_keep_all_keys_and_values(ranks: int) -> None:
    """Its own wrapping of flex_attention, over ranks only said to be there, a stub for the kernel.

    Kept: keys and values of all ranks, 2 B each. Going back their gradients lie beside them; torch copies neither where
    a micro-batch is one sequence.
    """
    torch = pytest.importorskip("torch")
    api = pytest.importorskip("torchtitan.distributed.context_parallel.api")
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    init_device_mesh = pytest.importorskip("torch.distributed.device_mesh").init_device_mesh
    tokens, heads, groups, width = 64, 4, 2, 32

    class Kernel(torch.autograd.Function):  # type: ignore[misc, name-defined, unused-ignore]
        """Keeps and makes what FlexAttentionAutogradOp of torch does, the mask apart."""

        @staticmethod
        def forward(ctx: Any, query: Any, key: Any, value: Any) -> Any:
            out, rows = torch.empty_like(query), query.new_empty(query.shape[:3], dtype=torch.float32)
            ctx.save_for_backward(query, key, value, out, rows)
            return out

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])

    class Attention(api.FlexAttention):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

        def forward(self, query: Any, key: Any, value: Any) -> Any:
            return Kernel.apply(query, key, value)

    torch.distributed.init_process_group("fake", store=fake.FakeStore(), rank=0, world_size=ranks)
    try:
        attention = Attention()
        api.apply_cp_to_forward([attention], init_device_mesh("cpu", (ranks,)))
        made = [torch.zeros(1, tokens, count, width, dtype=torch.bfloat16) for count in (heads, groups, groups)]
        query, key, value = (tensor.requires_grad_() for tensor in made)
        gradient = torch.zeros(1, tokens, heads, width, dtype=torch.bfloat16)
        live = Live()
        with live.mode:
            live.part = "forward"
            out = attention.forward(query, key, value)
            gc.collect()
            live.part = "kept"
            torch.zeros(1)
            live.part = "backward"
            out.backward(gradient)
    finally:
        torch.distributed.destroy_process_group()
    both, one = 2 * 2 * groups * width, 2 * heads * width
    own = 2 * one + both + 4 * heads  # queries, output, keys and values, log-sum-exp
    assert live.peaks["kept"] / tokens == pytest.approx(own + ranks * both, abs=1)
    # Gradients of queries, and of all keys and values; the output's comes from outside and is met by no operation.
    assert live.peaks["backward"] / tokens == pytest.approx(own + one + 2 * ranks * both, abs=1)
