"""Messages that torch's own fully_shard sends over a mesh of two dimensions: `python -m pytest -m engines`.

One process stands for rank 0 of 32 with a back end that sends nothing; what is asked of it is written down.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from drawn import catalog
from test_verl_fsdp1 import Live

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]
WIDTH = 64


def test_gathers_and_scatters_stay_in_a_node_and_shards_are_added_up_over_nodes() -> None:
    """What tests/costs/test_hybrid_sharding.py expects of the planner: 2, 4 and 4 / 8 bytes a parameter."""
    torch = pytest.importorskip("torch")
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    init_device_mesh = pytest.importorskip("torch.distributed.device_mesh").init_device_mesh
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    mode = pytest.importorskip("torch.utils._python_dispatch").TorchDispatchMode
    tree_flatten = pytest.importorskip("torch.utils._pytree").tree_flatten

    sent: list[tuple[str, list[int]]] = []

    class Listening(mode):  # type: ignore[misc, valid-type, unused-ignore]
        """Bytes of the tensors of each collective."""

        def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if op._schema.name.startswith("c10d::"):
                tensors = [one for one in tree_flatten(args)[0] if isinstance(one, torch.Tensor)]
                sent.append((op._schema.name, sorted(t.numel() * t.element_size() for t in tensors)))
            return op(*args, **(kwargs or {}))

    torch.distributed.init_process_group("fake", store=fake.FakeStore(), rank=0, world_size=32)
    try:
        mesh = init_device_mesh("cpu", (4, 8), mesh_dim_names=("replicate", "shard"))
        layer = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        model = torch.nn.Sequential(layer)
        policy = fsdp.MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        fsdp.fully_shard(layer, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
        fsdp.fully_shard(model, mesh=mesh, mp_policy=policy)
        with Listening():
            model(torch.randn(2, WIDTH)).float().sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    parameters = WIDTH**2
    assert sent == [
        ("c10d::_allgather_base_", [2 * parameters // 8, 2 * parameters]),
        ("c10d::_allgather_base_", [2 * parameters // 8, 2 * parameters]),
        ("c10d::_reduce_scatter_base_", [4 * parameters // 8, 4 * parameters]),
        ("c10d::allreduce_", [4 * parameters // 8]),
    ]


def test_a_policys_format_is_what_is_sent_and_what_waits() -> None:
    """Bytes a parameter of a unit at the fullest moment, of 16 bits by accelerate's own plugin and of fp32.

    Two units are gathered, 2 B each, one has its gradients, 2 B, and what the one before it sent waits beside them.
    """
    torch = pytest.importorskip("torch")
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    init_device_mesh = pytest.importorskip("torch.distributed.device_mesh").init_device_mesh
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    plugin = pytest.importorskip("accelerate").FullyShardedDataParallelPlugin(fsdp_version=2)
    plugin.set_mixed_precision("bf16")
    fp32 = fsdp.MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    ranks = 4 * WIDTH
    for policy, sent in ((plugin.mixed_precision_policy, 2), (fp32, 4)):
        torch.distributed.init_process_group("fake", store=fake.FakeStore(), rank=0, world_size=ranks)
        try:
            mesh = init_device_mesh("cpu", (ranks,))
            layers = [torch.nn.Linear(ranks, ranks, bias=False) for _ in range(6)]
            model = torch.nn.Sequential(*layers)
            for unit in (*layers, model):
                fsdp.fully_shard(unit, mesh=mesh, mp_policy=policy)
            live = Live()
            with live.mode:
                for _ in range(2):  # tensors are known once an operation has met them
                    live.peaks.clear()
                    model(torch.randn(1, ranks)).float().sum().backward()
        finally:
            torch.distributed.destroy_process_group()
        held = max(live.peaks.values()) / ranks**2
        assert held == pytest.approx(2 + 2 + 2 + sent, abs=0.25), (policy, held)  # shards are 6 x 8 / ranks


def test_fsdp1s_shards_on_the_host_have_buffers_for_gradients_that_wait_on_the_gpu() -> None:
    """Two frozen layers, two trained ones: each shard is pinned twice, and a reduced gradient stays to the end."""
    torch = pytest.importorskip("torch")
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    runtime = pytest.importorskip("torch.distributed.fsdp._runtime_utils")
    wrap = pytest.importorskip("torch.distributed.fsdp.wrap").ModuleWrapPolicy
    pinned, stayed = list[int](), list[int]()

    def pin(tensor: Any) -> Any:
        pinned.append(tensor.numel())
        return tensor.clone()

    def waiting(module: Any) -> int:
        handles = runtime.traversal_utils._get_fsdp_handles(module)
        return sum(hasattr(handle.flat_param, "_saved_grad_shard") for handle in handles)

    offload = runtime._offload_grad

    def look(*words: Any) -> None:
        offload(*words)
        stayed.append(waiting(model))

    torch.distributed.init_process_group("fake", store=fake.FakeStore(), rank=0, world_size=4)
    try:
        layers = [torch.nn.Linear(WIDTH, WIDTH, bias=False, dtype=torch.bfloat16) for _ in range(4)]
        for layer in layers[:2]:
            layer.weight.requires_grad_(False)
        with (
            mock.patch.object(torch.Tensor, "pin_memory", pin),
            mock.patch.object(torch.cpu.Stream, "synchronize", return_value=None, create=True),
            mock.patch.object(runtime, "_offload_grad", look),
        ):
            model = fsdp.FullyShardedDataParallel(
                torch.nn.Sequential(*layers),
                cpu_offload=fsdp.CPUOffload(offload_params=True),
                auto_wrap_policy=wrap({torch.nn.Linear}),
                device_id=torch.device("cpu"),
            )
            model(torch.randn(2, WIDTH, dtype=torch.bfloat16)).float().sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert pinned == [WIDTH**2 // 4] * 8
    assert stayed == [1, 2]
    assert waiting(model) == 0


@pytest.mark.parametrize(("chunks", "once"), [(1, True), (2, True), (3, True), (4, False)])
def test_a_pipelines_stage_is_gathered_once_a_step(chunks: int, once: bool) -> None:
    """torch's own schedules over chunks that are not resharded after their forward pass, as torchtitan cuts them."""
    torch = pytest.importorskip("torch")
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    init_device_mesh = pytest.importorskip("torch.distributed.device_mesh").init_device_mesh
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    piped = pytest.importorskip("torch.distributed.pipelining")
    mode = pytest.importorskip("torch.utils._python_dispatch").TorchDispatchMode
    sent: list[str] = []

    class Listening(mode):  # type: ignore[misc, valid-type, unused-ignore]
        def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if op._schema.name.startswith("c10d::"):
                sent.append(op._schema.name.removeprefix("c10d::"))
            return op(*args, **(kwargs or {}))

    torch.distributed.init_process_group("fake", store=fake.FakeStore(), rank=0, world_size=8)
    try:
        mesh = init_device_mesh("cpu", (1, 8), mesh_dim_names=("pp", "dp"))
        fp32 = fsdp.MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        stages = []
        for index in range(chunks):
            layers = [torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2)]
            module = torch.nn.Sequential(*layers)
            for unit in (*layers, module):
                fsdp.fully_shard(unit, mesh=mesh["dp"], mp_policy=fp32, reshard_after_forward=False)
            group = mesh.get_group("pp")
            stages.append(piped.PipelineStage(module, index, chunks, torch.device("cpu"), group=group))
        kind = piped.Schedule1F1B if chunks == 1 else piped.ScheduleInterleaved1F1B
        schedule = kind(
            stages[0] if chunks == 1 else stages, 4, loss_fn=lambda out, target: (out.float() - target).pow(2).sum()
        )
        batch, target = torch.randn(4, WIDTH, dtype=torch.bfloat16), torch.randn(4, WIDTH)
        schedule.step(batch, target=target)  # the first one also asks for shapes
        with Listening():
            schedule.step(batch, target=target)
    finally:
        torch.distributed.destroy_process_group()
    gathers = sent.count("_allgather_base_")
    assert sent.count("_reduce_scatter_base_") == 2 * chunks
    if once:
        assert sent == ["_allgather_base_"] * 2 * chunks + ["_reduce_scatter_base_"] * 2 * chunks
    else:  # three of the four lie gathered at once
        assert gathers > 2 * chunks


def test_scales_of_four_bits_are_whole_on_each_rank() -> None:
    """bitsandbytes' own layer under FSDP1: half a byte a weight is cut, what its module keeps beside it is not."""
    torch = pytest.importorskip("torch")
    layers = pytest.importorskip("bitsandbytes").nn
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    wrap = pytest.importorskip("torch.distributed.fsdp.wrap").ModuleWrapPolicy
    wide, ranks = 8 * WIDTH, 4
    torch.distributed.init_process_group("fake", store=fake.FakeStore(), rank=0, world_size=ranks)
    try:
        words = {"compute_dtype": torch.bfloat16, "quant_type": "nf4", "quant_storage": torch.bfloat16}
        layer = layers.Linear4bit(wide, wide, bias=False, compress_statistics=True, **words)
        model = torch.nn.Sequential(layer).to("cpu")
        layer.weight.requires_grad_(False)
        sharded = fsdp.FullyShardedDataParallel(
            model, auto_wrap_policy=wrap({layers.Linear4bit}), device_id=torch.device("cpu")
        )
        cut = sum(one.numel() * one.element_size() for one in sharded.parameters())
        found = next(one for one in sharded.modules() if isinstance(one, layers.Linear4bit)).quant_state
        whole = sum(one.absmax.numel() * one.absmax.element_size() for one in (found, found.state2))
    finally:
        torch.distributed.destroy_process_group()
    assert cut == wide**2 / 2 / ranks
    scales = catalog().find("precisions", "nf4", None).scales_bytes
    assert whole / wide**2 == pytest.approx(scales, rel=1e-3)
