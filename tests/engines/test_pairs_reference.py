"""TRL's own wrapping of a DPO reference on two ranks of a CPU: what lies gathered while it runs, and what stays."""

from __future__ import annotations

import functools
import gc
import os
import socket
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.engines
LAYERS, HIDDEN, WORDS = 6, 256, 1000


def _alive(torch: Any) -> int:
    """Bytes of all storages that some tensor of this process holds."""
    seen: dict[int, int] = {}
    for found in gc.get_objects():
        if issubclass(type(found), torch.Tensor):
            try:
                storage = found.untyped_storage()
            except (RuntimeError, NotImplementedError):
                continue  # a tensor without one of its own
            seen[storage._cdata] = storage.nbytes()
    return sum(seen.values())


def _work(rank: int, version: int, port: int, folder: str) -> None:
    torch, dist, fsdp = (import_module(name) for name in ("torch", "torch.distributed", "torch.distributed.fsdp"))
    by_layer = import_module("torch.distributed.fsdp.wrap").transformer_auto_wrap_policy
    prepare_fsdp = import_module("trl.models.utils").prepare_fsdp
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    dist.init_process_group("gloo", rank=rank, world_size=2)

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(HIDDEN, HIDDEN, bias=False)

        def forward(self, hidden: Any) -> Any:
            return self.inner(hidden)

    layers = [Layer() for _ in range(LAYERS)]
    network: Any = torch.nn.Sequential(torch.nn.Embedding(WORDS, HIDDEN), *layers)
    half = torch.bfloat16
    policy = fsdp.MixedPrecisionPolicy(param_dtype=half) if version == 2 else fsdp.MixedPrecision(half, half)
    plugin = SimpleNamespace(
        fsdp_version=version, cpu_offload=None, ignored_modules=None, reshard_after_forward=True,
        mixed_precision_policy=policy,
        set_auto_wrap_policy=lambda model: None, sharding_strategy=None, sync_module_states=False,
        auto_wrap_policy=functools.partial(by_layer, transformer_layer_cls={Layer}),
        backward_prefetch=None, forward_prefetch=False, use_orig_params=True, param_init_fn=None,
        limit_all_gathers=True,
    )  # fmt: skip
    if version == 1:
        plugin.sharding_strategy = fsdp.ShardingStrategy.FULL_SHARD
    device = torch.device("cpu")
    network = prepare_fsdp(
        network, SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin), torch_device_mesh=None, device=device)
    )
    ids, during = torch.zeros(1, 2, dtype=torch.long), list[int]()
    before = _alive(torch)
    for layer in layers:
        layer.register_forward_hook(lambda *_: during.append(_alive(torch) - before))
    with torch.no_grad():
        network(ids)
    (Path(folder) / f"{rank}").write_text(f"{max(during)} {_alive(torch) - before}", encoding="utf-8")
    dist.destroy_process_group()


@pytest.mark.parametrize("version", [1, 2])
def test_what_of_a_reference_lies_gathered(version: int, tmp_path: Path) -> None:
    """FSDP2: all of it twice while it runs, nothing after. FSDP1: layer by layer, and its root unit stays."""
    pytest.importorskip("trl")
    torch = pytest.importorskip("torch")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_work, args=(version, port, str(tmp_path)), nprocs=2)
    during, after = map(int, (tmp_path / "0").read_text(encoding="utf-8").split())
    root, layer = 2 * WORDS * HIDDEN, 2 * HIDDEN**2  # in 16 bits [bytes]
    slack = 0.01 * root  # activations of two tokens
    if version == 2:
        assert during == pytest.approx(2 * (root + LAYERS * layer), abs=slack)
        assert after == pytest.approx(0, abs=slack)
    else:
        assert root + layer - slack < during < root + 3 * layer + slack
        assert after == pytest.approx(root, abs=slack)
