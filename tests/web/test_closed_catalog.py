from __future__ import annotations

import json
from pathlib import Path

import pytest
from web.conftest import SMALL

from planner.errors import InputError
from planner.inputs.document import document_of
from planner.web.asked import answer
from planner.web.closed_catalog import closed_catalog, refuse_files
from planner.web.state import PASTED

SECRET = "a line of a file that is nobody's business"


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("secret.yaml", "config.json", "secret.json"):
        (tmp_path / name).write_text(SECRET)
    return tmp_path


@pytest.mark.parametrize(
    "name", ["secret.yaml", "config.json", "./secret.yaml", "../x/config.json", ".", "/etc/passwd"]
)
def test_no_model_name_opens_a_file(secret: Path, name: str) -> None:
    for each in (name, str(secret / name)):
        found = answer("solve", {"text": json.dumps({**SMALL, "model": each}), "name": "x"}, 5.0)
        assert found["exit_code"] == 2
        assert "unknown model" in found["problems"][0]["what"]
        assert SECRET not in json.dumps(found)


@pytest.mark.parametrize(
    ("path", "value"),
    [("calibration", "secret.yaml"), ("cluster.topology", "secret.yaml"), ("cluster.nccl_tests", ["secret.yaml"])],
)
def test_no_key_opens_a_file(secret: Path, path: str, value: object) -> None:
    asked = {"text": json.dumps(SMALL), "name": "x", "overrides": [f"{path}={json.dumps(value)}"]}
    for kind in ("solve", "explain", "near", "front", "launch"):
        found = answer(kind, asked, 5.0)
        assert found["exit_code"] == 2
        assert path in found["problems"][0]["what"]
    asked = {"text": json.dumps(SMALL), "name": "x", "why_not": [f"{path}={json.dumps(value)}"]}
    assert answer("explain", asked, 5.0)["exit_code"] == 2


def test_a_pasted_config_is_a_model() -> None:
    config = {
        "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "tie_word_embeddings": False,
    }  # fmt: skip
    assert closed_catalog(json.dumps(config)).find("models", PASTED).hidden_size == 4096
    with pytest.raises(InputError, match="no JSON"):
        closed_catalog("{").find("models", PASTED)
    with pytest.raises(InputError, match="unknown model"):
        closed_catalog().find("models", PASTED)


def test_a_scenario_without_files_passes() -> None:
    refuse_files(document_of(SMALL))
