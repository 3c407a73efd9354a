"""A layout that is too large by the allocator's estimated reserve alone is told apart from one that cannot be."""

from __future__ import annotations

from run_cli import run

ASKED = ("ask", "glm-4.5", "--task", "lora")


def test_what_is_live_fits_where_only_the_reserve_does_not() -> None:
    done = run(*ASKED, "--gpus", "16xh100")
    text = " ".join(done.out.split())
    assert done.code == 0
    assert "critical, starts only if the allocator gives back" in text
    assert "expect it slow" in text
    none = run(*ASKED, "--gpus", "4xh100")
    text = " ".join(none.out.split())
    assert none.code == 1
    assert "no layout fits" in text
    assert "no allocator's reserve" in text


def test_demanded_headroom_is_over_the_reserve_and_its_loss_is_offered() -> None:
    done = run(*ASKED, "--gpus", "16xh100", "--headroom", "0.5")
    text = " ".join(done.out.split())
    assert done.code == 1
    assert "The allocator's estimated reserve is counted" in text
    assert "fits (solved: starts only if the allocator gives back" in text
