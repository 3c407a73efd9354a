"""Every command that answers a question, on every shipped scenario: one screen of 24 lines and 80 characters.

Slow, so not part of the main suite: python -m pytest tests/slow
"""

from __future__ import annotations

from pathlib import Path

import pytest
from run_cli import run

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / "scenarios").glob("*.yaml"))
PLANS = [name for name in NAMES if not name.startswith("budget")]
ON_A_4090 = ("llama8b_lora_4090", "whatif_lora_or_full")
CASES = [
    *(("solve", name) for name in PLANS),
    *(("near", name) for name in PLANS),
    *(("pareto", name) for name in PLANS),
    *(("explain", name) for name in PLANS),
    *(("explain", name, "--set", f"limits.headroom_gib={20 if name in ON_A_4090 else 70}") for name in PLANS),
    *(("whatif", name, "--set", "limits.headroom_gib=5,10,70") for name in PLANS),
    *(("compare", name, "--set-b", "limits.headroom_gib=12") for name in PLANS),
    *(("budget", name) for name in NAMES if name.startswith("budget")),
    *(("rl-lengths", name) for name in PLANS if "qwen" in name),
    *(("estimate", name) for name in ("qwen7b_rl_8gpu", "qwen3_4b_retool", "qwen7b_dapo_h20")),
]


@pytest.mark.parametrize("arguments", CASES, ids=lambda arguments: " ".join(arguments))
def test_one_screen(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command, name, *more = arguments
    result = run(command, f"scenarios/{name}.yaml", *more)
    assert result.code in (0, 1), result.err
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= 80, [line for line in lines if len(line) > 80]
    assert len(lines) <= 24, result.out
