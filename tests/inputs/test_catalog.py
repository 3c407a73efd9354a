"""The shipped catalogs are sound, and entries are found by name, from a user's folder, or from a config.json."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from planner.errors import InputError, Place
from planner.formulas.parameters import count_parameters
from planner.inputs.catalog import KINDS, Catalog, default_catalog, has_schema, shipped_folder
from planner.inputs.catalog_check import check_catalog
from planner.inputs.document import read_document, validate
from planner.inputs.entry_lines import stated
from planner.inputs.hf_config import architecture_from_hf_config
from planner.inputs.names import flat
from planner.inputs.unknown_entry import unplannable
from planner.schema.unplannable import UnplannableNetworks

FOLDER = shipped_folder()
SHIPPED = ("gpus", "nodes", "models", "optimizers", "precisions", "prices")


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return default_catalog()


def test_the_shipped_catalogs_are_sound(catalog: Catalog) -> None:
    assert [problem.render() for problem in check_catalog(catalog)] == []


def test_every_kind_has_entries(catalog: Catalog) -> None:
    counts = {kind: len(catalog.ids(kind)) for kind in SHIPPED}
    assert counts["gpus"] >= 29
    assert counts["nodes"] >= 50
    assert counts["models"] >= 58
    assert counts["prices"] >= 60
    assert {"adamw", "adamw-no-master", "adamw-8bit", "adafactor", "sgd", "sgd-momentum", "muon"} <= set(
        catalog.ids("optimizers")
    )
    assert {"fp32", "bf16", "fp16", "fp8", "int8", "int4", "nf4"} <= set(catalog.ids("precisions"))


def test_files_open_with_a_comment_and_name_no_registry_or_machine_path() -> None:
    hosts = ["py" + "pi.org", "python" + "hosted", "registry." + "npm" + "js", "crates" + ".io"]
    folders = [f"/{name}/" for name in ("work", "home", "tmp", "root")]
    forbidden = re.compile("|".join(map(re.escape, hosts + folders)))
    for kind in SHIPPED:
        for path in (FOLDER / kind).glob("*"):
            text = path.read_text()
            assert path.suffix == ".yaml", path
            assert text.startswith("# "), path
            assert not forbidden.search(text), path


def test_memory_and_peaks_are_plausible(catalog: Catalog) -> None:
    for gpu in catalog.all("gpus"):
        assert 0.85 * gpu.memory_marketed_gb < gpu.usable_gib <= gpu.memory_marketed_gb, gpu.id
        assert max(gpu.dense_tflops.values()) < 20_000, gpu.id
        if gpu.memory_total_mib is not None:
            assert gpu.usable_gib < gpu.memory_total_mib / 1024, gpu.id
    h100 = catalog.find("gpus", "h100-sxm5-80gb")
    assert (h100.usable_gib, h100.dense_tflops["bf16"], h100.gemm_grid) == (79.1, 989, "h100_sxm")
    assert catalog.find("gpus", "mi250x").dense_tflops["bf16"] == 191.5
    assert not catalog.find("gpus", "rtx-4090").peer_to_peer


def test_measured_data_that_entries_name_exists(catalog: Catalog) -> None:
    grids = {gpu.gemm_grid for gpu in catalog.all("gpus")} - {None}
    for grid in grids:
        assert catalog.data_file(f"measured/gemm_{grid}.json").is_file()
    curves = json.loads(catalog.data_file("measured/nccl.json").read_text())["curves"]
    known = {curve["device"] for curve in curves}
    named = {node.links.measured_as for node in catalog.all("nodes")} - {None}
    assert named <= known
    with pytest.raises(InputError, match="no file measured/none"):
        catalog.data_file("measured/none.json")


def test_links_fit_their_kind(catalog: Catalog) -> None:
    for node in catalog.all("nodes"):
        links = node.links
        if links.kind in ("switch", "pcie_tree"):
            assert links.gb_per_s_per_gpu, node.id
        if links.kind in ("full_mesh", "bridged_pairs"):
            assert links.gb_per_s_per_pair, node.id
        if links.kind == "hybrid_cube_mesh":
            ends = [gpu for a, b, count in links.edges for gpu in (a, b) for _ in range(count)]
            assert {ends.count(gpu) for gpu in range(node.gpus_per_node)} == {6}, node.id
        network = node.nics.count * node.nics.gbit_per_s_each / 8 / node.gpus_per_node
        assert network == pytest.approx(node.nics.gb_per_s_per_gpu, rel=0.01), node.id


def test_optimizer_bytes(catalog: Catalog) -> None:
    adamw = catalog.find("optimizers", "adamw")
    assert (adamw.state_bytes, adamw.master_bytes, adamw.memory_passes_bytes) == (8, 4, 30)
    assert catalog.find("optimizers", "adafactor").factored
    assert catalog.find("precisions", "nf4").weight_bytes == pytest.approx(4.127 / 8, rel=1e-3)
    assert not catalog.find("precisions", "nf4").trainable


@pytest.mark.parametrize(
    ("kind", "name", "guess"),
    [
        ("gpus", "h100-smx5-80gb", "h100-sxm5-80gb"),
        ("gpus", "H200-sxm-141gib", "h200-sxm-141gb"),
        ("models", "llama3-8bb", "llama3-8b"),
        ("nodes", "dxg-h100", "dgx-h100"),
        ("optimizers", "adam", "adamw"),
        ("precisions", "bf61", "bf16"),
        ("kindz", "x", ""),
    ],
)
def test_unknown_names(catalog: Catalog, kind: str, name: str, guess: str) -> None:
    with pytest.raises(InputError) as caught:
        catalog.find(kind, name, Place("s.yaml", 3, 5))
    (problem,) = caught.value.problems
    assert "unknown" in problem.what
    assert guess in (problem.attempt or "")
    if guess:
        assert str(problem.where) == "s.yaml:3:5"
    assert caught.value.exit_code == 2


def test_used_lists_what_was_read() -> None:
    fresh = default_catalog()
    assert fresh.used() == {}
    fresh.find("nodes", "dgx-h100")
    fresh.find("gpus", "h100-sxm5-80gb")
    assert list(fresh.used()) == ["gpus/h100-sxm5-80gb.yaml", "nodes/dgx-h100.yaml"]
    assert all(len(digest) == 64 for digest in fresh.used().values())
    assert fresh.find("gpus", "h100-sxm5-80gb") is fresh.find("gpus", "h100-sxm5-80gb")


def test_a_user_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gpus").mkdir()
    text = (FOLDER / "gpus" / "l4.yaml").read_text()
    (tmp_path / "gpus" / "l4.yaml").write_text(text.replace("tdp_w: 72", "tdp_w: 60"))
    (tmp_path / "gpus" / "mine.yaml").write_text(text.replace("id: l4\n", "id: mine\n"))
    assert default_catalog([tmp_path]).find("gpus", "l4").tdp_w == 60
    assert default_catalog().find("gpus", "l4").tdp_w == 72
    monkeypatch.setenv("PLANNER_CATALOGS", os.pathsep.join([str(tmp_path), ""]))
    assert default_catalog().find("gpus", "mine").id == "mine"
    monkeypatch.setenv("PLANNER_CATALOGS", str(tmp_path / "none"))
    with pytest.raises(InputError, match="is not a folder"):
        default_catalog()


def test_check_finds_every_kind_of_mistake(tmp_path: Path) -> None:
    def put(kind: str, name: str, text: str) -> None:
        (tmp_path / kind).mkdir(exist_ok=True)
        (tmp_path / kind / f"{name}.yaml").write_text(text)

    def shipped(kind: str, name: str) -> str:
        return (FOLDER / kind / f"{name}.yaml").read_text()

    gpu = shipped("gpus", "l4")
    put("gpus", "renamed", gpu)
    put("gpus", "broken", "a: [")
    put("gpus", "undated", re.sub(r'date: "[^"]*"', 'date: "soon"', gpu.replace("id: l4", "id: undated"), count=1))
    put("gpus", "unsourced", gpu.replace("id: l4", "id: unsourced").split("sources:")[0] + "sources: []\n")
    put("gpus", "adrift", gpu.replace("id: l4", "id: adrift").replace("gemm_grid_from: l40s", "gemm_grid_from: l4"))
    put("gpus", "ungridded", gpu.replace("id: l4", "id: ungridded").replace("gemm_grid_from: l40s\n", ""))
    put("gpus", "odd", gpu.replace("id: l4", "id: odd").replace("fp32: 30.3", "fp33: 30.3"))
    node = shipped("nodes", "dgx-h100")
    put("nodes", "lost", node.replace("id: dgx-h100", "id: lost").replace("gpu: h100-sxm5-80gb", "gpu: h101"))
    price = shipped("prices", "lambda-8x-h100")
    put(
        "prices",
        "swapped",
        price.replace("id: lambda-8x-h100", "id: swapped").replace("node: hgx-h100-8", "node: dgx-a100"),
    )
    put("prices", "free", re.sub(r"id: .*", "id: free", re.sub(r"on_demand_usd.*\n", "", price)))
    model = shipped("models", "llama3-8b").replace("id: llama3-8b\n", "id: off\n")
    put("models", "off", model.replace("total: 8030261248", "total: 8030261249").replace("token: 8", "token: 7"))
    put(
        "precisions",
        "odd8",
        shipped("precisions", "bf16").replace("id: bf16", "id: odd8").replace("compute: bf16", "compute: b"),
    )

    found = "\n".join(problem.render() for problem in check_catalog(Catalog([tmp_path, FOLDER])))
    for words in (
        "id `l4` is not the file name `renamed`",
        "broken.yaml is not valid YAML",
        "source date 'soon'",
        "sources must hold at least 1 items",
        "gemm_grid_from `l4` has no grid of its own",
        "either its own gemm_grid or a gemm_grid_from",
        "unknown precisions: fp33",
        "gpu `h101` is no entry of gpus/",
        "node `dgx-a100` has a100-sxm4-80gb",
        "the offer names no price",
        "counted 8,030,261,248 parameters, published 8,030,261,249",
        "active parameters",
        "compute `b` is no key",
    ):
        assert words in found
    assert found.count("Error:") == 13


def test_kinds_without_a_schema_yet_are_left_alone() -> None:
    assert [kind for kind in KINDS if not has_schema(kind)] in ([], ["engines", "rollouts"])


MLA = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama3-8b": {"torch_dtype": "bfloat16", "head_dim": None, "rope_scaling": None},
    "qwen2.5-7b": {"use_sliding_window": False, "sliding_window": 131072},
    "qwen3-30b-a3b": {
        "head_dim": 128,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "mlp_only_layers": [],
        "decoder_sparse_step": 1,
    },
    "mixtral-8x7b": {"num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None},
    "deepseek-v2-lite": {
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "num_experts_per_tok": 6,
        "moe_intermediate_size": 1408,
        "first_k_dense_replace": 1,
        "moe_layer_freq": 1,
        "q_lora_rank": None,
        **MLA,
    },
    "deepseek-v3": {
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 2048,
        "first_k_dense_replace": 3,
        "moe_layer_freq": [0] * 3 + [1] * 58,
        "q_lora_rank": 1536,
        **MLA,
    },
    "gpt-oss-20b": {
        "head_dim": 64,
        "attention_bias": True,
        "num_local_experts": 32,
        "num_experts_per_tok": 4,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"] * 12,
    },
    "glm-4.5": {
        "head_dim": 128,
        "attention_bias": True,
        "use_qk_norm": True,
        "n_routed_experts": 160,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 1536,
        "first_k_dense_replace": 3,
    },
    "gemma2-9b": {"head_dim": 256, "sliding_window": 4096},
    "olmo2-7b": {},
}
COPIED = (
    *("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("intermediate_size", "vocab_size", "tie_word_embeddings", "max_position_embeddings"),
)


def config_of(catalog: Catalog, name: str) -> dict[str, Any]:
    entry = catalog.find("models", name)
    return {**{key: getattr(entry, key) for key in COPIED}, **CONFIGS[name]}


@pytest.mark.parametrize("name", CONFIGS)
def test_config_json_gives_the_catalog_architecture(catalog: Catalog, name: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config_of(catalog, name)))
    fresh = default_catalog()
    for given in (str(path), str(tmp_path)):
        found, known = fresh.find("models", given), catalog.find("models", name)
        assert count_parameters(found) == count_parameters(known)
        assert (found.sliding_window_layers, found.head_dim) == (known.sliding_window_layers, known.head_dim)
        assert given in fresh.used()


def test_nested_and_other_configs(catalog: Catalog) -> None:
    gemma = {key: getattr(catalog.find("models", "gemma3-4b"), key) for key in COPIED}
    nested = {"model_type": "gemma3", "text_config": {**gemma, "head_dim": 256, "sliding_window": 1024}}
    assert count_parameters(architecture_from_hf_config(nested, "g")).total == 3_880_263_168
    gpt2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}
    assert count_parameters(architecture_from_hf_config(gpt2, "g")).total == 124_439_808
    unknown = {**config_of(catalog, "llama3-8b"), "model_type": "brand_new"}
    assert count_parameters(architecture_from_hf_config(unknown, "u")).total == 8_030_261_248


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"hidden_size": None, "vocab_size": None},
            "missing hidden_size or n_embd or n_embed or d_model or dim, vocab_size",
        ),
        ({"intermediate_size": None}, "missing intermediate_size"),
        ({"num_experts": 8}, "missing num_experts_per_tok"),
        ({"hidden_size": "4096"}, "hidden_size must be whole numbers"),
        ({"num_attention_heads": 0}, "num_attention_heads must be whole numbers"),
        ({"num_key_value_heads": 7}, "must be a multiple of"),
        ({"kv_lora_rank": 512}, "kv_lora_rank needs"),
        ({"ssm_state_size": 16}, "Mamba"),
        ({"num_experts": 8, "num_experts_per_tok": 2, "decoder_sparse_step": 2}, "alternate"),
        ({"num_experts": 8, "num_experts_per_tok": 2, "mlp_only_layers": [5]}, "alternate"),
    ],
)
def test_configs_that_cannot_be_planned(catalog: Catalog, change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        architecture_from_hf_config({**config_of(catalog, "llama3-8b"), **change}, "c.json")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is not JSON"),
        (b"[1]", "holds no JSON object"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"[" * 100_000, "nested too deep"),
        (b" " * 300_000, "larger than 256 KiB"),
    ],
)
def test_bad_json(catalog: Catalog, tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        catalog.find("models", str(path))
    assert words in str(caught.value)


def test_lines_of_an_entry_say_what_its_yaml_does(tmp_path: Path) -> None:
    models = {path.stem: path for path in (FOLDER / "models").glob("*.yaml")}
    whole = default_catalog()
    for name in models:
        for key in ("hf_id", "num_hidden_layers", "hidden_size"):
            value = getattr(whole.find("models", name), key)
            assert stated(models, name, key) == ("" if value is None else str(value)), (name, key)
    (tmp_path / "flow.yaml").write_text("{id: flow, hidden_size: 64}\n")
    assert stated({"flow": tmp_path / "flow.yaml"}, "flow", "hidden_size") is None
    fresh = default_catalog()
    assert fresh.may_state("models", "hidden_size", "12288".__eq__) == ["gpt3-175b", "mistral-large-123b"]
    assert fresh.used() == {}


def test_other_ways_to_name_a_model(catalog: Catalog) -> None:
    assert catalog.find("models", "Qwen/Qwen3-8B").id == "qwen3-8b"
    assert catalog.find("models", str(FOLDER / "models" / "qwen3-8b.yaml")).id == "qwen3-8b"
    with pytest.raises(InputError, match="no such file"):
        catalog.find("models", "nowhere/config.json")
    with pytest.raises(InputError, match="unknown model"):
        catalog.find("models", "nobody/nothing")


REFUSED_BY_NAME = {
    "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16": "experts in a latent space",
    "nvidia/NVIDIA-Nemotron-Nano-12B-v2-VL-BF16": "layers of Mamba-2",
    "tiiuae/Falcon-H1-7B-Base": "Mamba layers",
    "google/gemma-3n-E2B-it": "an embedding for every layer",
    "google/gemma-4-E4B-it": "an embedding for every layer",
    "google/gemma-4-31B-it": "attention heads of two sizes",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": "experts that Transformers computes for every token",
    "deepseek-ai/DeepSeek-V3.2-Exp": "sparse attention",
    "zai-org/GLM-5.1": "sparse attention",
    "LiquidAI/LFM2-8B-A1B": "short convolutions",
    "CohereForAI/c4ai-command-r7b-12-2024": "layer norms computed in fp32",
    "/tmp/Llama-3.2-11B-Vision-Instruct/": "cross-attention",
    "Qwen/Qwen3-Omni-30B-A3B-Instruct": "a tower for sound",
    "moonshotai/Kimi-K2.5": "a vision tower whose parameters are not counted",
}


@pytest.mark.parametrize("name", REFUSED_BY_NAME)
def test_a_network_without_words_is_refused_by_its_name(catalog: Catalog, name: str) -> None:
    with pytest.raises(InputError) as caught:
        catalog.find("models", name)
    (said,) = caught.value.problems
    assert said.what.startswith(f"`{name}` cannot be planned: it has ")
    assert REFUSED_BY_NAME[name] in said.what
    assert said.attempt


def test_no_refusal_by_name_hides_a_network_and_each_names_ones_that_are_there() -> None:
    path = FOLDER / "unplannable" / "networks.yaml"
    whole = default_catalog()
    for model in whole.all("models"):
        for name in (model.id, *model.aliases, *filter(None, [model.hf_id])):
            assert unplannable(name, path, None) is None, name
    for entry in validate(read_document(path), UnplannableNetworks).networks:
        assert all(name == flat(name) for name in entry.named)
        named = re.findall(r"[a-z]+[0-9.]*-[a-z0-9.-]*b\b", entry.instead)
        assert set(named) <= set(whole.ids("models"))
