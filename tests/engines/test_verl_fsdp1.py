"""FSDP of the first kind as verl wraps a network: bytes of its tensors, counted on a CPU, and what a rank holds.

verl's own `_build_fsdp_module`, `forward_backward_batch`'s contexts and `get_per_tensor_param` over torch's FSDP1 and a
process group that only says it is there; its settings are those of our launch file, composed by Hydra.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from drawn import PLANS, catalog, words_of, written
from test_rank_parameters import counted, on_meta, ranks
from test_refused_layouts import verl_said

from planner.schema.engine import configured

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]
RANKS = 8
VOCABULARY, HIDDEN, LAYERS = 4_096, 128, 5
LOADS = {"model_type": "language_model", "trust_remote_code": False, "use_liger": False, "fused_kernel_options": None,
         "use_fused_kernels": False, "enable_gradient_checkpointing": False, "lora_rank": 8, "lora_alpha": 16,
         "target_modules": "all-linear", "target_parameters": None, "exclude_modules": None}  # fmt: skip
"""What verl's own settings of a model say of loading it."""


def told() -> Any:
    """verl's settings of FSDP by a launch file of the engine."""
    _, files = next(iter(written("verl-fsdp1", "verl", PLANS)))
    dataclass = pytest.importorskip("verl.utils.config").omega_conf_to_dataclass
    return dataclass(verl_said(words_of(files["plan.sh"])[0]).actor_rollout_ref.actor.fsdp_config)


@contextmanager
def engine(settings: Any, mesh: Any) -> Iterator[Any]:
    """verl's engine, as far as it wraps a network; weights start on the CPU, where ranks have nothing to exchange."""
    made = pytest.importorskip("verl.workers.engine.fsdp.transformer_impl")
    torch = pytest.importorskip("torch")
    own = made.FSDP

    class OnCpu(own):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, sync_module_states: bool, device_id: Any, **more: Any) -> None:
            super().__init__(*args, device_id=torch.device("cpu"), **more)

    kind = SimpleNamespace(model_type="")
    model = SimpleNamespace(lora_rank=0, enable_activation_offload=False, lora={}, hf_config=kind)
    one = made.FSDPEngine.__new__(made.FSDPEngine)
    one.engine_config, one.model_config, one.device_mesh = settings, model, mesh
    one._uses_fsdp2_cpu_offload_policy = one._is_offload_param = one._qat_enabled = False
    with (
        mock.patch.object(made, "FSDP", OnCpu),
        mock.patch.object(made, "get_device_id", return_value="cpu"),
        mock.patch.object(made, "load_fsdp_model_to_gpu"),
        mock.patch.object(made, "log_gpu_memory_usage"),
    ):
        yield one


def mesh_of(world: int, size: int) -> Any:
    meshes = pytest.importorskip("verl.workers.engine.fsdp.utils")
    with mock.patch.object(meshes, "get_device_name", return_value="cpu"):
        return meshes.create_device_mesh(world, size)


def network() -> Any:
    models = pytest.importorskip("transformers")
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": HIDDEN // 4}
    wide = {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": 3 * HIDDEN}
    config = models.Qwen3Config(num_hidden_layers=LAYERS, tie_word_embeddings=False, use_cache=False, **heads, **wide)
    return models.Qwen3ForCausalLM(config)


class Live:
    """Bytes of all tensors that are there, at the fullest moment of each part of a step."""

    def __init__(self) -> None:
        mode: Any = pytest.importorskip("torch.utils._python_dispatch").TorchDispatchMode
        tree_leaves = pytest.importorskip("torch.utils._pytree").tree_leaves
        outer = self
        self.part, self.peaks = "", Counter[str]()
        self.known: dict[int, Any] = {}

        class Mode(mode):  # type: ignore[misc]
            def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                made = function(*args, **(kwargs or {}))
                for tensor in tree_leaves((made, args)):
                    if hasattr(tensor, "untyped_storage") and not hasattr(tensor, "device_mesh"):
                        storage = tensor.untyped_storage()
                        outer.known[storage._cdata] = weakref.ref(storage)
                outer.look()
                return made

        self.mode = Mode()

    def look(self) -> None:
        there = [storage for each in self.known.values() if (storage := each()) is not None]
        self.known = {storage._cdata: weakref.ref(storage) for storage in there}
        self.peaks[self.part] = max(self.peaks[self.part], sum(storage.nbytes() for storage in there))


def test_what_a_step_holds_is_what_the_engine_file_says() -> None:
    """With one token, so that weights and gradients are nearly all: bytes of layers and of the root unit."""
    torch = pytest.importorskip("torch")
    zero = catalog().find("engines", "verl-fsdp1", None).zero_three
    assert zero is not None
    with ranks(RANKS), engine(told(), mesh_of(RANKS, -1)) as one:
        module = one._build_fsdp_module(network())
        one.module = module
        units = Counter(parameter.numel() * RANKS for parameter in module.parameters())
        layer, root = min(units), max(units)
        assert units == {layer: LAYERS, root: 1}
        whole, table = LAYERS * layer + root, VOCABULARY * HIDDEN
        optimizer = torch.optim.AdamW(module.parameters())
        live, ids = Live(), torch.tensor([[3]])

        def step(*, deferred: bool) -> None:
            for last in (False, True):
                one.engine_config = SimpleNamespace(use_no_sync_for_gradient_accumulation=deferred)
                with one._gradient_sync_context(is_last_micro_batch=last), torch.autocast("cpu", torch.bfloat16):
                    live.part = f"forward {last}"
                    loss = module(input_ids=ids, use_cache=False).logits.float().pow(2).sum()
                    live.part = f"backward {last}"
                    loss.backward()
                    del loss
            live.part = "step"
            optimizer.step()
            optimizer.zero_grad()

        with live.mode:
            step(deferred=False)  # tensors are known once an operation has met them
            live.peaks.clear()
            step(deferred=False)
            plain = Counter(live.peaks)
            live.peaks.clear()
            step(deferred=True)
            waiting = Counter(live.peaks)
            live.peaks.clear()
            live.part = "sent"
            formats = {tensor.dtype for _, tensor in one.get_per_tensor_param()[0]}
            sent = live.peaks["sent"]
    state, slack = 12 * whole / RANKS, 0.02 * whole
    gradients = 4 * whole / RANKS
    # Root gathered, a layer in use and its shard in 16 bits; then the root's gradient beside all others.
    assert plain["forward False"] - state == pytest.approx(2 * root + 2 * layer + 2 * layer / RANKS, abs=slack)
    assert plain["backward False"] - state - gradients == pytest.approx(zero.root_reduced_bytes * root, abs=slack)
    assert plain["backward True"] - state - 2 * gradients <= zero.root_reduced_bytes * root + slack
    # Micro-batches before the last one leave a whole gradient.
    more = waiting["forward True"] - plain["forward True"] + gradients
    assert more == pytest.approx(zero.unreduced_bytes * whole, abs=slack)
    # A copy of every shard, a whole root unit and one more table, all as stored; then tensors one by one.
    assert sent - state == pytest.approx(4 * whole / RANKS + 4 * root + 4 * table, abs=slack)
    assert formats == {torch.float32}


@pytest.mark.parametrize(("said", "option"), [(None, []), ("bfloat16", ["model_in_16bit"]), ("null", [])])
def test_a_frozen_base_is_held_as_it_is_loaded(said: str | None, option: list[str], tmp_path: Path) -> None:
    """A network stored in 16 bits, as verl's own loader, adapters and wrapping leave it on a rank."""
    pytest.importorskip("peft")
    torch = pytest.importorskip("torch")
    states = configured(catalog().find("engines", "verl-fsdp1", None), option).states
    network().to(torch.bfloat16).save_pretrained(tmp_path)
    settings = told() if said is None else dataclasses.replace(told(), model_dtype=None if said == "null" else said)
    with ranks(RANKS), engine(settings, mesh_of(RANKS, -1)) as one:
        config = pytest.importorskip("transformers").AutoConfig.from_pretrained(tmp_path)
        for name, value in {"local_path": str(tmp_path), "hf_config": config, **LOADS}.items():
            setattr(one.model_config, name, value)
        one.use_remove_padding, one.ulysses_sequence_parallel_size = False, 1
        module = one._build_fsdp_module(one._build_lora_module(one._build_module()))
        held = [(p.requires_grad, p.numel() * RANKS, p.dtype.itemsize) for p in module.parameters()]
    frozen, tuned = (sum(many * each for trains, many, each in held if trains == which) for which in (False, True))
    base = sum(parameter.numel() for parameter in network().parameters())
    assert states.frozen_base == states.adapters == "as weights"
    each = 2 if states.weight_bytes == "precision" else states.weight_bytes
    assert frozen == pytest.approx(each * base, rel=1e-3)
    assert tuned == each * LAYERS * 8 * (4 * 2 * HIDDEN + 3 * 4 * HIDDEN)


@pytest.mark.parametrize("adapted", [True, False])
def test_fsdp2_brings_its_shard_to_send_adapters_and_gathers_none_of_it(adapted: bool, tmp_path: Path) -> None:
    """verl's own calls: a rank's shard goes to the GPU where adapters are sent alone, and of it only they are whole."""
    pytest.importorskip("peft")
    made = pytest.importorskip("verl.workers.engine.fsdp.transformer_impl")
    stack = catalog().find("engines", "verl-fsdp2", None).colocation
    assert stack is not None
    network().save_pretrained(tmp_path)
    settings = dataclasses.replace(told(), strategy="fsdp2")
    unloaded = mock.patch.object(made, "fsdp2_load_full_state_dict")
    with ranks(RANKS), engine(settings, mesh_of(RANKS, -1)) as one, unloaded:
        config = pytest.importorskip("transformers").AutoConfig.from_pretrained(tmp_path)
        for name, value in {"local_path": str(tmp_path), "hf_config": config, **LOADS}.items():
            setattr(one.model_config, name, value)
        one.use_remove_padding, one.ulysses_sequence_parallel_size = False, 1
        plain = one._build_module()
        one.module = one._build_fsdp_module(one._build_lora_module(plain) if adapted else plain)
        brought = made.load_fsdp_model_to_gpu
        brought.reset_mock()
        live = Live()
        with live.mode:
            sent = dict(one.get_per_tensor_param(base_sync_done=True)[0])
        sizes = {name: tensor.numel() for name, tensor in sent.items()}
    assert brought.called == (adapted and stack.trainer_on_gpu_during_sync == "with adapters")
    assert all("lora_" in name for name in sizes) == adapted
    tuned, base = LAYERS * 8 * (4 * 2 * HIDDEN + 3 * 4 * HIDDEN), sum(p.numel() for p in network().parameters())
    assert sum(sizes.values()) == (tuned if adapted else base)
    # What was there on the way: adapters and a gather of one, or all that is sent and two gathers of a table.
    assert live.peaks[""] < (4 * 1.25 * tuned if adapted else 4 * 1.1 * (base + 2 * VOCABULARY * HIDDEN))


def test_fsdp1_shards_the_parameters_that_the_plan_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """In full depth, with tensors that have no memory; a unit's flat parameter is rounded up to its ranks."""
    fakes = pytest.importorskip("torch._subclasses.fake_tensor")
    equal, unknown = Counter[str](), Counter[str]()
    settings = told()
    for plan, files in written("verl-fsdp1", "verl", PLANS):
        words = dict(word.split("=", 1) for word in words_of(files["plan.sh"])[0])
        size, name = int(words.get("actor_rollout_ref.actor.fsdp_config.fsdp_size", -1)), plan.problem.architecture.id
        with ranks(plan.layout["num_gpus"]):
            mesh = mesh_of(plan.layout["num_gpus"], size)
            with fakes.FakeTensorMode(), engine(settings, mesh) as one:
                try:
                    made = on_meta(name, device="cpu")
                except (ValueError, KeyError, AttributeError, TypeError, NotImplementedError):
                    unknown[name] += 1
                    continue
                parameters = [parameter.numel() for parameter in one._build_fsdp_module(made).parameters()]
        assert 0 <= sum(parameters) - counted(plan, 0) < len(parameters), (name, plan.layout)
        equal[name] += 1
    with capsys.disabled():
        print(f"\nranks with equal parameters: {equal.total()} {dict(equal)}; not built: {dict(unknown)}")
    assert equal
