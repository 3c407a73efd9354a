"""A layout that is too large by the allocator's estimated reserve alone is told apart from one that cannot be."""

from __future__ import annotations

from run_cli import run

ASKED = ("ask", "glm-4.5", "--task", "lora")


def test_what_is_live_fits_where_only_the_reserve_does_not() -> None:
    done = run(*ASKED, "--gpus", "16xh100")
    text = " ".join(done.out.split())
    assert done.code == 1
    assert "GiB of it is the allocator's reserve, estimated" in text
    assert "allocator's reserve" not in " ".join(run(*ASKED, "--gpus", "4xh100").out.split())
