from __future__ import annotations

import json
import re

from planner.inputs.catalog import default_catalog
from planner.web.export import exported


def test_the_shipped_answers_are_files_that_lead_to_each_other() -> None:
    said: list[str] = []
    files = exported(default_catalog(), ["llama8b_lora_4090"], said.append)
    links = re.findall(r'href="([^"]+)"', files["index.html"])
    assert set(links) == set(files) - {"index.html"}
    for name, text in files.items():
        if name.endswith(".html") and name != "index.html":
            assert set(re.findall(r'href="([^"#]+)"', text)) == set(files), "from every page to all others"
    assert json.loads(files["llama8b_lora_4090.json"])["status"] == "optimal"
    assert "http" not in re.sub(r'xmlns="[^"]+"', "", files["index.html"])
    assert said
