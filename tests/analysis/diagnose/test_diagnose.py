"""Out-of-memory messages of published reports, read against scenarios: who asked, in which phase, which fix."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from planner.analysis.diagnose.diagnose import Diagnosis, diagnose
from planner.analysis.diagnose.message import printed_range, read_message
from planner.cli import main
from planner.errors import InputError
from planner.inputs.catalog import default_catalog
from planner.inputs.document import load
from planner.problem.resolve import question_of
from planner.units import GIB

ROOT = Path(__file__).resolve().parents[3]
RETOOL = str(ROOT / "scenarios" / "qwen3_4b_retool.yaml")
QWEN7B = str(ROOT / "scenarios" / "qwen7b_rl_8gpu.yaml")
PLAIN = str(ROOT / "scenarios" / "llama8b_lora_4090.yaml")

SLIME_1951 = """\
    log_prob = compute_log_probs(logits.clone(), tokens, tp_group)
  File "slime/utils/ppo_utils.py", line 672, in calculate_log_probs_and_entropy
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 58.15 GiB. GPU 0 has a total capacity of 139.81 GiB of \
which 47.69 GiB is free. Process 22249 has 3.24 GiB memory in use. Including non-PyTorch memory, this process has \
88.83 GiB memory in use. Of the allocated memory 82.55 GiB is allocated by PyTorch, and 2.06 GiB is reserved by \
PyTorch but unallocated."""
SLIME_1767 = """\
    return conversion(val)
  File "megatron/core/transformer/module.py", line 373, in float_conversion
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 61.34 GiB. GPU 3 has a total capacity of 79.11 GiB of \
which 27.07 GiB is free. Process 520735 has 3.17 GiB memory in use. Process 530150 has 48.84 GiB memory in use. Of the \
allocated memory 44.61 GiB is allocated by PyTorch, and 410.55 MiB is reserved by PyTorch but unallocated.
(MegatronTrainRayActor pid=1076535) [torch_memory_saver.cpp] TorchMemorySaver::malloc return OOM since \
memory_margin_bytes=1073741824 (alloc)size=65867350016 free_bytes=28822863872 [repeated 3x across cluster]"""
NEMO_2871 = """\
MegatronPolicyWorker.train -> SequencePackingLossWrapper.__call__ -> prepare_loss_input
  -> get_next_token_logprobs_from_logits -> DistributedLogprob.forward -> _compute_distributed_log_softmax
torch.OutOfMemoryError: Tried to allocate 12.60 GiB. GPU had 12.44 GiB free of 79.19"""
VERL_2950 = """\
ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.
Memory on the node (IP: 10.0.0.1, ID: 4748) where the task (actor ID: 9e43, name=WorkerDict.__init__, pid=4100606, \
memory used=56.57GB) was running was 246.41GB / 251.54GB (0.979583), which exceeds the memory usage threshold of \
0.95."""
RAY = "(raylet) node_manager.cc:3069: 1 Workers (tasks / actors) killed due to memory pressure (OOM), 0 Workers crashed"
KERNEL = "Memory cgroup out of memory: Killed process 4100606 (ray::Worker) total-vm:99999999kB, anon-rss:58720256kB"
VLLM_START = "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"
SGLANG_START = "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static."
VLLM_GREEDY = (
    "ValueError: Free memory on device (43.21/79.33 GiB) on startup is less than desired GPU memory utilization "
    "(0.9, 71.40 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
)
VLLM_LONG = (
    "ValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (9.52 GiB)."
)
SGLANG_RUNNING = """\
  File "/sgl-workspace/sglang/python/sglang/srt/managers/scheduler.py", line 2753, in event_loop_overlap
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.02 GiB. GPU 0 has a total capacity of 79.11 GiB of \
which 512.00 MiB is free."""
VERL_1649 = "vllm wake_up(tags=['weights'])\nCUDA Error: out of memory at csrc/cumem_allocator.cpp:62"
SGLANG_FULL = "[TP7] KV cache pool is full. Retract requests. #retracted_reqs: 1, #new_token_ratio: 0.4533 -> 0.4767"


def read(text: str, scenario: str = RETOOL, *overrides: str) -> Diagnosis:
    return diagnose(question_of(load(scenario, overrides)).first, text)


def fixes(found: Diagnosis) -> str:
    return "\n".join(found.fixes)


def test_slime_1951_is_a_micro_batch_22_times_over_its_cap() -> None:
    found = read(SLIME_1951)
    assert found.best is not None
    assert (found.best.name, found.best.tokens) == ("logits, fp32", (205_285, 205_319))
    assert found.best.unit_bytes == 76_032 * 4
    assert found.best.plausibility == "likely"
    assert found.best.excess == pytest.approx(205_302 / 9_216, rel=1e-6)
    assert found.phase == "training, logits and loss"
    assert "micro-batch over its token cap" in fixes(found)
    assert "chunked log-probabilities do not help" in fixes(found)
    assert any("no fragmentation" in f for f in found.findings)
    assert any("was larger than what the scenario describes" in f for f in found.findings)
    assert found.message.others == pytest.approx(3.24 * GIB)


def test_a_scenario_that_dies_before_the_message_describes_more_than_ran() -> None:
    full = read(SLIME_1951, RETOOL, "rl.rollout.gpu_memory_utilization=0.98")
    assert any("the step dies earlier, in rollout" in each for each in full.findings)
    assert not any("dies earlier" in each for each in read(SLIME_1951).findings)


def test_the_bare_size_is_enough() -> None:
    assert read("Tried to allocate 58.15 GiB").best == read(SLIME_1951).best


def test_slime_1767_uses_the_exact_size_that_the_memory_saver_prints() -> None:
    found = read(SLIME_1767, RETOOL, "cluster.node=hgx-h100-8")
    assert found.best is not None
    assert found.message.exact
    assert found.message.requested is not None
    assert found.message.requested[1] == 65_867_350_016
    low, high = found.best.tokens or (0, 0)
    assert high * 76_032 * 4 <= 65_867_350_016 < (high + 1) * 76_032 * 4
    assert 0 <= high - low < 8
    assert found.message.others == pytest.approx(3.17 * GIB)


def test_slime_2253_large_vocabulary(tmp_path: Path) -> None:
    """11.6 thousand tokens x 248,320 x 4 B; no catalog model has that vocabulary, so a file of the user's has."""
    model = (ROOT / "catalogs" / "models" / "qwen3-4b.yaml").read_text(encoding="utf-8")
    model = model[: model.index("parameters:")] + model[model.index("sources:") :]
    path = tmp_path / "wide.yaml"
    path.write_text(model.replace("151936", "248320").replace("qwen3-4b", "wide"), encoding="utf-8")
    size = 11_600 * 248_320 * 4
    found = read(f"Tried to allocate {size / GIB:.2f} GiB", RETOOL, f"model={path}", "layout.tensor_parallel=1")
    assert found.best is not None
    assert found.best.name == "logits, fp32"
    low, high = found.best.tokens or (0, 0)
    assert low <= 11_600 <= high
    assert "chunked log-probabilities do not help" in fixes(found)


def test_nemo_2871_names_the_training_loss() -> None:
    found = read(NEMO_2871, RETOOL, "cluster.node=hgx-h100-8")
    assert found.best is not None
    assert found.best.group == "logits"
    assert found.phase == "training, logits and loss"
    assert found.message.free == pytest.approx(12.44 * GIB)
    assert "NeMo-RL issue 2871" in fixes(found)


def test_scoring_phase_is_told_from_training_and_there_chunks_help() -> None:
    found = read("File megatron.py, line 3, in forward_only\n  compute_log_probs(logits)\nTried to allocate 5.22 GiB")
    assert found.phase == "log-probabilities"
    assert "score in chunks" in fixes(found)


@pytest.mark.parametrize("text", [VLLM_START, SGLANG_START, VLLM_LONG])
def test_an_engine_that_dies_while_starting_wants_a_larger_fraction(text: str) -> None:
    found = read(text)
    assert found.phase == "engine start"
    assert found.fixes[0].startswith("larger memory fraction (--sglang-mem-fraction-static)")
    assert not any(f.startswith("smaller") for f in found.fixes)


@pytest.mark.parametrize("text", [SGLANG_RUNNING, VERL_1649, VLLM_GREEDY])
def test_an_engine_that_runs_or_wakes_or_claims_too_much_wants_a_smaller_one(text: str) -> None:
    found = read(text)
    assert any(f.startswith("smaller memory fraction") for f in found.fixes)
    assert not any(f.startswith("larger") for f in found.fixes)


def test_waking_up_is_the_weight_sync() -> None:
    assert read(VERL_1649).phase == "weight sync"


def test_what_is_free_bounds_the_fraction() -> None:
    assert any(f"at most {math.floor(43.21 / 79.33 * 100) / 100:.2f}" in f for f in read(VLLM_GREEDY).findings)


def test_a_full_pool_is_no_crash() -> None:
    found = read(SGLANG_FULL)
    assert found.message.kind == "pool_full"
    assert "fewer samples at once" in fixes(found)


@pytest.mark.parametrize("text", [VERL_2950, RAY, KERNEL, "Workers killed, host memory 891/937 GB"])
def test_host_kills_name_host_items_and_no_gpu_setting(text: str) -> None:
    found = read(text, QWEN7B)
    assert found.message.kind == "host"
    assert found.host
    assert [i.gib for i in found.host] == sorted((i.gib for i in found.host), reverse=True)
    assert "--no-save-optim" in fixes(found)
    assert "--disable-weights-backuper" in fixes(found)
    assert "GPU settings" in found.fixes[-1]
    assert not any("memory fraction (--" in f for f in found.fixes)


def test_host_amounts() -> None:
    used = read(VERL_2950, QWEN7B).message
    assert (used.host_used, used.host_limit) == (pytest.approx(246.41 * GIB), pytest.approx(251.54 * GIB))
    short = read("Workers killed, host memory 891/937 GB", QWEN7B).message
    assert (short.host_used, short.host_limit) == (891 * GIB, 937 * GIB)
    assert read(KERNEL, QWEN7B).message.host_used == 58_720_256 * 1024


FRAGMENTED = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.00 GiB is "
    "free. Of the allocated memory 60.00 GiB is allocated by PyTorch, and 12.00 GiB is reserved by PyTorch but "
    "unallocated."
)


def test_fragmentation_beside_a_sleeping_trainer_is_not_cured_by_expandable_segments() -> None:
    (line,) = [f for f in read(FRAGMENTED).findings if f.startswith("fragmentation")]
    assert "expandable_segments cannot be used" in line
    assert f"here {round(9_216 * 76_032 * 2 / 2**20):,} " in line


def test_fragmentation_of_a_plain_trainer_is() -> None:
    (line,) = [f for f in read(FRAGMENTED, PLAIN).findings if f.startswith("fragmentation")]
    assert "expandable_segments:True" in line


def test_old_form_of_the_message() -> None:
    text = (
        "CUDA out of memory. Tried to allocate 16.00 MiB (GPU 0; 23.67 GiB total capacity; 20.76 GiB already "
        "allocated; 30.38 MiB free; 21.76 GiB reserved in total by PyTorch)"
    )
    message = read_message(text)
    assert message.capacity == pytest.approx(23.67 * GIB)
    assert message.reserved_unallocated == pytest.approx(1.0 * GIB)
    assert message.requested == (pytest.approx(15.995 * 2**20), pytest.approx(16.005 * 2**20))


def test_fixed_shapes_are_found_too() -> None:
    """The head of Qwen2.5-7B over TP4, and its gradient buffer, have no tokens in them."""
    problem = question_of(load(QWEN7B)).first
    size = 152_064 // 4 * 3_584 * 4
    found = diagnose(problem, f"all_gather\nTried to allocate {size / GIB:.4f} GiB")
    assert "embedding or head, fp32" in [c.name for c in found.candidates if c.tokens is None]


def test_every_reading_gives_the_requested_bytes() -> None:
    for text in ("Tried to allocate 58.15 GiB", "Tried to allocate 1.45 GiB", "Tried to allocate 742.00 MiB"):
        found = read(text)
        low, high = found.message.requested or (0.0, 0.0)
        for c in found.candidates:
            if c.tokens is not None:
                assert low <= c.tokens[0] * c.unit_bytes <= c.tokens[1] * c.unit_bytes <= high
            else:
                assert c.unit_bytes == pytest.approx((low + high) / 2, rel=0.011)
        scores = [c.score for c in found.candidates]
        assert scores == sorted(scores, reverse=True)


def test_open_layouts_are_searched_over_their_degrees() -> None:
    found = read("Tried to allocate 58.15 GiB", RETOOL, "layout.tensor_parallel=any", "layout.context_parallel=any")
    assert found.best is not None
    assert found.best.group == "logits"


def test_every_catalog_model_can_be_asked() -> None:
    asked = [each.id for each in default_catalog().all("models") if not each.is_hybrid]
    for name in asked[::9]:
        assert read("Tried to allocate 3.50 GiB", RETOOL, f"model={name}", "layout.tensor_parallel=any").fixes


@pytest.mark.parametrize("text", ["", "hello", "Segmentation fault (core dumped)"])
def test_other_texts_are_refused_with_help(text: str) -> None:
    with pytest.raises(InputError, match="message"):
        read(text)


def test_printed_sizes_are_ranges() -> None:
    low, high = printed_range("1,024.50", "MiB")
    assert (low, high) == (pytest.approx(1024.495 * 2**20), pytest.approx(1024.505 * 2**20))
    assert printed_range("512", "bytes") == (512, 512)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    log.write_text(SLIME_1951, encoding="utf-8")
    assert main(["diagnose", RETOOL, "--file", str(log), "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["readings"][0]["tokens"] == [205_285, 205_319]
    for style in ("table", "markdown"):
        assert main(["diagnose", RETOOL, "--message", SLIME_1951, "--format", style]) == 0
        assert "205,285 to 205,319" in capsys.readouterr().out
    assert main(["diagnose", RETOOL, "--message", "all is well"]) == 2
    assert "no out-of-memory message recognised" in capsys.readouterr().err
    assert main(["diagnose", RETOOL]) == 2
    assert main(["diagnose", "-", "-"]) == 2
    assert main(["diagnose", RETOOL, "--file", str(tmp_path / "missing")]) == 2
