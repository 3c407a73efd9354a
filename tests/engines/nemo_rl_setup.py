"""NeMo-RL's own start of a run, without Ray and GPUs: its configuration classes and `setup` up to the workers."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import os
import sys
import typing
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from drawn import Anything

ABSENT = (
    "zmq", "pynvml", "modelopt", "uvicorn", "fastapi", "mlflow", "swanlab", "wandb", "matplotlib",
    "prometheus_client", "soundfile", "scipy", "megatron.bridge", "nemo_automodel",
)  # fmt: skip
"""Packages of its containers that check nothing of a configuration: they stand in where they are not installed."""


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what is not installed, last of all finders."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        known = any(name == each or name.startswith(f"{each}.") for each in ABSENT)
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec: Any) -> ModuleType:
        return Anything(spec.name)

    def exec_module(self, module: ModuleType) -> None: ...


@cache
def package(root: Path) -> SimpleNamespace:
    """Its modules of GRPO, of the policy, of vLLM, of generation and of Megatron's settings, from a checkout.

    It pins an older transformers by name (models/policy/__init__.py:52), whose number is said while it is imported, and
    is written for Python 3.12, whose TypedDict pydantic wants from typing_extensions before.
    """
    for needed in ("ray", "pydantic", "torchdata", "omegaconf", "megatron.core"):
        pytest.importorskip(needed)
    # The first name asked of it makes the module anew, with its own number.
    assert pytest.importorskip("transformers").AutoProcessor
    transformers = sys.modules["transformers"]
    dictionaries = pytest.importorskip("typing_extensions").TypedDict
    sys.path.insert(0, str(root))
    sys.meta_path.append(Absent())
    with (
        mock.patch.object(transformers, "__version__", "5.8.0"),
        mock.patch.object(typing, "TypedDict", dictionaries),
    ):
        names = {
            "grpo": "algorithms.grpo", "ppo": "algorithms.ppo",
            "policy": "models.policy.lm_policy", "generation": "models.generation",
            "vllm": "models.generation.vllm.vllm_generation", "cluster": "distributed.virtual_cluster",
            "batches": "distributed.batched_data_dict", "megatron": "models.megatron.setup",
        }  # fmt: skip
        own = SimpleNamespace(**{name: importlib.import_module(f"nemo_rl.{path}") for name, path in names.items()})
    for kind in (own.policy.Policy, own.vllm.VllmGeneration, own.cluster.RayVirtualCluster):
        kind.shutdown = lambda self: True  # nothing was started
    return own


class Workers:
    """Stands for RayWorkerGroup: the ranks that it would start."""

    def __init__(self, cluster: Any, builder: Any, sharding_annotations: Any, **other: Any) -> None:
        self.dp_size = sharding_annotations.get_axis_size("data_parallel")
        self.groups = other.get("bundle_indices_list")


def _placed(cluster: Any, strategy: str, use_unified_pg: bool = False) -> list[Any]:
    """Placement groups that a Ray cluster of just these nodes would give."""
    counts = cluster._bundle_ct_per_node_list
    groups = [sum(counts)] if use_unified_pg else counts
    cluster.of_bundle = dict(enumerate(node for node, count in enumerate(counts) for _ in range(count)))
    return [SimpleNamespace(bundle_count=n, bundle_specs=[{}] * n, of_bundle=cluster.of_bundle) for n in groups]


class Started(Exception):
    """Both parts have their workers."""


@contextmanager
def _without_ray(own: SimpleNamespace, made: dict[str, Any]) -> Iterator[None]:
    """Everything of NeMo-RL but what asks Ray, a disk or the network; `made` gets the two parts."""
    nothing = mock.MagicMock()
    nothing.get_latest_checkpoint_path.return_value = nothing.load_training_info.return_value = None
    nothing.get_resume_paths.return_value = None, None
    first = own.vllm.VllmGeneration.__init__

    def generation(self: Any, *args: Any, **kwargs: Any) -> None:
        first(self, *args, **kwargs)
        made["generation"], made["generates_on"] = self, kwargs["cluster"]

    def started(self: Any) -> None:
        made["policy"] = self
        raise Started

    cluster, vllm = own.cluster.RayVirtualCluster, own.vllm.VllmGeneration
    unknown = mock.Mock(side_effect=ValueError("no network"))
    table = {"placement_group_table": lambda group: {"bundles_to_node_id": group.of_bundle}}
    with ExitStack() as stack:
        put = stack.enter_context
        put(mock.patch.dict(os.environ, {"TORCH_CUDA_ARCH_LIST": "9.0"}))
        put(mock.patch.multiple(own.grpo, Logger=mock.MagicMock(), CheckpointManager=lambda _: nothing))
        workers = {"RayWorkerBuilder": mock.MagicMock(), "RayWorkerGroup": Workers}
        put(mock.patch.multiple(own.policy, RayQueue=mock.MagicMock(), get_default_hf_config=unknown, **workers))
        put(mock.patch.multiple(own.vllm, **workers))
        put(mock.patch.multiple(vllm, __init__=generation, _post_init=nothing, _report_device_id=nothing))
        put(mock.patch.multiple(vllm, _report_dp_openai_server_base_urls=nothing, finish_generation=nothing))
        put(mock.patch.multiple(cluster, _create_placement_groups_internal=_placed))
        put(mock.patch.object(cluster, "_get_sorted_bundle_indices", lambda self: list(range(self.world_size()))))
        put(mock.patch.multiple("ray.util", **table))
        put(mock.patch.object(own.policy.Policy, "print_node_ip_and_gpu_id", started))
        yield


def set_up(own: SimpleNamespace, keys: dict[str, Any]) -> dict[str, Any]:
    """{policy, generation, generates_on, config} of a whole configuration, as examples/run_grpo.py comes to them.

    Raises what NeMo-RL raises: its classes' errors of validation, assertions, ValueError.
    """
    config = own.grpo.MasterConfig(**keys)
    tokenizer = mock.MagicMock(pad_token_id=0, eos_token_id=1)
    config.policy["generation"] = own.generation.configure_generation_config(
        config.policy["generation"], tokenizer, has_refit_draft_weights=bool(config.policy["draft"]["enabled"])
    )
    made: dict[str, Any] = {"config": config}
    data = list(range(config.grpo.num_prompts_per_step))
    with _without_ray(own, made), pytest.raises(Started):
        own.grpo.setup(config, tokenizer, data, data)
    return made


def samples(own: SimpleNamespace, number: int, tokens: int) -> Any:
    """Samples of one length, all that a shard asks of them."""
    torch = pytest.importorskip("torch")
    empty = torch.zeros(number, 1, dtype=torch.int64)
    return own.batches.BatchedDataDict({"input_ids": empty, "input_lengths": torch.full((number,), tokens)})


def megatron_settings(own: SimpleNamespace, policy: dict[str, Any], model: Any) -> None:
    """Its own assignments to a model's configuration and its checks of the rest (models/megatron/setup.py)."""
    torch = pytest.importorskip("torch")
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[policy["precision"]]
    megatron = own.megatron
    megatron._apply_parallelism_config(model, policy)
    megatron._apply_moe_config(model, policy)
    megatron._apply_precision_config(model, policy, dtype)
    megatron._apply_performance_config(model, policy)
    megatron._validate_optimizer_config(policy)
    megatron._validate_chunking_config(policy)
    megatron._validate_training_config(policy, model)
    megatron._validate_dtype_config(dtype, model, SimpleNamespace(**policy["megatron_cfg"]["optimizer"]))
