"""Sweeps: every variant once, whatever was killed in between; rows say why there is no plan."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from run_cli import run

from planner.analysis.sweep import backends
from planner.analysis.sweep.store import LineStore, store_at
from planner.analysis.sweep.variants import grid
from planner.errors import InputError
from planner.inputs.document import load

ROOT = Path(__file__).resolve().parents[3]
SFT = str(ROOT / "scenarios" / "llama8b_sft_a100.yaml")
VALUES = ("--set", "limits.headroom_gib=5,75", "--set", "precision=bf16,fp8", "--set", "batch.global_batch_size=8,x")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_sweep_that_was_killed_goes_on_and_computes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, computed = tmp_path / "rows.jsonl", list[str]()
    solve = backends.row_of
    monkeypatch.setattr(backends, "row_of", lambda d, v: computed.append(v.key) or solve(d, v))
    done = run("sweep", SFT, *VALUES, "--workers", "1", "--out", str(out))
    assert done.code == 0, done.err
    whole = rows(out)
    assert len({row["key"] for row in whole}) == len(whole) == len(computed) == 8
    assert {row["status"] for row in whole} == {"optimal", "infeasible", "refused"}
    for row in whole:
        assert (row["plan"] is None) == (row["because"] is not None)
    assert "exists already" in run("sweep", SFT, *VALUES, "--workers", "1", "--out", str(out)).err
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:3]) + lines[3][:40])
    computed.clear()
    done = run("sweep", SFT, *VALUES, "--workers", "1", "--out", str(out), "--resume")
    assert "3 stored already, 5 to solve" in done.err
    assert set(computed) == {json.loads(line)["key"] for line in lines[3:]}
    assert sorted(map(str, rows(out))) == sorted(map(str, whole))
    computed.clear()
    assert "nothing left to solve" in run("sweep", SFT, *VALUES, "--workers", "1", "--out", str(out), "--resume").err
    assert not computed


def test_other_facts_make_another_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that was stored before a catalog, or a file that the scenario names, changed is not the row of today."""
    shape = json.loads((ROOT / "docs" / "config.json").read_text())
    own, config = tmp_path / "own" / "gpus", tmp_path / "config.json"
    own.mkdir(parents=True)
    config.write_text(json.dumps(shape))
    scenario = load(SFT, (f"model={config}",))

    def keys() -> list[str]:
        return [each.key for each in grid(scenario, ["limits.headroom_gib=5"])]

    found = [keys(), keys()]
    config.write_text(json.dumps({**shape, "num_hidden_layers": 3}))
    found.append(keys())
    monkeypatch.setenv("PLANNER_CATALOGS", str(own.parent))
    (own / "slow.yaml").write_text("id: slow")
    found.append(keys())
    (own / "slow.yaml").write_text("id: slower")
    found.append(keys())
    assert found[0] == found[1]
    assert len({tuple(each) for each in found}) == 4


def test_a_key_is_of_everything_that_makes_a_variant() -> None:
    base = {v.key for v in grid(load(SFT), ["limits.headroom_gib=5,10"])}
    assert len(base) == 2
    assert base == {v.key for v in grid(load(SFT), ["limits.headroom_gib=10,5"])}
    assert not base & {v.key for v in grid(load(SFT, ("search.seed=1",)), ["limits.headroom_gib=5,10"])}
    named = grid(load(str(ROOT / "scenarios" / "whatif_lora_or_full.yaml")), [])
    assert next(v.name for v in named) == "QLoRA, 4-bit base"
    with pytest.raises(InputError, match="nothing to vary"):
        grid(load(SFT), [])


def test_only_the_last_line_may_be_torn_and_one_writes_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"key":"a"}\n{"key"\n{"key":"b"}\n')
    with pytest.raises(InputError, match=r"line 2 of .* is no row of a sweep"), LineStore(str(path)):
        pass
    os.mkfifo(tmp_path / "pipe")
    for device in ("/dev/full", str(tmp_path / "pipe")):
        with pytest.raises(InputError, match="a device or a pipe"):
            store_at(device, resume=True)
    path.write_text('{"key":"a"}\n')
    with LineStore(str(path)) as store:
        with pytest.raises(InputError, match="is being written"), store_at(str(path), resume=True):
            pass
        store.add({"key": "b"})
        assert store.keys() == {"a", "b"}


def test_a_failed_variant_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    from planner.analysis.sweep import rows as module

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by us")

    monkeypatch.setattr(module, "plan", broken)
    (variant,) = grid(load(SFT), ["limits.headroom_gib=5"])
    row = module.row_of(load(SFT), variant)
    assert (row["status"], row["because"], row["plan"]) == ("failed", "ZeroDivisionError: by us", None)


def test_parquet_holds_the_same_rows(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "rows.parquet"
    for values in ("limits.headroom_gib=5", "limits.headroom_gib=5,10"):
        done = run("sweep", SFT, "--set", values, "--workers", "1", "--out", str(out), "--resume")
        assert done.code == 0, done.err
    found = [row for part in sorted(out.glob("*.parquet")) for row in parquet.read_table(part).to_pylist()]
    assert len({row["key"] for row in found}) == len(found) == 2
    assert all(row["tokens_per_second"] > 0 for row in found)
