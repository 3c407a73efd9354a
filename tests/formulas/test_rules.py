"""Rules of thumb give what their articles print, and the page says how far they carry."""

from __future__ import annotations

import json

import pytest
from run_cli import run

from planner.analysis.rules_of_thumb import RuleBook
from planner.formulas import rules_of_thumb as rules
from planner.formulas.parameters import lora_parameters
from planner.inputs.catalog import default_catalog
from planner.search.plan import Plan
from planner.units import GB, GIB

PUBLISHED = [
    ("16 bytes, 1 billion", rules.training_state_bytes(parameters=1e9) / GB, 16.0),
    ("16 bytes, 7 billion", rules.training_state_bytes(parameters=7e9) / GB, 112.0),
    ("weights 7B bf16", rules.weight_rule_bytes(parameters=7e9, precision="bf16") / GB, 14.0),
    ("weights 7B fp32", rules.weight_rule_bytes(parameters=7e9, precision="fp32") / GB, 28.0),
    ("weights 1B int8", rules.weight_rule_bytes(parameters=1e9, precision="int8") / GB, 1.0),
    ("Adam 7B", rules.optimizer_rule_bytes(parameters=7e9, optimizer="adamw-no-master") / GB, 56.0),
    ("Adam and master 1B", rules.optimizer_rule_bytes(parameters=1e9, optimizer="adamw") / GB, 12.0),
    ("SGD", rules.optimizer_rule_bytes(parameters=7e9, optimizer="sgd"), 0.0),
    ("Llama-70B served in 16 bit", rules.inference_bytes(parameters=70e9, bits=16) / GB, 168.0),
    ("Llama-70B served in 4 bit", rules.inference_bytes(parameters=70e9, bits=4) / GB, 42.0),
    ("1 billion in fp32", rules.fp32_training_bytes(parameters=1e9) / GB, 17.0),
    ("neurons of a layer of 10B", rules.square_root_neurons_bytes(parameters=10e9, batch=32) / 1e6, 6.4),
    ("10B on two GPUs without activations", rules.spread_bytes(parameters=10e9, ranks=2) / GB, 60.0),
    ("10B on two GPUs, at most", (rules.spread_bytes(parameters=10e9, ranks=2) + 4 * 10e9) / GB, 100.0),
    ("quick estimate as the code gives it", rules.quick_estimate_gb(parameters_billion=7), 120.75),
]


@pytest.mark.parametrize(("ours", "published"), [case[1:] for case in PUBLISHED], ids=[case[0] for case in PUBLISHED])
def test_a_rule_gives_what_its_article_prints(ours: float, published: float) -> None:
    assert ours == pytest.approx(published, rel=1e-9)


def test_the_comment_beside_the_quick_estimate_is_not_what_it_gives() -> None:
    assert rules.QUICK_ESTIMATE_COMMENT_GB == 73.6
    assert rules.quick_estimate_gb(parameters_billion=7) != pytest.approx(rules.QUICK_ESTIMATE_COMMENT_GB, rel=0.5)


def test_a_plan_beside_the_rules_is_costed_once_for_each_value_that_changes() -> None:
    book = RuleBook("qwen2.5-0.5b", default_catalog())
    short, long = (book.plan({"batch.sequence_length": tokens}) for tokens in (3072, 8192))
    assert isinstance(short, Plan)
    assert isinstance(long, Plan)
    assert long.peak_gib > 1.5 * short.peak_gib
    assert book.plan({"batch.sequence_length": 3072}) is short


def test_the_cache_of_the_article_is_gib() -> None:
    size = rules.key_value_bytes(num_hidden_layers=28, width=3584, sequence_length=8192, batch=8, bytes_each=2)
    assert round(size / GIB, 1) == 24.5
    assert round(size / GB, 1) == 26.3
    half = rules.key_value_bytes(num_hidden_layers=28, width=3584, sequence_length=4096, batch=4, bytes_each=2)
    assert round(half / GIB, 1) == 6.1


def test_rank_16_adapters_of_llama_3_8b() -> None:
    assert lora_parameters(default_catalog().find("models", "llama3-8b"), 16) == 41_943_040


def rows(*arguments: str) -> dict[str, dict[str, object]]:
    result = run("estimate", "--rules", *arguments, "--format", "json")
    assert result.code == 0, result.err
    return {row["name"]: row for row in json.loads(result.out)["rules"]}


def test_a_billion_parameters_in_fp32_take_sixteen_bytes_each() -> None:
    table = rows("olmo2-1b", "--precision", "fp32")
    # The example's own sum: 4 of weights, 4 of gradients, 8 of Adam; no master copy beside fp32 weights.
    assert table["16 bytes a parameter"]["rule_gb"] == pytest.approx(1.484916736 * 16)
    assert table["16 bytes a parameter"]["ours_gb"] == pytest.approx(1.484916736 * 16)
    for name, each in (("weights", 4), ("gradients", 4), ("Adam moments", 8)):
        assert table[name]["ours_gb"] == pytest.approx(1.484916736 * each)


def test_rules_stand_beside_our_figures() -> None:
    table = rows("qwen2.5-7b")
    sixteen = table["16 bytes a parameter"]
    assert sixteen["rule_gb"] == pytest.approx(121.849864)
    # Megatron keeps gradients in fp32: 18 bytes a parameter.
    assert sixteen["ours_gb"] == pytest.approx(7_615_616_512 * 18 / GB, rel=1e-6)
    cache = table["key-value cache, multi-head"]
    assert cache["rule_gb"] == pytest.approx(7 * float(str(cache["ours_gb"])))
    assert float(str(table["quick estimate"]["rule_gb"])) == pytest.approx(7.615616512 * 17.25)
    for name in ("inference x 1.2, 16 bit", "square-root checkpointing", "FSDP over 8 GPUs", "LoRA, rank 16"):
        assert table[name]["ours_gb"] is not None


def test_every_rule_of_the_articles_is_there_by_name() -> None:
    table = rows("llama3-8b")
    share = table["LoRA's share, rank 16"]
    assert (share["unit"], share["rule"], share["rule_gb"]) == ("%", 0.524, None)
    assert share["ours"] == pytest.approx(100 * 41_943_040 / 8_030_261_248)
    for name, rule in (
        *(("LoRA takes less", 70), ("checkpointing costs", 30), ("quantisation to int4 saves", 4)),
        *(
            ("quantisation to int8 saves", 2),
            ("state when the batch doubles", 2),
            ("attention when the length doubles", 4),
        ),
    ):
        assert table[name]["rule"] == rule
        assert table[name]["ours"] not in (None, rule)
    assert table["state when the batch doubles"]["ours"] == 1
    for name in (
        *("overhead, 10% on top", "overhead, 20% on top", "activations at batch 32, at least", "training in fp32"),
        *("activations of a layer by neurons", "2 GPUs, activations undivided, at most", "tensor parallel over 2"),
        *("TP2 x PP2", "activations from the weights", "weights in int8", "weights in int4", "inference x 1.2, 8 bit"),
        *("inference x 1.2, 4 bit", "optimizer state, plain SGD", "optimizer state, 8-bit Adam"),
        *("optimizer state, Adafactor", "data loading, checkpoint buffers", "8,192 to 3,072 tokens frees"),
    ):
        assert table[name]["ours_gb"] is not None, name
    assert table["data loading, checkpoint buffers"]["rule"] is None
    assert {row["source"] for row in table.values()} >= {
        rules.GUIDE, rules.TRAIN_BIG, rules.HOW_MUCH, rules.COMPLETE, rules.LESSON,
    }  # fmt: skip


def test_adapters_of_latent_attention_have_figures() -> None:
    table = rows("deepseek-v2-lite")
    assert table["LoRA, rank 16"]["ours_gb"] == pytest.approx(table["LoRA, rank 16"]["rule_gb"], rel=0.05)


def test_length_and_batch_move_activations_and_cache_only() -> None:
    short, long = rows("llama3-8b", "--seq", "1024"), rows("llama3-8b", "--seq", "2048", "--batch", "2")
    assert short["weights"] == long["weights"]
    for name in ("activations, k = 10", "key-value cache, multi-head"):
        assert float(str(long[name]["rule_gb"])) == pytest.approx(4 * float(str(short[name]["rule_gb"])))


@pytest.mark.parametrize("model", ["deepseek-v3", "gpt3-175b", "mixtral-8x7b", "gemma2-9b"])
def test_unusual_architectures_have_rules_too(model: str) -> None:
    table = rows(model)
    assert all(row["ours_gb"] is not None or row["ours_is"] for row in table.values())


def test_the_page_names_the_wrong_comment_and_the_articles() -> None:
    page = run("estimate", "--rules", "qwen2.5-7b").out
    assert "gives 120.75 GB for 7 billion parameters; the comment beside it claims 73.6" in " ".join(page.split())
    assert rules.GUIDE in page
    assert max(len(line) for line in page.splitlines()) <= 120


def test_an_unknown_model_is_an_input_error() -> None:
    result = run("estimate", "--rules", "qwen-7")
    assert result.code == 2
    assert "unknown model" in result.err
