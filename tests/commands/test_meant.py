"""What people type for another thing: each is told what it is, and what to type."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_cli import run

ROOT = Path(__file__).resolve().parents[2]
RL = "scenarios/qwen7b_rl.yaml"
HEADROOM = "limits.headroom_gib=10"
SCRIPT = "tests/golden/launch_qwen7b_rl_slime.sh"
TYPED = [
    (("whatif", RL, f"{HEADROOM},20"), f"try:     --set {HEADROOM},20, or"),
    (("solve", RL, HEADROOM, "cluster.max_gpus=2"), f"try:     --set {HEADROOM} --set cluster.max_gpus=2, or"),
    (("lint", SCRIPT, "cluster.num_gpus=8"), "try:     --set cluster.num_gpus=8, or"),
    (("ask", "qwen2.5-7b", "--gpus", "8xh100", HEADROOM), f"try:     --set {HEADROOM}, or"),
    (("solve", RL, "--headroom-gib", "10"), "try:     --set limits.headroom_gib=VALUE, or"),
    (("solve", RL, "--limits.headroom_gib=10"), "try:     --set limits.headroom_gib=VALUE, or"),
    (("ask", "llama3.1-70b", "--gpus", "8xa100-40"), "a100-40 may mean `a100-pcie-40gb`, `a100-sxm4-40gb`"),
    (("compare", RL, "--set", HEADROOM), "try:     --set-b PATH=VALUE, or"),
    (("compare", RL, HEADROOM), "a value of a scenario stands behind --set"),
    (("launch", RL), "try:     planner launch example:qwen7b_rl --to slime --out plan.sh, or"),
    (("solve",), "try:     planner solve example:qwen7b_rl, or planner solve --help"),
    (("solve", RL, "--set", "headroom_gib=10"), "did you mean `limits.headroom_gib`?"),
    (("solve", "qwen7b_rl"), "try:     example:qwen7b_rl"),
    (("explain", "qwen7b_r"), "try:     example:qwen7b_rl"),
    (("solve", "meta-llama/Llama-3.1-8B-Instruct"), "try:     planner ask llama3.1-8b --gpus 8xh100"),
    (("solve", "h100"), "try:     planner ask MODEL --gpus 8xh100\n"),
    (("solve", "docs/config.json"), "try:     planner ask docs/config.json --gpus 8xh100"),
    (("solve", "catalogs/models/qwen2.5-7b.yaml"), "try:     planner catalog show models qwen2.5-7b"),
    (("solve", SCRIPT), f"try:     planner lint {SCRIPT}"),
    (("whatif", "mkdocs.yml", "--set", HEADROOM), "it has none of the keys cluster, engine, model, task"),
    (("solve", "scenarios/budget_spot.yaml"), "try:     planner budget scenarios/budget_spot.yaml"),
    (("budget", RL), f"try:     planner solve {RL}"),
    (("lint", RL), f"try:     planner solve {RL}"),
]


@pytest.mark.parametrize(("arguments", "said"), TYPED, ids=lambda case: " ".join(case) if type(case) is tuple else "")
def test_what_was_meant_is_said_once(arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert result.err.count("Error: ") == 1
    assert "where:" in result.err


def test_a_scenario_with_mistakes_is_still_a_scenario(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("name: x\ntask: pretrain\nmodel: llama3.1-8b\nengin: megatron-core\n")
    result = run("solve", str(path))
    assert result.code == 2
    assert result.err.count("Error: ") == 2
    assert "did you mean `engine`?" in result.err


def test_one_value_where_a_list_is_asked_is_shown_as_one(tmp_path: Path) -> None:
    path = tmp_path / "budget.yaml"
    text = (ROOT / "scenarios" / "budget_spot.yaml").read_text()
    line = next(each for each in text.splitlines() if "nodes: [" in each)
    whole = line.split("nodes: ")[1].split("]")[0] + "]"
    path.write_text(text.replace(f"nodes: {whole}", "nodes: 64", 1))
    result = run("budget", str(path))
    assert result.code == 2
    assert "expected a list, got 64" in result.err
    assert "try:     [64]" in result.err
