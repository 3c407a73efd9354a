"""Trainers of the Hugging Face family by their own parsers on every plan: `python -m pytest -m engines`."""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from drawn import PLANS, catalog, plans_of_pairs, written

from planner.inputs.document import parse_document
from planner.launch.registry import engines_of
from planner.search.plan import Plan

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]


def keys_of(files: dict[str, str], name: str, folder: Path) -> dict[str, Any]:
    """Settings of one file as its reader gets them; files that it names are beside it."""
    for file, text in files.items():
        (folder / file).write_text(text)
    keys = dict(parse_document(files[name], name).data)
    if "deepspeed" in keys:
        keys["deepspeed"] = str(folder / keys["deepspeed"])
    return keys


def casts(plan: Plan) -> str:
    """What a Trainer must be told to compute in: nothing where weights in 16 bits are used as they are."""
    sharded = {1, 2, 3} & set(plan.problem.engine.zero_stages)
    precision = plan.problem.precision.id
    return precision if precision != "fp32" and (sharded or plan.problem.engine.autocast) else "no"


def agrees(arguments: Any, plan: Plan) -> None:
    """What TrainingArguments, or a class made from them, hold is the plan's."""
    lay = plan.layout
    assert arguments.per_device_train_batch_size == lay["micro_batch_size"]
    assert arguments.gradient_accumulation_steps == lay["num_micro_batches"]
    assert (arguments.bf16 is True, arguments.fp16) == (casts(plan) == "bf16", casts(plan) == "fp16")


def bits_of(plan: Plan) -> tuple[bool, bool]:
    """(4 bits, 8 bits): how bitsandbytes is told to hold the frozen base."""
    adapter = plan.problem.scenario.adapter
    base = "" if adapter is None else adapter.base_precision
    return base.startswith("nf4"), base == "int8"


def lora_agrees(config: Any, plan: Plan, every: list[str]) -> None:
    """What peft's LoraConfig, or a class with fields of its names, holds is the plan's adapter."""
    adapter = plan.problem.scenario.adapter
    assert adapter is not None
    assert config.r == adapter.rank
    assert config.lora_dropout == adapter.dropout
    assert (config.use_dora, config.use_rslora) == (adapter.variant == "dora", adapter.variant == "rslora")
    told = config.target_modules
    assert set([told] if isinstance(told, str) else told) == set(
        every if adapter.targets == ["all-linear"] else adapter.targets
    )
    assert list(config.modules_to_save or []) == adapter.modules_to_save


@pytest.mark.parametrize("mixed", ["no", "bf16"])
def test_a_trainer_casts_where_its_file_says_so(mixed: str) -> None:
    """Accelerator.prepare_model over weights in 16 bits, which stay as they are."""
    torch = pytest.importorskip("torch")
    accelerate = pytest.importorskip("accelerate")
    from accelerate.state import AcceleratorState

    class Layer(torch.nn.Linear):  # type: ignore[name-defined, misc, unused-ignore]
        def forward(self, values: Any) -> Any:
            assert torch.is_autocast_enabled("cpu") == (mixed == "bf16")
            return super().forward(values)

    AcceleratorState._reset_state(reset_partial_state=True)
    made = accelerate.Accelerator(mixed_precision=mixed, cpu=True).prepare_model(Layer(4, 4, dtype=torch.bfloat16))
    out = made(torch.ones(1, 4, dtype=torch.bfloat16))
    assert out.dtype == (torch.float32 if mixed == "bf16" else torch.bfloat16)
    assert made.weight.dtype == torch.bfloat16
    AcceleratorState._reset_state(reset_partial_state=True)


def test_trl_takes_every_plan(tmp_path: Path) -> None:
    """trl/scripts/sft.py makes its arguments with this parser."""
    pytest.importorskip("trl")
    from drawn import catalog
    from trl.scripts.sft import make_parser
    from trl.trainer.utils import get_peft_config

    for engine in engines_of("trl", catalog()):
        for plan, files in written(engine, "trl", PLANS):
            keys_of(files, "trl_sft.yaml", tmp_path)
            ask = ["--config", str(tmp_path / "trl_sft.yaml"), "--use_cpu", "--output_dir", str(tmp_path)]
            made = make_parser().parse_args_and_config(ask, fail_with_unknown_args=True)
            training, model = made[1], made[2]
            agrees(training, plan)
            assert training.gradient_checkpointing == any(plan.recomputed)
            if not plan.problem.engine.zero_stages or plan.problem.engine.id.startswith("transformers"):
                wide = plan.problem.engine.states.weight_bytes == 4 or plan.problem.precision.id == "fp32"
                narrow = {"fp16": "float16"}.get(plan.problem.precision.id, "bfloat16")
                assert model.dtype == ("float32" if wide else narrow), files["trl_sft.yaml"]
            adapter = plan.problem.scenario.adapter
            assert model.use_peft == (adapter is not None)
            assert (model.load_in_4bit, model.load_in_8bit) == bits_of(plan)
            if adapter is not None:
                assert model.use_bnb_nested_quant == (adapter.base_precision == "nf4")
                assert plan.problem.precision.id == "fp32" or model.dtype != "float32"
                lora_agrees(get_peft_config(model), plan, ["all-linear"])
            assert training.max_length == plan.layout["sequence_length"]
            assert model.model_name_or_path


def test_trl_takes_every_plan_of_pairs(tmp_path: Path) -> None:
    """trl/scripts/dpo.py makes its arguments with this parser; a sample is a pair. DeepSpeed's file says the same."""
    pytest.importorskip("trl")
    from trl.scripts.dpo import make_parser

    for engine in [name for name in engines_of("trl", catalog()) if catalog().find("engines", name, None).preference]:
        for plan, files in written(engine, "trl", PLANS, plans_of_pairs):
            keys_of(files, "trl_dpo.yaml", tmp_path)
            ask = ["--config", str(tmp_path / "trl_dpo.yaml"), "--use_cpu", "--output_dir", str(tmp_path)]
            made = make_parser().parse_args_and_config(ask, fail_with_unknown_args=True)
            training, model, asked = made[1], made[2], plan.problem.scenario.dpo
            assert 2 * training.per_device_train_batch_size == plan.layout["micro_batch_size"]
            assert training.gradient_accumulation_steps == plan.layout["num_micro_batches"]
            assert training.gradient_checkpointing == any(plan.recomputed)
            assert training.max_length == plan.layout["sequence_length"]
            assert asked is not None
            assert training.precompute_ref_log_probs == (asked.reference == "precomputed")
            assert model.use_peft == (plan.problem.scenario.adapter is not None)
            if "ds_config.json" in files:
                said = json.loads(files["ds_config.json"])["train_micro_batch_size_per_gpu"]
                assert said == training.per_device_train_batch_size


def test_llama_factory_takes_every_plan(tmp_path: Path) -> None:
    parser = pytest.importorskip("llamafactory.hparams.parser")
    modes = pytest.importorskip("transformers.training_args").ParallelMode
    for engine in engines_of("llama-factory", catalog()):
        for plan, files in written(engine, "llama-factory", PLANS):
            keys = keys_of(files, "llama_factory.yaml", tmp_path)
            keys |= {"dataset": "alpaca_en_demo", "output_dir": str(tmp_path), "use_cpu": True}
            with (
                mock.patch.object(parser.TrainingArguments, "parallel_mode", modes.DISTRIBUTED),
                mock.patch.object(parser, "is_torch_bf16_gpu_available", return_value=True),
            ):
                model, data, training, tuning, _ = parser.get_train_args(keys)
            lay = plan.layout
            assert data.cutoff_len == lay["sequence_length"]
            agrees(training, plan)
            if engine == "transformers":
                wide = plan.problem.engine.states.weight_bytes == 4 or plan.problem.precision.id != "bf16"
                assert tuning.pure_bf16 != wide
            assert model.disable_gradient_checkpointing != any(plan.recomputed), files
            adapter, four_eight = plan.problem.scenario.adapter, bits_of(plan)
            assert (model.quantization_bit == 4, model.quantization_bit == 8) == four_eight
            assert tuning.finetuning_type == ("full" if adapter is None else "lora")
            if adapter is not None:
                assert model.double_quantization == (adapter.base_precision != "nf4-single")
                names = {"r": "lora_rank", "target_modules": "lora_target", "modules_to_save": "additional_target"}
                names |= {name: name for name in ("lora_dropout", "use_dora", "use_rslora")}
                lora_agrees(SimpleNamespace(**{a: getattr(tuning, b) for a, b in names.items()}), plan, ["all"])


def method_of(file: str, name: str, **beside: Any) -> Any:
    """One function of axolotl by its own text, of a module that imports all trainers; `beside`: what it calls."""
    spec = importlib.util.find_spec("axolotl")
    assert spec is not None
    tree = ast.parse((Path(next(iter(spec.submodule_search_locations or []))) / file).read_text())
    found = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name)
    found.returns = None
    for argument in found.args.args:
        argument.annotation = None
    space: dict[str, Any] = {"Any": Any, **beside}
    exec(compile(ast.Module([found], []), file, "exec"), space)
    return space[name]


def test_axolotl_takes_every_plan(tmp_path: Path) -> None:
    config = pytest.importorskip("axolotl.utils.config")
    from axolotl.utils.dict import DictDefault
    from drawn import catalog

    precision = method_of("core/builders/base.py", "_configure_precision_settings")
    every = ["every", "linear", "module"]
    lora = method_of(
        "loaders/adapter.py", "_build_peft_lora_config",
        LoraConfig=SimpleNamespace, PLUGIN_MANAGER=SimpleNamespace(get_lora_config_kwargs=lambda _: {}),
        find_all_linear_names=lambda _: every, _get_peft_task_type=lambda _: None, LOG=mock.MagicMock(),
        _build_lora_config_kwargs=method_of("loaders/adapter.py", "_build_lora_config_kwargs", LOG=mock.MagicMock()),
    )  # fmt: skip
    quantise = method_of(
        "loaders/model.py", "_set_quantization_config", torch=mock.MagicMock(), BitsAndBytesConfig=dict
    )
    for engine in engines_of("axolotl", catalog()):
        for plan, files in written(engine, "axolotl", PLANS):
            keys = keys_of(files, "axolotl.yaml", tmp_path)
            keys |= {"datasets": [{"path": "mhenrichsen/alpaca_2k_test", "type": "alpaca"}], "learning_rate": 1e-5}
            gpus = plan.layout["num_gpus"]
            told = config.validate_config(
                DictDefault(keys),
                capabilities={"bf16": True, "fp8": True, "tf32": True, "n_gpu": gpus, "compute_capability": "sm_90"},
                env_capabilities={"torch_version": "2.13.0"},
            )
            lay = plan.layout
            assert told.sequence_len == lay["sequence_length"]
            assert told.micro_batch_size == lay["micro_batch_size"]
            assert told.gradient_accumulation_steps == lay["num_micro_batches"]
            assert bool(told.gradient_checkpointing) == any(plan.recomputed)
            trainer: dict[str, Any] = {}
            precision(SimpleNamespace(cfg=told), trainer)
            assert (trainer.get("bf16") is True, bool(trainer["fp16"])) == (
                casts(plan) == "bf16",
                casts(plan) == "fp16",
            )
            config.resolve_dtype(told)
            assert (str(told.torch_dtype) == "torch.float32") == (plan.problem.precision.id == "fp32")
            adapter = plan.problem.scenario.adapter
            assert bool(told.adapter) == (adapter is not None)
            base = SimpleNamespace(cfg=told, model_kwargs={}, model_config=SimpleNamespace(), is_fsdp_enabled=False)
            quantise(base)
            held = base.model_kwargs.get("quantization_config", {})
            assert (held.get("load_in_4bit", False), held.get("load_in_8bit", False)) == bits_of(plan)
            if adapter is not None:
                made = lora(None, told)
                made.use_dora, made.use_rslora = (getattr(made, name, False) for name in ("use_dora", "use_rslora"))
                lora_agrees(made, plan, every)
                assert held.get("bnb_4bit_use_double_quant", True) == (adapter.base_precision != "nf4-single")


@pytest.mark.parametrize(("method", "bits"), [("lora", None), ("qlora", "load_in_4bit")])
def test_axolotl_quantises_to_4_bits_under_qlora_alone(method: str, bits: str | None) -> None:
    pytest.importorskip("axolotl")
    quantise = method_of(
        "loaders/model.py", "_set_quantization_config", torch=mock.MagicMock(), BitsAndBytesConfig=dict
    )
    told = mock.MagicMock(adapter=method, load_in_4bit=True, load_in_8bit=False, bnb_config_kwargs={}, gptq=False)
    base = SimpleNamespace(cfg=told, model_kwargs={}, model_config=SimpleNamespace(), is_fsdp_enabled=False)
    quantise(base)
    held = base.model_kwargs.get("quantization_config", {})
    assert [name for name in ("load_in_4bit", "load_in_8bit") if held.get(name)] == ([bits] if bits else [])


def test_peft_makes_a_whole_base_fp32_and_takes_neither_no_rank_nor_no_targets() -> None:
    """What lint says of axolotl's `adapter: lora` beside load_in_4bit, and of files without rank or targets."""
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}

    def network() -> Any:
        config = transformers.LlamaConfig(**sizes, num_key_value_heads=2, vocab_size=32)
        return transformers.LlamaForCausalLM(config).to(torch.bfloat16)

    prepared = peft.prepare_model_for_kbit_training(network())
    assert {weight.dtype for weight in prepared.parameters()} == {torch.float32}
    for words in ({"r": None, "target_modules": ["q_proj"]}, {"r": 8, "target_modules": []}):
        with pytest.raises((TypeError, ValueError)):
            peft.get_peft_model(network(), peft.LoraConfig(**words))


def test_networks_without_sdpa_are_those_that_transformers_falls_back_to_eager_for() -> None:
    """Transformers' own decision where nothing is asked for, of every network of the catalog that it has."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from drawn import catalog

    kernels = catalog().flags("hf_trainer_523.yaml").named_kernels
    types = {model.model_type for model in catalog().all("models")}
    classes = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    eager = set()
    for kind in sorted(types & set(transformers.CONFIG_MAPPING)):
        config = transformers.CONFIG_MAPPING[kind]()
        kept = (classes if type(config) in classes else transformers.MODEL_MAPPING)[type(config)]
        network = kept.__new__(kept)
        torch.nn.Module.__init__(network)
        network.config = config
        if network._check_and_adjust_attn_implementation(None, is_init_check=True) != "eager":
            continue
        eager.add(kind)
        assert network._supports_flash_attn
        own = network._compatible_flash_implementations or ["flash_attention_2"]
        assert set(kernels[kind].values()) <= set(own)
        with pytest.raises(ValueError, match="scaled_dot_product_attention"):
            network._check_and_adjust_attn_implementation("sdpa", is_init_check=True)
    assert eager == set(kernels)


def test_every_optimizer_of_the_trainers_is_counted_or_refused_by_name() -> None:
    """transformers' own list, and axolotl's beside it: each name is one that a key writes, or stands with a reason."""
    training_args = pytest.importorskip("transformers.training_args")
    ids, named, told = set(catalog().ids("optimizers")), set(), set()
    for file, part, key in (
        ("hf_trainer_523.yaml", "training_arguments", "optim"),
        ("axolotl_019.yaml", "common", "optimizer"),
    ):
        table = catalog().flags(file)
        assert {one.counted_as for one in table.optimizers.values()} - {None} <= ids
        assert all(bool(one.because) is (one.counted_as is None) for one in table.optimizers.values())
        named |= set(table.optimizers)
        told |= set(table.parts[part][key]["words"].values())
    assert {one.value for one in training_args.OptimizerNames} - named <= told
    spec = importlib.util.find_spec("axolotl")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("axolotl is not here")
    enums = ast.parse((Path(spec.submodule_search_locations[0]) / "utils/schemas/enums.py").read_text())
    own = next(one for one in enums.body if isinstance(one, ast.ClassDef) and one.name == "CustomSupportedOptimizers")
    values = {
        one.value.value for one in own.body if isinstance(one, ast.Assign) and isinstance(one.value, ast.Constant)
    }
    assert len(values) == 17
    assert values - named <= ids
