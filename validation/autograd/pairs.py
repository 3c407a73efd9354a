"""One micro-batch of TRL's training on pairs (DPO) on fake tensors: TRL's own head and loss, bytes alive in each phase.

    PYTHONPATH=.:TRL python validation/autograd/pairs.py            prints the table
    PYTHONPATH=.:TRL python validation/autograd/pairs.py --write    also writes validation/autograd/pairs.json

TRL is a checkout of huggingface/trl 1.16.0; needs accelerate, peft and datasets beside the extra `autograd`. The policy
runs forward, the reference without gradients (under adapters the same network with them switched off), then the loss
goes back, as DPOTrainer._compute_loss has it. Triton's kernels of TRL's head are launched as nothing, and its product
that sums in fp32 makes no tensor, as on CUDA: shapes and what is kept are TRL's own. Every token is an answer's.
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from networks import ATTENTION
from saved_bytes import prepare
from steps import Alive, Step, _attention, _faked, _network
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from trl.kernels import chunked_logprob
from trl.trainer import utils

RESULTS = Path(__file__).with_name("pairs.json")
DATE = "2026-11-23"
OUTPUTS = ("log_probs", "entropy", "mean_logits", "is_top1")
"""What DPOTrainer asks of the policy's head."""


@dataclass(frozen=True)
class Pairs:
    """One micro-batch of pairs of a network of the catalog."""

    model: str
    pairs: int
    tokens: int
    """Of each answer and its prompt."""
    checkpoint: bool
    adapter: str = ""
    """Empty, or the format of rank-16 adapters on all linear layers over a frozen base."""
    precomputed: bool = False
    """The reference's log-probabilities were taken before training: no reference runs."""
    layers: int = 0
    """So many layers instead of the network's own; 0 for those."""


class _Kernel:
    """A kernel of Triton that is launched as nothing."""

    def __getitem__(self, _: Any) -> Any:
        return lambda *args, **kwargs: None


class _Triton:
    """What of Triton TRL's head names beside its kernels."""

    @staticmethod
    def cdiv(a: int, b: int) -> int:
        """The quotient, rounded up."""
        return -(-a // b)


def as_on_cuda() -> None:
    """Have TRL's head take the path of CUDA: tiles folded by kernels, products summed in place in fp32."""
    chunked_logprob._use_triton = lambda device: True
    chunked_logprob._forward_kernel = chunked_logprob._backward_kernel = _Kernel()
    chunked_logprob.triton = _Triton
    chunked_logprob._addmm_fp32 = lambda acc, a, b: None
    utils.maybe_gather_lm_head_ctx = lambda *_: nullcontext()


def run(asked: Pairs) -> dict[str, int]:
    """Bytes of the policy's weights, alive before and after the reference has run, and at the peak of each phase."""
    step = Step(asked.model, "bf16", asked.checkpoint, 2 * asked.pairs, asked.tokens, adapter=asked.adapter,
                layers=asked.layers)  # fmt: skip
    found: dict[str, int] = {}
    copies = not asked.adapter and not asked.precomputed
    with torch.device("meta"):
        network = _network(step)
        frozen = _network(step) if copies else None
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode())
        model = _faked(network)
        reference = _faked(frozen).eval() if frozen is not None else None
        base = model.get_base_model() if asked.adapter else model
        utils.add_fused_lm_head(base, outputs=OUTPUTS)
        if reference is not None:
            utils.add_fused_lm_head(reference)
        alive = Alive()
        for each in (model, reference):
            for tensor in (*each.parameters(), *each.buffers()) if each is not None else ():
                alive.add(tensor, "weight")
        found["weights"] = alive.now
        stack.enter_context(alive)
        ids = torch.zeros(2 * asked.pairs, asked.tokens, dtype=torch.long)
        words = {"input_ids": ids, "labels": ids, "use_cache": False, "fused_lm_head": True}
        # How many tokens are an answer's is data, which fake tensors have not: all but the first are.
        stack.enter_context(AllTokens())
        alive.begin("forward")
        sums = model(**words).log_probs.sum(dim=1)
        found["kept"], found["forward"] = alive.now, alive.peak
        alive.begin("reference")
        with torch.no_grad():
            if asked.adapter:
                with model.disable_adapter():
                    other = model(**words).log_probs.sum(dim=1)
            else:
                other = reference(**words).log_probs.sum(dim=1) if reference is not None else torch.empty_like(sums)
        found["reference"] = alive.peak
        chosen, rejected = (sums - other).chunk(2, dim=0)
        loss = -torch.nn.functional.logsigmoid(0.1 * (chosen - rejected)).mean()
        alive.begin("backward")
        loss.backward()
        found["backward"] = alive.peak
    return found


class AllTokens(torch.overrides.TorchFunctionMode):
    """Indexing by a mask of tokens takes all of them, into a new tensor, as it does where all are an answer's."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__getitem__ and isinstance(args[1], torch.Tensor) and args[1].dtype == torch.bool:
            value, mask = args
            index = torch.zeros(mask.numel(), dtype=torch.long)
            return value.reshape(mask.numel(), *value.shape[mask.dim() :]).index_select(0, index)
        if func is torch.Tensor.masked_scatter:
            return args[2].reshape(args[1].shape) + args[0]
        return func(*args, **(kwargs or {}))


ROWS = (
    *(Pairs("llama3.2-1b", 1, 4096, checkpoint) for checkpoint in (False, True)),
    Pairs("llama3.2-1b", 2, 2048, True),
    Pairs("llama3.2-1b", 1, 4096, True, precomputed=True),
    Pairs("qwen2.5-7b", 1, 4096, True),
    Pairs("qwen2.5-7b", 4, 4096, True, precomputed=True),
    Pairs("qwen2.5-7b", 1, 2048, False),
    Pairs("llama3.1-8b", 2, 4096, True),
    *(Pairs("llama3.1-8b", 1, 4096, checkpoint, adapter="fp32") for checkpoint in (False, True)),
)


def main() -> None:
    """Count all rows, print them, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="", help="models whose id holds this")
    arguments = parser.parse_args()
    prepare()
    as_on_cuda()
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attention)
    rows = []
    for asked in ROWS:
        if arguments.only not in asked.model:
            continue
        rows.append({**asdict(asked), **run(asked)})
        print(json.dumps(rows[-1]), flush=True)
    if arguments.write:
        head = {"date": DATE, "torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
        text = json.dumps({**head, "trl": trl.__version__})[:-1]
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        RESULTS.write_text(f'{text}, "rows": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
