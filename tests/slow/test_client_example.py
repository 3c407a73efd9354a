"""The client that docs/serve.md prints, run as printed against a server of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

pytest.importorskip("fastapi")
ROOT = Path(__file__).resolve().parents[2]


def test_the_printed_client_gets_an_answer() -> None:
    printed = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "serve.md").read_text(), re.DOTALL)
    assert len(printed) == 1
    command = [sys.executable, "-m", "planner", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as serving:
        assert serving.stdout is not None
        address = serving.stdout.readline().strip()
        try:
            _is_up(address)
            client = printed[0].replace("http://127.0.0.1:8008/", address)
            assert client != printed[0]
            said = subprocess.check_output([sys.executable, "-c", client], text=True, cwd=ROOT)
        finally:
            serving.terminate()
    status, headroom_gib = said.split()
    assert status == "optimal"
    assert float(headroom_gib) >= 20, "what the scenario asks for"


def _is_up(address: str) -> None:
    for _ in range(600):
        try:
            urlopen(f"{address}healthz", timeout=1)
            return
        except URLError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")
