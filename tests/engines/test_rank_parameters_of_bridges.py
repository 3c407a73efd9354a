"""Parameters of a rank, built by what hands networks to Megatron: slime, ms-swift, verl, NeMo-RL; Transformer Engine.

Each program's own arguments, conversion of a config.json and builder of models, over its own Megatron, on the meta
device; the layers are Transformer Engine's own. Each is asked in a run of its own, for they need different Megatrons.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import random
import sys
import typing
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from drawn import PLANS, words_of, written
from engine_layers import on_meta_as_on_a_gpu, transformer_engine
from megatron_model import chunks_of, groups
from test_rank_parameters import AUTOGRAD, MOST_EXPERTS, counted

from planner.analysis.check.check import stage_of
from planner.search.plan import Plan

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]


MOST = 8 * MOST_EXPERTS
"""Experts of a rank: products in groups are one module for all of a layer's."""


def own_modules(*names: str) -> None:
    """Skip where one of a program's packages is not there, before any of them is imported."""
    for name in names:
        if importlib.util.find_spec(name.partition(".")[0]) is None or importlib.util.find_spec(name) is None:
            pytest.skip(f"no {name}")
    extensions = pytest.importorskip("typing_extensions")
    if not hasattr(typing, "override"):
        typing.override = extensions.override  # type: ignore[attr-defined, unused-ignore]
    transformer_engine()


def configuration(plan: Plan) -> Any:
    """The network's config.json in full depth; ValueError and its like where transformers has no class for it."""
    with mock.patch.object(sys, "path", [str(AUTOGRAD), *sys.path]):
        networks = pytest.importorskip("networks")
    network = plan.problem.architecture
    layers, leading = network.num_hidden_layers, network.first_k_dense_replace
    found = networks.configuration(network, layers=layers, moe_layer=network.is_moe, dropout=False)
    found.first_k_dense_replace = leading
    if network.is_mla:
        found.mlp_layer_types = ["dense"] * leading + ["sparse"] * (layers - leading)
        found.rope_scaling = None
    models = pytest.importorskip("transformers").AutoModelForCausalLM
    found.architectures = [models._model_mapping[type(found)].__name__]
    found.name_or_path = ""
    return found


class Ranks:
    """Compares what one random rank of every stage holds with what the plan's ledger counts there."""

    def __init__(self) -> None:
        self.plans, self.equal, self.left = 0, Counter[str](), Counter[str]()
        self.different: list[Any] = []
        self.rng = random.Random(9)

    def ask(self, plan: Plan, made: Callable[[int], list[Any]], spared: Callable[[int], int] = lambda _: 0) -> None:
        """`made`: model chunks of a rank; `spared`: parameters of a stage's rank that the plan alone counts."""
        lay, name = plan.layout, plan.problem.architecture.id
        experts = (plan.problem.architecture.num_experts or 0) // lay["expert_parallel"]
        if experts * max(plan.layers) > MOST:
            self.left[f"{name}: experts"] += 1
            return
        self.plans += 1
        for stage in range(lay["pipeline_parallel"]):
            rank = self.rng.choice([each for each in range(lay["num_gpus"]) if stage_of(each, plan) == stage])
            with mock.patch.dict(os.environ):  # configurations write variables of Transformer Engine's
                count = sum(weight.numel() for model in made(rank) for weight in model.parameters())
            wanted = counted(plan, stage) - spared(stage)
            self.equal[name] += count == wanted
            if count != wanted:
                self.different.append((name, lay, plan.layers, stage, count, wanted, count - wanted))

    def say(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The counts."""
        with capsys.disabled():
            print(f"\n{self.plans} plans, ranks with equal parameters: {self.equal.total()} {dict(self.equal)};")
            print(f"different: {len(self.different)}; plans left out: {dict(self.left)}")
        assert not self.different, self.different[0]
        assert self.equal


def ends(chunk: int | None) -> dict[str, Any]:
    """Whether a chunk of this rank is the first and the last of the pipeline, as slime's and Bridge's builders ask."""
    from megatron.core import parallel_state

    said = {} if chunk is None else {"vp_stage": chunk}
    first = parallel_state.is_pipeline_first_stage(ignore_virtual=False, **said)
    last = parallel_state.is_pipeline_last_stage(ignore_virtual=False, **said)
    return {"pre_process": first, "post_process": last, **said}


def test_slime_builds_the_parameters_that_the_plan_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its arguments and its own provider of models over the Megatron that it pins and patches."""
    own_modules("transformer_engine", "slime", "megatron.core")
    from test_slime import OF_THE_USER, slime

    with capsys.disabled():  # Megatron asks for the handle of the error output as it is imported
        own = slime()
        import slime.backends.megatron_utils.arguments as checks
        from slime.backends.megatron_utils.model_provider import get_model_provider_func

    seen = Ranks()
    for plan, files in written("slime", "slime", PLANS):
        words, exports = words_of(files["plan.sh"])
        rl = plan.problem.scenario.rl
        reference = ["--ref-load", str(tmp_path), "--use-kl-loss"] if rl is not None and rl.reference_model else []
        with (
            mock.patch.dict(os.environ, {"RANK": "0", "LOCAL_RANK": "0", **exports}),
            mock.patch.object(sys, "argv", ["x", *words, *reference, *OF_THE_USER]),
            mock.patch.object(checks, "AutoConfig"),
            mock.patch.object(checks, "_hf_validate_args"),
        ):
            args = own.parse_args()

        def made(rank: int, args: Any = args) -> list[Any]:
            order = "tp-cp-ep-pp-dp" if args.use_tp_pp_dp_mapping else "tp-cp-ep-dp-pp"
            with groups(args, args.world_size, rank, order), on_meta_as_on_a_gpu():
                build = get_model_provider_func(args)
                return [build(**ends(chunk)) for chunk in chunks_of(args)]

        seen.ask(plan, made)
    seen.say(capsys)


def padding(plan: Plan, stage: int) -> int:
    """Rows of a rank's tables that Megatron's padding to 128 x TP adds and mcore-bridge's to TP does not."""
    network, ranks = plan.problem.architecture, plan.layout["tensor_parallel"]
    last = stage == plan.layout["pipeline_parallel"] - 1
    tables = int(stage == 0) + int(last and not (network.tie_word_embeddings and stage == 0))
    rows = [-(-network.vocab_size // (each * ranks)) * each for each in (128, 1)]
    return tables * (rows[0] - rows[1]) * network.hidden_size


def test_ms_swift_builds_the_parameters_that_the_plan_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its arguments, mcore-bridge's conversion of a config.json and its builder of models."""
    own_modules("transformer_engine", "swift", "mcore_bridge", "megatron.core")
    from test_ms_swift import arguments, own

    with capsys.disabled():
        from mcore_bridge import get_mcore_model
        from mcore_bridge.model import GPTModel, get_mcore_model_type, get_model_meta
    bridge = {name: module for name, module in sys.modules.items() if name.startswith("mcore_bridge")}
    make = importlib.import_module("swift.megatron.model.utils").get_mcore_model_config
    own()
    sys.modules.update(bridge)
    seen = Ranks()
    for plan, files in written("megatron-core", "ms-swift", PLANS):
        words, lay = words_of(files["plan.sh"])[0], plan.layout
        config = configuration(plan)
        meta = get_model_meta(get_mcore_model_type(config.model_type))

        def made(rank: int, words: list[str] = words, lay: Any = lay, config: Any = config, meta: Any = meta) -> Any:
            args = arguments(words, lay["num_gpus"], tmp_path)
            args.megatron_model_meta = meta
            positions = mock.patch.object(GPTModel, "_set_inv_freq")  # values of positions, of which there are none
            with groups(args, lay["num_gpus"], rank):
                said = make(args, config)
                with on_meta_as_on_a_gpu(), positions:
                    return get_mcore_model(said)

        seen.ask(plan, made, lambda stage, plan=plan: padding(plan, stage))
    seen.say(capsys)


def provided(provider: Any) -> list[Any]:
    """All model chunks of a rank that Megatron-Bridge's provider makes."""
    from megatron.core.process_groups_config import ProcessGroupCollection

    provider._pg_collection = ProcessGroupCollection.use_mpu_process_groups()
    with on_meta_as_on_a_gpu():
        return [provider.provide(**ends(chunk)) for chunk in chunks_of(provider)]


def test_verl_builds_the_parameters_that_the_plan_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """Its configuration, its engine's own use of Megatron-Bridge (_build_tf_config) and Bridge's builder of models."""
    own_modules("transformer_engine", "verl", "megatron.bridge")
    from test_refused_layouts import verl_said

    with capsys.disabled():
        from megatron.bridge import AutoBridge
        from verl.utils.config import omega_conf_to_dataclass as dataclass
        from verl.workers.engine.megatron.transformer_impl import MegatronEngine
    seen = Ranks()
    for plan, files in written("verl-megatron", "verl", PLANS):
        said = dataclass(verl_said(words_of(files["plan.sh"])[0]).actor_rollout_ref.actor.megatron)
        config, lay = configuration(plan), plan.layout
        model = SimpleNamespace(
            hf_config=config, model_type="language_model", local_path="", trust_remote_code=False,
            share_embeddings_and_output_weights=config.tie_word_embeddings, mtp=SimpleNamespace(enable=False),
        )  # fmt: skip

        def made(rank: int, said: Any = said, model: Any = model, lay: Any = lay) -> list[Any]:
            engine = SimpleNamespace(
                model_config=model, engine_config=said, enable_routing_replay=False, _qat_enabled=False
            )
            bridge = AutoBridge.from_hf_config(model.hf_config)
            with groups(said, lay["num_gpus"], rank):
                with mock.patch.object(AutoBridge, "from_hf_pretrained", return_value=bridge):
                    MegatronEngine._build_tf_config(engine)
                return provided(engine.provider)

        seen.ask(plan, made)
    seen.say(capsys)


def test_nemo_rl_builds_the_parameters_that_the_plan_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its configuration, its own assignments to Megatron-Bridge's provider, and Bridge's builder of models."""
    root = Path(os.environ.get("PLANNER_NEMO_RL", "none"))
    if not (root / "examples/configs").is_dir():
        pytest.skip("PLANNER_NEMO_RL names no checkout of NeMo-RL")
    own_modules("transformer_engine", "megatron.bridge")
    from nemo_rl_setup import megatron_settings, package

    with capsys.disabled():
        own = package(root)
        from megatron.bridge import AutoBridge
        from nemo_rl.utils.config import load_config, register_omegaconf_resolvers
        from omegaconf import OmegaConf
    register_omegaconf_resolvers()
    for file in (root / "examples/configs").glob("*.yaml"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    seen = Ranks()
    for plan, files in written("nemo-rl", "nemo-rl", PLANS):
        (tmp_path / "ours.yaml").write_text(files["nemo_rl.yaml"])
        keys = OmegaConf.to_container(load_config(tmp_path / "ours.yaml"), resolve=True)
        assert isinstance(keys, dict)
        policy, config, lay = keys["policy"], configuration(plan), plan.layout
        policy["megatron_cfg"]["train_iters"] = 1  # as grpo.setup writes the number of steps

        def made(rank: int, policy: Any = policy, config: Any = config, lay: Any = lay) -> list[Any]:
            provider = AutoBridge.from_hf_config(config).to_megatron_provider(load_weights=False)
            megatron_settings(own, policy, provider)
            with groups(provider, lay["num_gpus"], rank):
                provider.finalize()
                return provided(provider)

        seen.ask(plan, made)
    seen.say(capsys)


def test_bridge_refuses_a_vocabulary_that_ranks_do_not_divide(capsys: pytest.CaptureFixture[str]) -> None:
    """The rule vocabulary_divides_tensor of verl and NeMo-RL: a network is built with 512 words and not with 513."""
    own_modules("transformer_engine", "megatron.bridge")
    with capsys.disabled():
        from megatron.bridge import AutoBridge
    transformers = pytest.importorskip("transformers")

    def ask(words: int) -> int:
        config = transformers.Qwen2Config(vocab_size=words, hidden_size=256, intermediate_size=512, num_hidden_layers=2)
        config.architectures = ["Qwen2ForCausalLM"]
        provider = AutoBridge.from_hf_config(config).to_megatron_provider(load_weights=False)
        provider.tensor_model_parallel_size = 2
        with mock.patch.dict(os.environ), groups(provider, 2):
            provider.finalize()
            return len(provided(provider))

    assert ask(512) == 1
    with pytest.raises(AssertionError, match="not divisible by 2"):
        ask(513)
