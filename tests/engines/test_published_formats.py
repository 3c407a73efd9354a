"""Files for others than engines, by their own schemas: SARIF, SkyPilot, Kubeflow: `python -m pytest -m engines`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from drawn import PLANS, written

from planner import cli
from planner.inputs.document import parse_document
from planner.launch.wrappers import wrapped

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]
SCRIPTS = Path(__file__).resolve().parents[1] / "fixtures/launch"


def test_sarif_is_what_its_schema_asks(capsys: pytest.CaptureFixture[str]) -> None:
    """sarif-2.1/schema/sarif-schema-2.1.0.json of oasis-tcs/sarif-spec, and what code hosts read of a result."""
    schema = os.environ.get("PLANNER_SARIF_SCHEMA")
    if schema is None:
        pytest.skip("PLANNER_SARIF_SCHEMA names no schema")
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft7Validator(json.loads(Path(schema).read_text()))
    seen = 0
    for path in sorted(SCRIPTS.glob("*.*")):
        code = cli.main(["lint", str(path), "--format", "sarif"])
        text = capsys.readouterr().out
        if code == 2:
            continue
        said = json.loads(text)
        assert not [error.message for error in check.iter_errors(said)], path
        rules = {rule["id"] for rule in said["runs"][0]["tool"]["driver"]["rules"]}
        assert {one["ruleId"] for one in said["runs"][0]["results"]} == rules
        seen += len(said["runs"][0]["results"])
    assert seen


def test_skypilot_reads_every_task() -> None:
    sky = pytest.importorskip("sky")
    for plan, files in written("megatron-core", "megatron", PLANS):
        task = sky.Task.from_yaml_config(dict(parse_document(wrapped("skypilot", files, plan)["sky.yaml"], "x").data))
        (resources,) = task.resources
        (count,) = resources.accelerators.values()
        assert task.num_nodes * count == plan.layout["num_gpus"]


def test_kubeflow_reads_every_train_job() -> None:
    api = pytest.importorskip("kubeflow_trainer_api.models")
    for plan, files in written("megatron-core", "megatron", PLANS):
        text = wrapped("kubeflow", files, plan)["trainjob.yaml"]
        keys = dict(parse_document(text, "x").data)
        job = api.TrainerV1alpha1TrainJob.from_dict(keys)
        assert job.spec.trainer.num_nodes * job.spec.trainer.num_proc_per_node == plan.layout["num_gpus"]
        again = job.to_dict()
        assert again["spec"]["trainer"]["numNodes"] == keys["spec"]["trainer"]["numNodes"]
        assert set(keys["spec"]["trainer"]) <= set(again["spec"]["trainer"])
