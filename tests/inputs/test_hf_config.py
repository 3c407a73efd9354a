"""Published config.json families: exact counts, or a refusal that names the key. No key of any of them is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from run_cli import run

from planner.errors import InputError
from planner.formulas.parameters import count_parameters, lora_parameters
from planner.inputs.catalog import default_catalog
from planner.inputs.catalog_check import is_dated
from planner.inputs.hf_config import architecture_from_hf_config, understand_hf_config

ROWS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "hf_configs.json").read_text())
"""Keys and values of published files, re-typed as facts (auto_map and quantization_config left out), with witnesses.

`published` is the parameter total of the safetensors metadata on the model's page, tied weights once (falcon's page
counts them twice and is left out); `transformers` the count that transformers 5.23.0 makes of the same file on the meta
device. Neither knows this package. `further_layer`: a multi-token prediction layer that the page counts and we do not.
"""
LOADED = [name for name, row in ROWS.items() if "refused" not in row]


@pytest.mark.parametrize("name", LOADED)
def test_counts_of_published_files_are_exact(name: str) -> None:
    row = ROWS[name]
    counted = count_parameters(architecture_from_hf_config(row["config"], name)).total
    witnesses = {key: row[key] for key in ("published", "transformers") if key in row}
    assert witnesses, "a file without a witness proves nothing"
    for witness, total in witnesses.items():
        further = row.get("further_layer", 0) if witness == "published" else 0
        assert counted + further == total, witness


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if "refused" in row])
def test_other_networks_are_refused_by_the_name_of_a_key(name: str) -> None:
    with pytest.raises(InputError) as caught:
        architecture_from_hf_config(ROWS[name]["config"], name)
    assert f"`{ROWS[name]['refused']}" in str(caught.value)


def test_forty_families_and_two_witnesses() -> None:
    families = {row["config"]["model_type"] for row in ROWS.values()}
    assert len(families) >= 70
    assert len({ROWS[name]["config"]["model_type"] for name in LOADED}) >= 50
    assert sum("published" in ROWS[name] and "transformers" in ROWS[name] for name in LOADED) >= 45


def test_what_is_not_understood_is_named() -> None:
    found = {name: architecture_from_hf_config(ROWS[name]["config"], name).cautions for name in LOADED}
    unread = {name: [text for text in texts if "not understood" in text] for name, texts in found.items()}
    assert {name for name, texts in unread.items() if texts} == {"MiniMaxAI/MiniMax-M2.5"}


def test_what_is_counted_wrong_of_a_kind_is_said() -> None:
    """Of published files of each such kind; of no network that autograd is equal to."""
    said = {name: architecture_from_hf_config(ROWS[name]["config"], name) for name in LOADED}
    texts = {found.model_type: " ".join(found.cautions) for found in said.values()}
    marks = {
        "cohere": "a sixth of a layer more", "cohere2": "a sixth of a layer more", "ernie4_5_moe": "about 5 % more",
        "exaone4": "almost twice what is counted", "granitemoe": "about half of what is counted",
        "hunyuan_v1_moe": "about 3 % more", "llama4_text": "every expert on every token",
        "phimoe": "about half of what is counted",
    }  # fmt: skip
    assert {kind: mark in texts[kind] for kind, mark in marks.items()} == dict.fromkeys(marks, True)
    others = [kind for kind, text in texts.items() if "counted" in text and kind not in marks]
    assert not [kind for kind in others if "Under Transformers" in texts[kind]]


def test_a_network_nobody_knows_loads_until_a_shape_is_not_read() -> None:
    """A caution where its keys are all read or add no matrix; a refusal by the key's name where one may."""
    plain = {**ROWS["01-ai/Yi-6B"]["config"], "model_type": "brand_new"}
    said = " ".join(architecture_from_hf_config({**plain, "use_wonder": True}, "new").cautions)
    assert "model_type `brand_new` is not known" in said
    assert "use_wonder" in said
    for key in ("share_expert_dim", "memory_size", "num_wonders"):
        with pytest.raises(InputError, match=f"its key `{key}` states"):
            architecture_from_hf_config({**plain, key: 1280}, "new")


@pytest.mark.parametrize("name", LOADED[::9])
def test_a_key_that_nobody_knows_is_named(name: str) -> None:
    before = architecture_from_hf_config(ROWS[name]["config"], name)
    after = architecture_from_hf_config({**ROWS[name]["config"], "secret_experts": 7}, name)
    assert any("secret_experts" in text for text in after.cautions)
    assert after.model_copy(update={"cautions": before.cautions, "sources": before.sources}) == before


def test_llama_4_keeps_its_shared_expert_and_its_chunks() -> None:
    name = "meta-llama/Llama-4-Scout-17B-16E"
    found = architecture_from_hf_config(ROWS[name]["config"], name)
    assert (found.moe_intermediate_size, found.shared_expert_intermediate_size) == (8192, 8192)
    assert found.intermediate_size == 16384
    assert 48 * 3 * 5120 * found.shared_expert_intermediate_size == 6_039_797_760
    assert (found.sliding_window, found.sliding_window_layers, found.qk_norm) == (8192, 36, "none")
    assert found.rope_scaling is not None
    assert found.rope_scaling.factor == 16


def test_a_window_that_nothing_switches_on_is_none() -> None:
    """Qwen's own files say `use_sliding_window: false`; transformers' default is the same where they do not."""
    config = dict(ROWS["Qwen/Qwen2.5-7B"]["config"])
    del config["use_sliding_window"]
    assert architecture_from_hf_config(config, "q").sliding_window is None
    switched = {**config, "use_sliding_window": True, "max_window_layers": 20}
    assert architecture_from_hf_config(switched, "q").sliding_window_layers == 8


def test_towers_are_counted_or_left_out_on_request() -> None:
    name = "Qwen/Qwen2.5-VL-7B-Instruct"
    whole = understand_hf_config(ROWS[name]["config"], name)
    alone = understand_hf_config(ROWS[name]["config"], name, text_only=True)
    assert whole.architecture.vision_parameters == 676_550_144
    assert "vision tower" in whole.architecture.cautions[0]
    assert count_parameters(alone.architecture).total == 7_615_616_512
    assert alone.left_out == ("vision_config",)
    unknown = "moonshotai/Kimi-K2.5"
    assert understand_hf_config(ROWS[unknown]["config"], unknown, text_only=True).architecture.is_mla


def test_positions_and_norms_reach_the_architecture() -> None:
    found = {name: architecture_from_hf_config(ROWS[name]["config"], name) for name in LOADED}
    silent = {
        name
        for name, a in found.items()
        if a.learned_positions is None and not a.alibi and not a.no_positions and a.rope_theta is None
    }
    assert silent == set()
    assert {name for name, a in found.items() if a.norm_epsilon is None} == set()
    assert found["microsoft/Phi-3.5-mini-instruct"].rope_scaling is not None
    assert found["microsoft/Phi-3.5-mini-instruct"].rope_scaling.factor == 32
    assert found["EleutherAI/gpt-j-6b"].partial_rotary_factor == 0.25
    assert found["google/gemma-3-27b-it"].rope_theta == 1e6
    assert found["facebook/opt-1.3b"].learned_positions == 2050
    deepseek = found["deepseek-ai/DeepSeek-V3"]
    assert (deepseek.scoring_func, deepseek.n_group, deepseek.topk_group) == ("sigmoid", 8, 4)
    assert (deepseek.routed_scaling_factor, deepseek.router_correction_bias) == (2.5, True)


def test_import_writes_an_entry_that_is_the_same_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("meta-llama/Llama-4-Scout-17B-16E", "deepseek-ai/DeepSeek-V2-Lite", "openai-community/gpt2"):
        folder = tmp_path / name.rpartition("/")[2]
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(ROWS[name]["config"]))
        answer = run("model", "import", str(folder))
        assert (answer.code, answer.err.count("written")) == (0, 1)
        written = default_catalog().find("models", f"{folder.name.lower()}.yaml")
        read = architecture_from_hf_config(ROWS[name]["config"], name)
        same = {"id": read.id, "sources": read.sources}
        assert written.model_copy(update=same) == read
        assert f"{count_parameters(read).total:,} parameters" in answer.out
        assert is_dated(written.sources[0].date)
        assert run("model", "import", str(folder)).code == 2, "never over a file that is there"


def test_a_file_of_another_name_names_the_entry(tmp_path: Path) -> None:
    (tmp_path / "my-llama.json").write_text(json.dumps(ROWS["HuggingFaceTB/SmolLM3-3B"]["config"]))
    assert "id: my-llama\n" in run("model", "import", str(tmp_path / "my-llama.json"), "--out", "-").out


def test_import_refuses_by_the_key_and_can_leave_a_tower_out(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(ROWS["moonshotai/Kimi-K2.5"]["config"]))
    refused = run("model", "import", str(path), "--out", "-")
    assert (refused.code, "`vision_config`" in refused.err, "--text-only" in refused.err) == (2, True, True)
    read = run("model", "import", str(path), "--text-only", "--out", "-", "--id", "k")
    assert (read.code, read.out.startswith("# Read from config.json: 1,026,408,209,408")) == (0, True)


def test_adapters_on_latent_attention_without_a_query_rank() -> None:
    read = architecture_from_hf_config(ROWS["deepseek-ai/DeepSeek-V2-Lite"]["config"], "lite")
    q, kv, up, o = (2048, 16 * 192), (2048, 576), (512, 16 * 256), (2048, 2048)
    names = ("q_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")
    for name, sides in zip(names, (q, kv, up, o), strict=True):
        assert lora_parameters(read, 8, [name]) == 27 * 8 * sum(sides)
