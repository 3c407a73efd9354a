"""Prices of SkyPilot's catalogs: every trap of their files, hostile files, and entries that the catalog reads."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from run_cli import run

from planner.errors import InputError
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.price_import import ImportAsked, PriceImport, price_import
from planner.inputs.skypilot import read_vms

AWS = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,AvailabilityZone,Arch"
)
RUNPOD = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Region,SpotPrice,Price,AvailabilityZone,GpuInfo"


def info(name: str) -> str:
    return f"\"{{'Gpus': [{{'Name': '{name}', 'Count': 8, 'MemoryInfo': {{'SizeInMiB': 80}}}}]}}\""


def written(folder: Path, *lines: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vms.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def imported(path: str, **asked: object) -> PriceImport:
    return price_import(read_vms(path), ImportAsked("2026-11-20", **asked), default_catalog())  # type: ignore[arg-type]


def reasons(found: PriceImport) -> dict[str, tuple[int, int]]:
    return {kind.why: (kind.rows, kind.line) for kind in found.skipped}


def test_columns_are_read_by_name_and_prices_are_of_an_instance(tmp_path: Path) -> None:
    aws = written(
        tmp_path / "aws",
        AWS,
        f"p5.48xlarge,H100,8.0,192,2048,{info('H100')},55.04,16.0,us-east-1,us-east-1a,x86_64",
        f"p5.48xlarge,H100,8.0,192,2048,{info('H100')},55.04,8.0,us-east-1,us-east-1b,x86_64",
        f"p5.48xlarge,H100,8.0,192,2048,{info('H100')},64.0,64.0,eu-west-1,eu-west-1a,x86_64",
        f"p5e.48xlarge,H200,8.0,192,2048,{info('H200')},,19.48,us-east-2,us-east-2a,x86_64",
        f"p5.48xlarge,H100,8.0,192,2048,{info('H100')},55.04,8.0,us-east-1,us-east-1b,x86_64",
        "m5.large,,,2,8,,0.096,0.03,us-east-1,us-east-1a,x86_64",
    )
    found = imported(aws)
    first, second = found.entries
    assert (first.id, first.node, first.gpu, first.region) == (
        "aws-p5-48xlarge",
        "aws-p5",
        "h100-sxm5-80gb",
        "us-east-1",
    )
    assert (first.on_demand_usd_per_gpu_hour, first.spot_usd_per_gpu_hour) == (6.88, 2.0)
    assert "1 other region: median 8" in (first.notes or "")
    assert "2 of them are below on demand" in (first.notes or "")
    assert (second.on_demand_usd_per_gpu_hour, second.spot_usd_per_gpu_hour, second.node) == (None, 2.435, "aws-p5e")
    assert reasons(found) == {"the same row again": (1, 6), "no accelerator": (1, 7)}
    runpod = written(
        tmp_path / "runpod",
        RUNPOD,
        f"8x_H100_SECURE,H100,8.0,8,117,US,8.0,24.0,US-1,{info('H100 SXM')}",
        f"8x_H100-PCIe,H100,8.0,8,117,US,,19.2,US-1,{info('H100 PCIe')}",
        f"8x_A100-80GB,A100-80GB,8.0,8,117,US,,12.0,US-1,{info('A100')}",
        f"1x_NVL,H100,1,8,117,US,,2.4,US-1,{info('H100 NVL')}",
    )
    found = imported(runpod)
    assert {entry.gpu for entry in found.entries} == {"h100-sxm5-80gb", "h100-pcie-80gb", "h100-nvl-94gb"}
    assert found.unplanned
    (kind,) = found.skipped
    assert kind.why.startswith("A100-80GB may be a100-pcie-80gb or a100-sxm4-80gb; say which: --gpu A100-80GB=")
    said = imported(runpod, gpus=("A100-80GB=a100-sxm4-80gb",), nodes=("8x_A100-80GB=hgx-a100-8",))
    (entry,) = (each for each in said.entries if each.gpu.startswith("a100"))
    assert (entry.node, entry.on_demand_usd_per_gpu_hour) == ("hgx-a100-8", 1.5)


def test_rows_that_are_no_price_are_counted_with_their_reason(tmp_path: Path) -> None:
    google = written(
        tmp_path / "gcp",
        "InstanceType,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,GPUInfo,Region,AvailabilityZone,Price,SpotPrice",
        ",,,H100,8.0,,us-central1,us-central1-a,78.0,30.0",
        "a3-highgpu-8g,208,1872,,,,us-central1,us-central1-a,10.0,3.0",
        "g2,4,16,L4,0.5,,us-central1,us-central1-a,0.4,0.1",
        "g2-standard-4,4,16,L4,1,,us-central1,us-central1-a,0.7,nan",
        "g2-standard-8,4,16,L4,1,,us-central1,us-central1-a,-1,0.1",
        "g2-standard-9,4,16,L4,1_0,,us-central1,us-central1-a,1,0.1",
        "g2-standard-12,4,16,L4,1,,us-central1,us-central1-a,,",
        "g2-standard-16,4,16,L4,1,,,us-central1-a,1,",
        "tpu,4,16,tpu-v5p-8,1,,us-central1,us-central1-a,4,",
        "g2-standard-24,4,16",
        "g2-standard-48,4,16,L4,4,not python,us-central1,us-central1-a,4,",
    )
    found = imported(google)
    (entry,) = found.entries
    assert (entry.id, entry.provider, entry.gpu) == ("google-cloud-g2-standard-48", "Google Cloud", "l4")
    assert entry.on_demand_usd_per_gpu_hour == 1.0
    assert reasons(found) == {
        "the price of accelerators without their host machine, which is another row (Google Cloud)": (1, 2),
        "no accelerator": (1, 3),
        "a share of one GPU": (1, 4),
        "SpotPrice is no number of dollars": (1, 5),
        "Price is no number of dollars": (1, 6),
        "AcceleratorCount is no number of GPUs": (1, 7),
        "neither a price nor a spot price": (1, 8),
        "no region": (1, 9),
        "unknown GPU `tpu-v5p-8`": (1, 10),
        "another number of fields than the header's 10": (1, 11),
    }
    assert sum(kind.rows for kind in found.skipped) + 1 == found.file.count


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no column InstanceType"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "has no column InstanceType"),
        (b"InstanceTyp,AcceleratorName,AcceleratorCount,Price,SpotPrice,Region\n", "`InstanceTyp` may be meant"),
        (b"InstanceType,AcceleratorName,AcceleratorCount,Price,Price,SpotPrice,Region\n", "more than one column Price"),
        (b"InstanceType,AcceleratorName,AcceleratorCount,Price,SpotPrice,Region\n", "it has no rows"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b'InstanceType,AcceleratorName,AcceleratorCount,Price,SpotPrice,Region\n"' + b"x" * 200_000, "is not CSV"),
        (b"InstanceType,AcceleratorName,AcceleratorCount,Price,SpotPrice,Region\nx,H100,8,1,1,r\n", "H100 may be"),
    ],
)
def test_a_file_that_is_none_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "vms.csv"
    path.write_bytes(content)
    done = run("catalog", "import-prices", str(path), "--read-on", "2026-11", "--provider", "Some")
    assert done.code == 2
    assert said in done.err


def test_options_are_checked_against_file_and_catalog(tmp_path: Path) -> None:
    line = "lambda-x,H100,8,8.0,,r1"
    path = written(tmp_path / "x", "InstanceType,AcceleratorName,AcceleratorCount,Price,SpotPrice,Region", line)
    for more, said in (
        (("--read-on", "yesterday"), "yesterday is no date"),
        (("--read-on", "2026-11", "--region", "r2"), "has no region r2"),
        (("--read-on", "2026-11", "--gpu", "H100"), "says nothing"),
        (("--read-on", "2026-11", "--gpu", "B200=b200-sxm-180gb"), "the file has no B200"),
        (("--read-on", "2026-11", "--gpu", "H100=h100-sxm5-8gb"), "did you mean `h100-sxm5-80gb`"),
        (("--read-on", "2026-11", "--gpu", "H100=h100-sxm5-80gb", "--node", "lambda-x=hgx-a100-8"), "is no hgx-a100-8"),
    ):
        done = run("catalog", "import-prices", path, *more)
        assert (done.code, said in done.err) == (2, True), (more, done.err)
    alone = replace(read_vms(path), name="vms.csv")
    with pytest.raises(InputError, match="whose prices"):
        price_import(alone, ImportAsked("2026-11"), default_catalog())


def test_written_entries_are_read_again_and_stand_for_the_shipped_ones(tmp_path: Path) -> None:
    evil = '"gpu""\n- x: {y}#\u202e"'
    source = written(
        tmp_path / "lambda",
        "InstanceType,AcceleratorName,AcceleratorCount,Price,SpotPrice,Region",
        "gpu_8x_h100_sxm5,H100,8,16.0,,us-east-1",
        f"{evil},H200,8,16.0,,../../etc",
    )
    out = tmp_path / "own"
    command = ("catalog", "import-prices", source, "--read-on", "2026-11-20", "--out", str(out))
    done = run(*command)
    assert done.code == 0, done.err
    assert {path.name for path in (out / "prices").iterdir()} == {"lambda-8x-h100.yaml", "lambda-gpu-x-y.yaml"}
    assert "exists already" in run(*command).err
    catalog = Catalog([out, *default_catalog().folders])
    price = catalog.find("prices", "lambda-8x-h100")
    assert (price.on_demand_usd_per_gpu_hour, price.node, price.sources[0].date) == (2.0, "hgx-h100-8", "2026-11-20")
    assert catalog.find("prices", "lambda-gpu-x-y").region == "../../etc"


def test_torn_and_scrambled_files_never_end_in_a_traceback(tmp_path: Path) -> None:
    """Sixty files with bytes changed, cut or repeated: a price list or an error that says where."""
    raw = Path(__file__).parents[1].joinpath("fixtures/vms/lambda/vms.csv").read_bytes()
    chance, ends = random.Random(7), set()
    path = tmp_path / "vms.csv"
    for _ in range(60):
        torn = bytearray(raw[: chance.randrange(1, len(raw))] if chance.random() < 0.4 else raw)
        for _ in range(chance.randrange(4)):
            torn[chance.randrange(len(torn))] = chance.choice(b'\x00\n\r",{}\xff9')
        path.write_bytes(bytes(torn))
        done = run("catalog", "import-prices", str(path), "--read-on", "2026-11", "--provider", "Lambda")
        ends.add(done.code)
        assert "Traceback" not in done.err
    assert ends == {0, 2}
