"""Words as a scenario whose layout is pinned; each value remembers the line that said it."""

from __future__ import annotations

import re

from planner.errors import Place
from planner.inputs.catalog import Catalog
from planner.launch.reading.found import Found
from planner.launch.reading.tables import TABLES
from planner.launch.reading.towers import frozen_parts
from planner.launch.said import FROZEN, FROZEN_PARTS
from planner.problem.critics import larger
from planner.schema.catalog import Architecture

PINS = (
    ("tensor_parallel", "layout.tensor_parallel"),
    ("pipeline_parallel", "layout.pipeline_parallel"),
    ("context_parallel", "layout.context_parallel"),
    ("expert_parallel", "layout.expert_parallel"),
    ("expert_tensor_parallel", "layout.expert_tensor_parallel"),
    ("virtual_pipeline", "layout.virtual_pipeline"),
    ("zero_stage", "layout.zero_stage"),
    ("optimizer_offload", "layout.optimizer_offload"),
    ("activation_offload", "layout.activation_offload"),
    ("recompute_modules", "layout.recompute_modules"),
    ("layers_per_stage", "layout.layers_per_stage"),
    ("schedule", "layout.schedule"),
    ("micro_batch_size", "batch.micro_batch_size"),
    ("fixed_micro_batch_size", "batch.micro_batch_size"),
    ("rank_order", "cluster.rank_order"),
    ("precision", "precision"),
    ("optimizer", "optimizer"),
    ("engine_options", "engine_options"),
    ("model", "model"),
)
RENAMED = "meta-"
"""Beginning of names that their publisher has dropped since."""
NODE = "hgx-h100-8"
TUNED = ("", "-instruct", "-chat", "-base")
"""Endings of names of tuned variants."""
OTHER_NETWORK = re.compile(r"(^|-)(\d+(\.\d+)?b|vl|vision|multimodal|omni|audio|moe|mini)(-|$)")
"""Words after a network's name that make it another's: a size, or senses that it has not."""
QUANTISED = re.compile(r"(^|[-_])(awq|gptq|int[48]|w4a16|[48]bit|fp8|nvfp4|mxfp4|gguf)([-_]|$)", re.IGNORECASE)
"""Words of a checkpoint's name that say its weights are stored in fewer bits."""
EXPERTS_AS_DENSE = frozenset(("torchtitan",))
"""Launchers without a degree for it: experts are cut as the dense layers are, unless they lie on several ranks."""
Tree = dict[str, object]


def scenario_of(found: Found, catalog: Catalog, name: str) -> tuple[Tree, dict[str, Place]]:
    """(scenario, places by dotted path). What no line says is taken as usual and listed in `found.assumed`."""
    flat: Tree = {"name": name, "engine": found.engine, "limits.tensor_parallel_inside_domain": False}
    places: dict[str, Place] = {}

    def put(path: str, value: object, word: str) -> None:
        flat[path] = value
        if word in found.places:
            places[path] = found.places[word]

    for word, path in PINS:
        value = found.words.get(word)
        if value is not None and value != [] and (value is not False or path.startswith("layout.")):
            put(path, [value] if word == "recompute_modules" and isinstance(value, str) else value, word)
    if found.words.get("model") is not None:
        name = str(found.words["model"])
        flat["model"] = model_of(name, catalog) or name
        if flat["model"] != name and QUANTISED.search(name.rpartition("/")[2]):
            place = found.places.get("model", Place("?"))
            found.note(place, f"{name} stores its weights in fewer bits: costed as if they were in 16")
    if isinstance(found.words.get("sequence_parallel"), bool) and _number(found, "tensor_parallel", 1) > 1:
        put("layout.sequence_parallel", found.words["sequence_parallel"], "sequence_parallel")
    kind, each, why = found.machines or ("node", NODE, "no line names the machines")
    found.assumed[f"cluster.{kind}"] = f"{each}: {why}"
    flat[f"cluster.{kind}"] = each
    flat["limits.host_memory"] = False
    flat["layout.layers_per_stage"] = flat.get("layout.layers_per_stage", "even")
    _ends(found, flat, catalog, put)
    _work(found, flat, put)
    _recomputation(found, flat, put)
    if (own := _critic(found, flat, catalog)) is not None:
        put("rl.critic_model", own, "critic_model")
    _frozen(found, flat, catalog, put)
    for field, part in (found.adapter or {}).items():
        put(f"adapter.{field}", part, "adapter")
    if flat.get("cluster.num_gpus") is None:
        found.assumed["cluster.num_gpus"] = "no line says how many GPUs there are"
    return _tree(flat), places


def _ends(found: Found, flat: Tree, catalog: Catalog, put: object) -> None:
    """Layers of each stage from those of the first and the last; chunks from the layers of one; how experts are cut."""
    assert callable(put)
    model = known_model(str(flat.get("model")), catalog) or found.network
    if found.launcher in EXPERTS_AS_DENSE and model is not None and model.is_moe:
        whole = _number(found, "expert_parallel", 1) > 1
        put("layout.expert_tensor_parallel", 1 if whole else _number(found, "tensor_parallel", 1), "tensor_parallel")
    first, last = found.words.get("first_stage_layers"), found.words.get("last_stage_layers")
    stages = _number(found, "pipeline_parallel", 1)
    ends = [count for count in (first, last) if isinstance(count, int)]
    if model is not None and ends and stages > 1:
        between = stages - len(ends)
        middle = (model.num_hidden_layers - sum(ends)) // max(between, 1)
        split = [middle] * stages
        split[0] = first if isinstance(first, int) else middle
        split[-1] = last if isinstance(last, int) else middle
        put("layout.layers_per_stage", split, "first_stage_layers" if isinstance(first, int) else "last_stage_layers")
    counted = [int(found.words.get(word) is True) for word in ("embedding_counts", "loss_counts")]
    if model is not None and any(counted) and not ends and stages > 1 and flat["layout.layers_per_stage"] == "even":
        each, rest = divmod(model.num_hidden_layers + sum(counted), stages)
        if not rest:
            split = [each - counted[0], *[each] * (stages - 2), each - counted[1]]
            put("layout.layers_per_stage", split, "embedding_counts" if counted[0] else "loss_counts")
    chunks = found.words.get("chunk_layers")
    if model is not None and isinstance(chunks, int) and chunks:
        put("layout.virtual_pipeline", max(model.num_hidden_layers // chunks, 1), "layers_per_chunk")


def _work(found: Found, flat: Tree, put: object) -> None:
    """GPUs, batch and lengths; in reinforcement learning the rollout."""
    assert callable(put)
    words = found.words
    nodes, each = words.get("training_nodes"), words.get("gpus_per_node")
    gpus = words.get("num_gpus")
    if gpus is None and isinstance(nodes, int) and isinstance(each, int):
        gpus = nodes * each
        put("cluster.num_gpus", gpus, "gpus_per_node" if "gpus_per_node" in found.places else "training_nodes")
    elif gpus is not None:
        put("cluster.num_gpus", gpus, "num_gpus")
    if words.get("rollout_batch_size") is not None:
        _rollout(found, flat, put)
        return
    flat["task"] = words.get("task", "pretrain")
    put("dpo.reference", words.get("reference_of_pairs"), "reference_of_pairs")
    batch = words.get("global_batch_size")
    if batch is None and isinstance(gpus, int) and isinstance(words.get("gradient_accumulation"), int):
        degrees = 1
        for word in ("tensor_parallel", "pipeline_parallel", "context_parallel"):
            degrees *= _number(found, word, 1)
        batch = _number(found, "micro_batch_size", 1) * _number(found, "gradient_accumulation", 1) * gpus // degrees
    put("batch.global_batch_size", batch, "global_batch_size")
    put("batch.sequence_length", words.get("sequence_length"), "sequence_length")


def _rollout(found: Found, flat: Tree, put: object) -> None:
    assert callable(put)
    words = found.words
    flat["task"] = "rl"
    flat.pop("batch.global_batch_size", None)
    prompts, samples = _number(found, "rollout_batch_size", 1), _number(found, "n_samples_per_prompt", 1)
    response = words.get("response_length")
    length = words.get("sequence_length")
    prompt = words.get("prompt_length")
    if prompt is None and isinstance(length, int) and isinstance(response, int) and length > response:
        prompt = length - response
        found.places.setdefault("prompt_length", found.places.get("sequence_length", Place("?")))
    if prompt is None:
        prompt = min(1024, max(length // 2, 1)) if isinstance(length, int) else 1024
        found.assumed["rl.prompt_length"] = f"{prompt} tokens: no line says how long prompts are"
    if isinstance(length, int) and isinstance(prompt, int) and not (isinstance(response, int) and response < length):
        response = max(length - prompt, 1)
    put("rl.prompt_length", prompt, "prompt_length")
    put("rl.response_length", response, "response_length")
    put("rl.rollout_batch_size", prompts, "rollout_batch_size")
    put("rl.n_samples_per_prompt", samples, "n_samples_per_prompt")
    steps = words.get("steps_per_rollout")
    if steps is None and isinstance(words.get("prompts_per_step"), int):
        steps = max(prompts // _number(found, "prompts_per_step", 1), 1)
        found.places.setdefault("steps_per_rollout", found.places.get("prompts_per_step", Place("?")))
    if steps is None and isinstance(words.get("global_batch_size"), int):
        steps = max(prompts * samples // _number(found, "global_batch_size", 1), 1)
    put("rl.steps_per_rollout", steps or 1, "steps_per_rollout")
    if isinstance(response, int):
        mean = max(response // 3, 1)
        flat["rl.response_distribution"] = {"mean": mean, "p99": max(response, mean + 1)}
        found.assumed["rl.response_distribution"] = f"mean {mean}, p99 {response}: no line says how long responses are"
    put("rl.reference_model", bool(words.get("reference", False)), "reference")
    apart = words.get("generating_gpus")
    trains = flat.get("cluster.num_gpus")
    if isinstance(apart, int) and isinstance(trains, int) and words.get("colocated") is not True:
        flat["cluster.num_gpus"] = trains + apart
    if words.get("asynchronous") is True:
        put("rl.placement", "asynchronous", "asynchronous")
    elif words.get("colocated") is False or apart is not None:
        put("rl.placement", "disaggregated", "colocated")
    for word, path in (
        ("rollout_tensor_parallel", "tensor_parallel"),
        ("gpu_memory_utilization", "gpu_memory_utilization"),
        ("rollout_max_concurrency", "max_concurrency"),
        ("generating_gpus", "num_gpus"),
    ):
        if words.get(word) is not None:
            put(f"rl.rollout.{path}", words[word], word)
    put("rl.trainer_on_gpu", words.get("trainer_on_gpu"), "trainer_on_gpu")
    if words.get("algorithm") == "ppo":
        put("rl.algorithm", "ppo", "algorithm")
    if words.get("eager") is True:
        put("rl.rollout.cuda_graphs", False, "eager")
    if words.get("rollout_sleeps") is False:
        put("rl.rollout.sleeps", False, "rollout_sleeps")
    put("batch.log_prob_micro_batch_size", words.get("log_prob_samples"), "log_prob_samples")
    put("batch.log_prob_max_tokens_per_gpu", words.get("log_prob_tokens"), "log_prob_tokens")
    tokens = words.get("tokens_per_gpu")
    if words.get("dynamic") is not False and isinstance(tokens, int):
        flat.pop("batch.micro_batch_size", None)
        put("batch.max_tokens_per_gpu", tokens, "tokens_per_gpu")


def _recomputation(found: Found, flat: Tree, put: object) -> None:
    assert callable(put)
    words = found.words
    granularity = words.get("recompute_granularity")
    if granularity == "full":
        if words.get("recompute_method") == "block":
            chunks, each = _number(found, "virtual_pipeline", 1), _number(found, "recompute_num_layers", 1)
            number, split = each * chunks, flat.get("layout.layers_per_stage")
            if isinstance(split, list) and each <= -(-max(split) // chunks):
                number = min(number, max(split))  # it covers the largest chunk, and chunks differ
            put("layout.recompute_method", "block", "recompute_method")
            put("layout.recomputed_layers", number, "recompute_num_layers")
        else:
            if words.get("recompute_method") is not None:
                put("layout.recompute_method", "uniform", "recompute_method")
                group = _number(found, "recompute_num_layers", 1)
                if group > 1:
                    put("layout.recompute_group", group, "recompute_num_layers")
            put("layout.recomputed_layers", "all", "recompute_granularity")
    elif words.get("all_recomputed") is True:
        put("layout.recomputed_layers", "all", "all_recomputed")
    else:
        put("layout.recomputed_layers", 0, "recompute_granularity")


def _frozen(found: Found, flat: Tree, catalog: Catalog, put: object) -> None:
    """Parts of a vision tower that are not trained."""
    assert callable(put)
    tables = TABLES.get(found.launcher, ())
    version = catalog.flags(tables[0][0]).engine if tables else found.launcher
    parts = frozen_parts(found, known_model(str(flat.get("model")), catalog), version)
    if parts:
        said = [word for word in (FROZEN, *FROZEN_PARTS) if word in found.places]
        put("frozen", parts, said[0] if said else FROZEN)


def _critic(found: Found, flat: Tree, catalog: Catalog) -> str | None:
    """The critic's network where it is another than the policy's, of the catalog, and no larger; else it is listed."""
    name = found.words.get("critic_model")
    if name is None or flat.get("rl.algorithm") != "ppo":
        return None
    own = model_of(str(name), catalog)
    critic, policy = known_model(str(own), catalog), known_model(str(flat.get("model")), catalog)
    if critic is None or policy is None or larger(policy, critic):
        found.note(found.places["critic_model"], f"the critic {name} is costed as the policy's network")
        return None
    return None if critic == policy else own


def known_model(name: str, catalog: Catalog) -> Architecture | None:
    """The catalog's model of that id."""
    model: Architecture | None = catalog.find("models", name) if name in catalog.ids("models") else None
    return model


def model_of(name: str, catalog: Catalog) -> str | None:
    """Id of the catalog's model with this id, or this Hugging Face name, its tuned variants and folders included."""

    def own(hf_id: str | None) -> str:
        return (hf_id or "").rstrip("/").rpartition("/")[2].lower().removeprefix(RENAMED)

    last = own(name)

    ids = catalog.may_state("models", "hf_id", lambda text: bool(own(text)) and f"{last}-".startswith(f"{own(text)}-"))
    named = {name, last}.intersection(catalog.ids("models"))
    models: list[Architecture] = [catalog.find("models", each) for each in sorted(named.union(ids))]
    for model in models:
        if model.id in named or own(model.hf_id) == last:
            return model.id
    named_after = [(model, own(model.hf_id) + "-") for model in models if model.hf_id]
    tuned = [
        model
        for model, start in named_after
        if last.startswith(start) and OTHER_NETWORK.search(last.removeprefix(start)) is None
    ]
    if tuned:
        return max(tuned, key=lambda model: len(model.hf_id or "")).id
    for ending in TUNED:
        ids_of_alias = catalog.meant("models", last.removesuffix(ending))
        if len(ids_of_alias) != 1:
            continue
        meant: Architecture = catalog.find("models", ids_of_alias[0])
        if last.removesuffix(ending) in (meant.id, *meant.aliases):
            return meant.id
    return None


def _number(found: Found, word: str, default: int) -> int:
    value = found.words.get(word)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _tree(flat: Tree) -> Tree:
    tree: Tree = {}
    for path, value in flat.items():
        if value is None:
            continue
        *steps, last = path.split(".")
        place = tree
        for step in steps:
            inside = place.setdefault(step, {})
            assert isinstance(inside, dict)
            place = inside
        place[last] = value
    return tree
