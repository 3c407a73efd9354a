"""Parameters of a rank: the engines' own modules on the meta device, over ranks only said to be there, against ours.

The plan says how many bytes of weights lie on a rank; the engine's arguments, process groups and builders of models say
how many parameters they make there.
"""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import drawn
import pytest
from drawn import PLANS, words_of, written
from megatron_model import built
from test_parsers import OF_THE_USER, megatron
from torchtitan_trainer import FUNCTIONS, parts

from planner.analysis.check.check import stage_of
from planner.costs.item_names import ItemName
from planner.formulas.parameters import count_parameters
from planner.problem.copies import copies_of
from planner.search.plan import Plan
from planner.units import GIB

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]
AUTOGRAD = Path(__file__).resolve().parents[2] / "validation" / "autograd"
MOST_EXPERTS = 1200
"""Experts of one rank, over its layers: each is two modules of Python, and thousands take a minute to build."""


def counted(plan: Plan, stage: int) -> float:
    """Parameters of a rank, from the bytes of weights in its ledger."""
    found = {
        round(item.amount * GIB / plan.problem.weight_bytes, 3)
        for phase in plan.memory
        if phase.stage == stage
        for item in phase.items
        if item.name == ItemName.WEIGHTS
    }
    assert len(found) == 1, found
    return found.pop()


def test_megatron_builds_the_parameters_that_the_plan_counts(capsys: pytest.CaptureFixture[str]) -> None:
    arguments, rng = megatron(), random.Random(7)
    equal, left, different = Counter[str](), Counter[str](), []
    for plan, files in written("megatron-core", "megatron", PLANS):
        lay, network = plan.layout, plan.problem.architecture
        fused = network.is_mla and not network.q_lora_rank  # a norm that Transformer Engine's layers alone can hold
        if fused or (network.num_experts or 0) // lay["expert_parallel"] * max(plan.layers) > MOST_EXPERTS:
            left[network.id] += 1
            continue
        words, exports = words_of(files["plan.sh"])
        world = {"WORLD_SIZE": str(lay["num_gpus"]), "RANK": "0", "LOCAL_RANK": "0", **exports}
        with mock.patch.dict(os.environ, world), mock.patch.object(sys, "argv", ["x", *words, *OF_THE_USER]):
            args = arguments.parse_args()
            args = arguments.validate_args(args) or args
            for stage in range(lay["pipeline_parallel"]):
                rank = rng.choice([rank for rank in range(lay["num_gpus"]) if stage_of(rank, plan) == stage])
                made, wanted = built(arguments, args, rank), counted(plan, stage)
                equal[network.id] += made == wanted
                if made != wanted:
                    different.append((network.id, lay, plan.layers, stage, made, wanted))
    with capsys.disabled():
        print(f"\nranks with equal parameters: {equal.total()} {dict(equal)}; different: {len(different)}")
        print(f"plans left out, for the number of their experts or a norm of Transformer Engine's: {dict(left)}")
    assert not different, different[0]


def test_torchtitan_builds_the_parameters_that_the_plan_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """Its trainer builds and cuts the modules; the data ranks that share them are divided out as FSDP2 shards."""
    pytest.importorskip("torchtitan")
    equal, different, rng = Counter[str](), [], random.Random(8)
    with mock.patch.object(drawn, "MODELS", tuple(FUNCTIONS)):
        found = list(written("torchtitan", "torchtitan", PLANS))
    for plan, files in found:
        lay, name = plan.layout, plan.problem.architecture.id
        rank = rng.randrange(lay["num_gpus"])
        with capsys.disabled():
            modules = parts(words_of(files["plan.sh"])[0], name, lay["num_gpus"], rank)
        sizes = Counter[bool]()
        for module in modules:
            if module.enable_weight_tying:  # as Decoder.init_states does next: cutting made two of one
                module.tok_embeddings.weight = module.lm_head.weight
            for called, weight in module.named_parameters():
                sizes["routed_experts" in called] += weight.numel()
        shards = lay["data_parallel"] * lay["context_parallel"] // copies_of(plan.problem, lay)
        apart = lay["expert_parallel"] > 1
        sharing = shards * lay["tensor_parallel"] // lay["expert_parallel"] if apart else shards
        made, wanted = sizes[False] / shards + sizes[True] / sharing, counted(plan, stage_of(rank, plan))
        equal[name] += abs(made - wanted) < 0.5
        if abs(made - wanted) >= 0.5:
            different.append((name, lay, rank, made, wanted))
    with capsys.disabled():
        print(f"\nranks with equal parameters: {equal.total()} {dict(equal)}; different: {len(different)}")
    assert not different, different[0]


def on_meta(name: str, device: str = "meta") -> Any:
    """A network of the catalog in full depth on the meta device, as the engines of the Hugging Face family load it.

    Raises ValueError and its like for networks that transformers has no class for.
    """
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("transformers").AutoModelForCausalLM
    with mock.patch.object(sys, "path", [str(AUTOGRAD), *sys.path]):
        networks = pytest.importorskip("networks")
    network = drawn.catalog().find("models", name, None)
    layers = network.num_hidden_layers
    config = networks.configuration(network, layers=layers, moe_layer=network.is_moe, dropout=False)
    if network.learned_positions:
        config.n_positions = network.learned_positions
    leading = network.first_k_dense_replace
    config.first_k_dense_replace = leading
    config.mlp_layer_types = ["dense"] * leading + ["sparse"] * (layers - leading)
    config._attn_implementation = "eager"
    with torch.device(device):
        return models.from_config(config)


@contextmanager
def ranks(number: int) -> Iterator[None]:
    """The first of so many ranks that are only said to be there: where parts are uneven, it holds the larger one."""
    dist = pytest.importorskip("torch.distributed")
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    dist.init_process_group("fake", store=fake.FakeStore(), rank=0, world_size=number)
    try:
        yield
    finally:
        dist.destroy_process_group()


class Shards:
    """Compares what the first rank holds of plans with what their ledgers count."""

    def __init__(self) -> None:
        self.equal, self.uneven, self.unknown = Counter[str](), Counter[str](), Counter[str]()

    def ask(self, plan: Plan, shard: Callable[[Any], Any]) -> None:
        """Equal, or above it by at most a row of each matrix that ranks do not divide; unknown networks are told."""
        lay, name = plan.layout, plan.problem.architecture.id
        if plan.problem.weights_on_host:
            self.unknown["weights on the host"] += 1
            return
        try:
            network = on_meta(name)
        except (ValueError, KeyError, AttributeError, TypeError, NotImplementedError):
            self.unknown[name] += 1
            return
        with ranks(lay["num_gpus"]):
            parameters = list(shard(network).parameters())
        made, wanted = sum(weight.to_local().numel() for weight in parameters), counted(plan, 0)
        row = sum(
            weight.numel() // weight.shape[0] for weight in parameters if weight.shape[0] % weight.device_mesh.size(-1)
        )
        assert -0.5 < made - wanted <= row + 0.5, (name, lay, made, wanted, row)
        self.equal[name] += abs(made - wanted) <= 0.5
        self.uneven[name] += made - wanted > 0.5

    def say(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The counts."""
        with capsys.disabled():
            print(f"\nranks with equal parameters: {self.equal.total()} {dict(self.equal)}; above by less than a row")
            print(f"of each matrix: {self.uneven.total()} {dict(self.uneven)}; not built: {dict(self.unknown)}")
        assert self.equal


def test_accelerate_shards_the_parameters_that_the_plan_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own launcher's variables, its plugin of FSDP made from them, and its fsdp2_prepare_model."""
    command = pytest.importorskip("accelerate.commands.launch")
    launching = pytest.importorskip("accelerate.utils.launch")
    from accelerate import FullyShardedDataParallelPlugin, ParallelismConfig
    from accelerate.utils import fsdp_utils

    seen = Shards()
    for plan, files in written("fsdp2", "accelerate", PLANS):
        (tmp_path / "accelerate.yaml").write_text(files["accelerate.yaml"])
        args = command.launch_command_parser().parse_args(["--config_file", str(tmp_path / "accelerate.yaml"), "x.py"])
        args, *_ = command._validate_launch_command(args)
        variables = launching.prepare_multi_gpu_env(args)
        with mock.patch.dict(os.environ, variables):
            plugin = FullyShardedDataParallelPlugin()
            copies = ParallelismConfig() if variables.get("ACCELERATE_USE_PARALLELISM_CONFIG") == "true" else None
        plugin.cpu_ram_efficient_loading = False  # it hands weights out, of which there are none
        state, cast = SimpleNamespace(fsdp_plugin=plugin), args.mixed_precision
        told = SimpleNamespace(state=state, mixed_precision=cast, is_main_process=False, parallelism_config=copies)

        def shard(network: Any, told: Any = told) -> Any:
            own = told.parallelism_config
            told.torch_device_mesh = own.build_device_mesh("cpu") if own is not None else None
            return fsdp_utils.fsdp2_prepare_model(told, network)

        seen.ask(plan, shard)
    seen.say(capsys)


def test_verl_shards_the_parameters_that_the_plan_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """Its own apply_fsdp2 over its mesh of `fsdp_size`, as workers/engine/fsdp/transformer_impl.py:465-472 calls it."""
    own = pytest.importorskip("verl.utils.fsdp_utils")
    meshes = pytest.importorskip("verl.workers.engine.fsdp.utils")
    seen = Shards()
    for plan, files in written("verl-fsdp2", "verl", PLANS):
        words = dict(word.split("=", 1) for word in words_of(files["plan.sh"])[0])
        size, world = int(words.get("actor_rollout_ref.actor.fsdp_config.fsdp_size", -1)), plan.layout["num_gpus"]

        def shard(network: Any, world: int = world, size: int = size) -> Any:
            with mock.patch.object(meshes, "get_device_name", return_value="cpu"):
                own.apply_fsdp2(network, {"mesh": meshes.create_device_mesh(world, size)}, {})
            return network

        seen.ask(plan, shard)
    seen.say(capsys)


def test_transformers_builds_the_parameters_that_the_catalog_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """Every network of the catalog."""
    equal, unknown, different = 0, [], []
    for name in drawn.catalog().ids("models"):
        try:
            made = on_meta(name)
        except (ValueError, KeyError, AttributeError, TypeError, NotImplementedError) as error:
            unknown.append(f"{name}: {type(error).__name__} {str(error)[:60]}")
            continue
        count = sum(weight.numel() for weight in made.parameters())
        wanted = count_parameters(drawn.catalog().find("models", name, None)).total
        equal += count == wanted
        if count != wanted:
            different.append((name, count, wanted, count - wanted))
    with capsys.disabled():
        print(f"\nnetworks with equal parameters: {equal}; different: {different}; not built: {unknown}")
    assert not different
