"""The four questions of a first hour, answered by clicking in at most six actions each."""

from __future__ import annotations

import json

import pytest
from browser.conftest import Seen

pytestmark = pytest.mark.browser
MOST_ACTIONS = 6
CONFIG_13B = {
    "model_type": "llama", "hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40,
    "num_key_value_heads": 40, "intermediate_size": 13824, "vocab_size": 32000, "max_position_embeddings": 4096,
    "hidden_act": "silu", "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "torch_dtype": "float16",
}  # fmt: skip


def test_grpo_of_qwen_7b_with_16k_responses(seen: Seen) -> None:
    seen.open("")
    seen.act("fill", '[id="rl.response_length"]', "16384")
    seen.act("click", "#ask > button")
    text = seen.answer
    assert "GiB free" in text
    assert "17,408 tokens" in text
    assert seen.actions <= MOST_ACTIONS


def test_qlora_of_an_8b_on_a_4090(seen: Seen) -> None:
    seen.open("")
    seen.act("select_option", "#start", "task=qlora")
    seen.page.wait_for_url("**task=qlora**")
    seen.act("fill", '[id="on"]', "4090")
    seen.act("click", "#ask > button")
    text = seen.answer
    assert "GiB free" in text
    assert "on nf4" in text
    assert seen.actions <= MOST_ACTIONS


def test_a_13b_from_its_config_on_128_h100(seen: Seen) -> None:
    seen.open("")
    seen.act("select_option", "#start", "task=pretrain")
    seen.page.wait_for_url("**task=pretrain**")
    seen.act("click", "text=A model or scenario of your own")
    seen.act("fill", "#own-config", json.dumps(CONFIG_13B))
    seen.act("press", "#own-config", "Tab")
    seen.page.wait_for_url("**config=**")
    seen.act("fill", '[id="on"]', "128xh100")
    seen.act("click", "#ask > button")
    text = seen.answer
    assert "128 GPUs" in text
    assert "13.016 B parameters" in text
    assert seen.actions <= MOST_ACTIONS


def test_what_32k_context_would_cost(seen: Seen) -> None:
    seen.open("compare?example=llama70b_64xh100")
    seen.act("fill", "#side-1", "batch.sequence_length=32768")
    seen.act("click", "#ask > button")
    seen.page.wait_for_selector('#answer h1:has-text("against")')
    assert "32,768" in seen.answer or "32768" in seen.answer
    assert seen.actions <= MOST_ACTIONS
