"""An answer without a file, a scenario to start from, and names as people type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_cli import run

from planner.errors import InputError
from planner.inputs.asked import TEXT_ALONE, Wanted, template, templates
from planner.inputs.catalog import Catalog, default_catalog, usual_node
from planner.inputs.document import load, parse_document
from planner.inputs.examples import examples
from planner.problem.resolve import question_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return default_catalog()


def test_an_answer_says_what_it_assumed_and_can_be_kept(tmp_path: Path) -> None:
    saved = tmp_path / "run.yaml"
    words = ("ask", "llama3.1-8b", "--gpus", "4090", "--task", "qlora")
    asked = run(*words)
    assert asked.code == 0, asked.err
    text = " ".join(asked.out.split())
    assert "Assumed: engine transformers; rank 16 on all linear layers; sequences of 2,048 tokens" in text
    assert "Next: planner ask llama3.1-8b --gpus 4090 --task qlora --save run.yaml" in text
    kept = run(*words, "--save", str(saved), "-v")
    assert f"planner launch {saved} --to accelerate" in " ".join(kept.out.replace("\\\n", " ").split())
    again = run("solve", str(saved), "-v", "--no-check")
    assert again.out.partition("\nLayout")[1:] == kept.out.partition("\nLayout")[1:]
    assert saved.read_text().startswith("# yaml-language-server: $schema=")


def test_set_reaches_the_answer_and_what_is_saved(tmp_path: Path) -> None:
    saved = tmp_path / "run.yaml"
    done = run(
        "ask",
        "qwen2.5-0.5b",
        "--gpus",
        "h100",
        "--task",
        "lora",
        "--set",
        "limits.headroom_gib=40",
        "--save",
        str(saved),
    )
    assert done.code == 0, done.err
    assert "40.0 wanted" in done.out
    assert "headroom_gib: 40" in saved.read_text()
    assert question_of(load(str(saved))).first.headroom_gib == 40


def test_several_lengths_are_compared() -> None:
    done = run("ask", "qwen2.5-0.5b", "--gpus", "h100", "--sequence", "2k,4k", "--format", "json")
    assert [row["set"] for row in json.loads(done.out)["rows"]] == [
        {"batch.sequence_length": 2048},
        {"batch.sequence_length": 4096},
    ]


def test_the_command_behind_several_lengths_works_where_no_file_is() -> None:
    """What is printed at the end asks for one of them; each row says how likely it fits."""
    done = run("ask", "qwen2.5-0.5b", "--gpus", "h100", "--sequence", "2k,4k,2048")
    assert done.out.startswith("qwen2.5-0.5b-sft-1xh100-sxm5-80gb: 2 of 2 lengths of sequences fit")
    assert " fits " in done.out
    assert "planner ask qwen2.5-0.5b --gpus h100 --task sft --sequence 4096" in done.out
    assert "Assumed: engine transformers; 64 sequences a step" in done.out
    told = run("ask", "qwen2.5-0.5b", "--gpus", "h100", "--task", "rl", "--response", "1k,2k").out
    assert "Next: planner ask qwen2.5-0.5b --gpus h100 --task rl --response 2048" in told


def test_k_is_understood_wherever_tokens_are_typed(catalog: Catalog) -> None:
    """In a scenario, in a wish, after --set and in lists of values; a word that is no number is refused as before."""
    base = "name: n\ntask: sft\nmodel: qwen2.5-0.5b\nengine: hf\ncluster: {gpu: 4090, num_gpus: 1}\n"
    text = base + "batch: {global_batch_size: 8, sequence_length: {want: 8k, allow: [8K, 1 k]}}\n"
    wish = question_of(parse_document(text, "a"), catalog).scenario.batch.sequence_length
    assert (wish.want, wish.allow) == (8192, [8192, 1024])
    rl = ("rl.prompt_length=1k", "rl.response_length=1M", "rl.response_distribution={mean: 2k, p99: 7k}")
    scenario = question_of(load("example:qwen7b_rl", rl), catalog).scenario.rl
    assert (scenario.prompt_length, scenario.response_length) == (1024, 1024**2)
    assert scenario.response_distribution.lengths(1) == (2048, 7168)
    for wrong in ("8q", "0k", "'8192'", "k"):
        with pytest.raises(InputError, match=r"rl\.prompt_length"):
            question_of(load("example:qwen7b_rl", [f"rl.prompt_length={wrong}"]), catalog)
    varied = run("whatif", "example:llama8b_lora_4090", "--set", "batch.sequence_length=1k,2k", "--format", "json")
    assert [row["plan"] is not None for row in json.loads(varied.out)["rows"]] == [True, True]


def test_adapters_of_a_base_that_no_gpu_holds_get_an_engine_that_shards_it(catalog: Catalog) -> None:
    big, small = (template(Wanted(name, "4xh100", "lora"), catalog) for name in ("llama3.3-70b", "llama3.1-8b"))
    assert "engine: fsdp1" in big.text
    assert "engine fsdp1, which shards the base: no GPU holds all of it" in big.assumed
    rank = "rank 16 on all linear layers"
    assert rank in big.assumed
    assert set(big.assumed) - set(big.assumed_beside(["engine=fsdp2", "adapter={rank: 8}"])) == {big.assumed[0], rank}
    assert big.assumed_beside(["engine_options=[compile]"]) == big.assumed
    assert "engine: transformers-ddp" in small.text
    assert "engine: transformers-ddp" in template(Wanted("llama3.3-70b", "4xh100", "qlora"), catalog).text
    assert "engine: deepspeed" in template(Wanted("llama3.3-70b", "4xh100", "lora", "deepspeed"), catalog).text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("qwen2.5-7b", "--gpus", "4xa100"), "`a100-sxm4-80gb`"),
        (("qwen2.5-7b", "--gpus", "0xh100"), "expected a number and a GPU"),
        (("qwen2.5-7b", "--gpus", "4xh100", "--engine", "verl", "--task", "rl"), "`verl-fsdp1`, `verl-fsdp2`"),
        (("qwen2.5-7b", "--gpus", "4xh100", "--engine", "axolotl"), "`fsdp2`"),
        (("qwen2.5-7b", "--gpus", "4xh100", "--response", "16k"), "--response needs --task rl"),
        (("qwen2.5-7b", "--gpus", "4xh100", "--task", "rl", "--sequence", "4k"), "--response 16k"),
        (("qwen2.5-7b", "--gpus", "4xh100", "--sequence", "many"), "expected tokens"),
        (("qwen", "--gpus", "4xh100"), "it may be several"),
        (("qwen2.5-7b", "--gpus", "8xh100,8xmi300x"), "planner whatif run.yaml --set cluster.gpu=h100,mi300x"),
        (("qwen2.5-7b", "--gpus", "12xh100"), "num_gpus: 8"),
        (("qwen2.5-7b", "--gpus", "8xmi250x"), "no node type of the catalog has it"),
    ],
)
def test_what_cannot_be_meant_is_said(words: tuple[str, ...], said: str) -> None:
    result = run("ask", *words)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


def test_other_words_for_a_task_and_a_product_of_numbers(catalog: Catalog) -> None:
    told = run("init", "--task", "GRPO", "--gpus", "2x8xh100").out
    assert "task: rl" in told
    assert "num_gpus: 16" in told
    assert template(Wanted("qwen2.5-7b", "4x 4090"), catalog).text.count("num_gpus: 4") == 1


def test_a_plan_is_no_budget_and_no_launch_file(tmp_path: Path) -> None:
    saved = tmp_path / "plan.json"
    saved.write_text('{"schema_version": 1, "command": "solve"}')
    assert "is a saved answer, not a budget" in run("budget", str(saved)).err
    assert f"planner launch {saved}" in run("lint", str(saved)).err


def test_every_template_is_a_scenario_that_can_be_solved(catalog: Catalog) -> None:
    pairs = templates(catalog)
    assert {task for task, _ in pairs} == {"rl", "sft", "lora", "qlora", "dpo", "pretrain"}
    assert {engine for _, engine in pairs} == set(catalog.ids("engines"))
    for task, engine in pairs:
        made = template(Wanted("qwen2.5-7b", "8xh100", task, engine), catalog)
        question = question_of(parse_document(made.text, f"{task} {engine}"), catalog)
        assert question.first.engine.id == engine
        assert (question.scenario.task == "rl") == (task == "rl")


def test_init_writes_what_options_say_and_asks_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run("init", "--task", "rl", "--engine", "slime", "--gpus", "8xh100", "--length", "16k")
    assert plain.code == 0, plain.err
    assert "response_length: 16384" in plain.out
    typed = "no such model,llama3.1-8b,8xh10,4090,qlra,qlora,trasnformers,hf,4x,4k,safty,safety,2.5"
    answers = iter([*typed.split(",")[:-1], 2.5])
    monkeypatch.setattr("click.prompt", lambda *_, **__: next(answers))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    told = run("init")
    assert told.code == 0, told.err
    for said in ("unknown model `no such model`", "h10 may mean", "did you mean qlora", "did you mean `transformers`",
                 "expected tokens", "did you mean safety", "rtx-4090", "llama3.1-8b, llama3.2-1b"):  # fmt: skip
        assert said in told.err
    assert max(map(len, (line for line in told.err.splitlines() if line.startswith("  ") and ":" not in line))) <= 80
    data = parse_document(told.out, "told").data
    assert (data["cluster"]["gpu"], data["batch"]["sequence_length"]) == ("rtx-4090", 4096)
    assert data["adapter"]["base_precision"] == "nf4"
    assert data["limits"]["headroom_gib"] == 2.5


def test_shipped_scenarios_are_found_anywhere(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "qwen7b_rl" in examples()
    for name in examples():
        if not name.startswith("budget"):
            assert question_of(load(f"example:{name}"), catalog).problems
    listed = run("init", "--list").out
    assert all(f"example:{name}" in listed for name in examples())
    assert "did you mean `qwen7b_rl`?" in run("solve", "example:qwen7b_r").err
    assert "example:qwen7b_rl" in run("solve", "qwen7b_rl.yaml").err
    (tmp_path / "mine.yaml").write_text("x")
    assert "did you mean `mine.yaml`?" in run("solve", "mien.yaml").err
    assert "example:qwen7b_rl" in run("--help").out


@pytest.mark.parametrize(
    ("kind", "typed", "ids"),
    [
        ("gpus", "h100", ["h100-sxm5-80gb"]),
        ("gpus", "H20", ["h20-96gb"]),
        ("gpus", "4090", ["rtx-4090"]),
        ("gpus", "a100-sxm4-80gb", ["a100-sxm4-80gb"]),
        ("gpus", "NVIDIA GeForce RTX 4090", ["rtx-4090"]),
        ("gpus", "a100", ["a100-pcie-40gb", "a100-pcie-80gb", "a100-sxm4-40gb", "a100-sxm4-80gb"]),
        ("engines", "megatron", ["megatron-core"]),
        ("engines", "verl", ["verl-fsdp1", "verl-fsdp2", "verl-megatron"]),
        ("models", "Qwen/Qwen2.5-7B", ["qwen2.5-7b"]),
        ("models", "meta-llama/Llama-3.1-8B-Instruct", ["llama3.1-8b"]),
        ("models", "google/gemma-2-9b-it", ["gemma2-9b"]),
        ("models", "deepseek-ai/DeepSeek-R1", ["deepseek-r1"]),
        ("models", "deepseek-r1-distill-qwen-32b", ["deepseek-r1-distill-qwen-32b"]),
        ("models", "llama3.3", ["llama3.3-70b"]),
        ("models", "llama-3.3-70b-instruct", ["llama3.3-70b"]),
        ("models", "deepseek-v3.1", ["deepseek-v3"]),
        ("models", "qwen3-coder", ["qwen3-coder-30b-a3b", "qwen3-coder-480b-a35b"]),
        ("models", "Qwen/Qwen3-4B-Instruct-2507", ["qwen3-4b-2507"]),
        ("models", "qwen3-30b", ["qwen3-30b-a3b"]),
        (
            "models",
            "qwen7b",
            ["deepseek-r1-distill-qwen-7b", "qwen2.5-7b", "qwen2.5-coder-7b", "qwen2.5-math-7b", "qwen2.5-vl-7b"],
        ),
        ("models", "llama-405b", ["llama3.1-405b"]),
        ("models", "nobody/knows-this", []),
        ("precisions", "BF16", ["bf16"]),
        ("precisions", "int", []),
    ],
)
def test_names_people_type(catalog: Catalog, kind: str, typed: str, ids: list[str]) -> None:
    assert catalog.meant(kind, typed) == ids


def test_a_name_is_never_taken_from_another_entry(catalog: Catalog) -> None:
    """Every id, every other name and every Hugging Face id means its own entry, and nothing else."""
    for kind in ("gpus", "nodes", "models", "engines"):
        for entry in catalog.all(kind):
            for name in (entry.id, entry.id.upper(), *getattr(entry, "aliases", ()), getattr(entry, "hf_id", None)):
                if name is not None and kind != "engines":
                    assert catalog.find(kind, name).id == entry.id, name


def test_a_gpu_alone_is_a_cluster(catalog: Catalog) -> None:
    for gpu in catalog.all("gpus"):
        if gpu.usual_node is not None:
            assert catalog.find("nodes", gpu.usual_node).gpu == gpu.id
    base = "name: n\ntask: sft\nmodel: qwen2.5-0.5b\nengine: hf\nbatch: {global_batch_size: 8, sequence_length: 1024}\n"
    question = question_of(parse_document(base + "cluster: {gpu: 4090, num_gpus: 1}\n", "a"), catalog)
    assert question.first.node.id == usual_node(catalog, "rtx-4090") == "rtx-4090-box"
    both = base + "cluster: {gpu: h100, node: dgx-a100, num_gpus: 8}\n"
    with pytest.raises(InputError, match="dgx-a100 has no h100-sxm5-80gb"):
        question_of(parse_document(both, "b"), catalog)
    with pytest.raises(InputError, match="give node or gpu"):
        question_of(parse_document(base + "cluster: {num_gpus: 8}\n", "c"), catalog)


def test_a_config_json_is_a_model(tmp_path: Path) -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 5120,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "num_key_value_heads": 40,
        "intermediate_size": 13824,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
    }
    path = tmp_path / "mine" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(config))
    done = run("ask", str(path), "--gpus", "128xh100", "--task", "pretrain", "--set", "layout.tensor_parallel=2")
    assert done.code == 0, done.err
    assert "13.016 B parameters, 40 layers of 5120" in " ".join(done.out.split())
    assert done.out.startswith("mine-pretrain-128xh100-sxm5-80gb: ")


@pytest.mark.parametrize(("sequence", "said"), [("128k", False), ("256k", True)])
def test_lengths_beyond_the_network_s_own_are_said(sequence: str, said: bool, catalog: Catalog) -> None:
    found = template(Wanted("llama3.1-8b", "8xh100", sequence=int(sequence[:-1]) * 1024), catalog)
    assert any("positions stretched beyond the 131,072" in text for text in found.assumed) == said


@pytest.mark.parametrize(("model", "engine", "said"), [
    ("gemma2-2b", "fsdp2", True), ("gpt-oss-20b", "fsdp2", True), ("gpt-oss-20b", "megatron-core", False),
    ("llama3.1-8b", "fsdp2", False),
])  # fmt: skip
def test_a_kernel_that_transformers_takes_only_by_name_is_said(
    model: str, engine: str, said: bool, catalog: Catalog
) -> None:
    found = template(Wanted(model, "8xh100", engine=engine), catalog)
    assert any("fused attention kernel" in text for text in found.assumed) == said


def test_a_vision_tower_that_trains_is_asked_for_its_images(catalog: Catalog) -> None:
    """Adapters leave it out, a stated key says it."""
    full = template(Wanted("qwen2.5-vl-7b", "8xh100", "sft"), catalog)
    assert TEXT_ALONE in full.assumed
    for said in ("batch.image_tokens=1024", "frozen=[vision_tower]"):
        assert TEXT_ALONE not in full.assumed_beside([said])
    for model, task in (("qwen2.5-vl-7b", "lora"), ("qwen2.5-7b", "sft")):
        assert TEXT_ALONE not in template(Wanted(model, "8xh100", task), catalog).assumed
