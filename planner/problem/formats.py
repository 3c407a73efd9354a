"""How many bytes an element has: formats that precision and engine decide, for the tensors of engine files."""

from __future__ import annotations

from planner.problem.problem import Problem
from planner.problem.state_bytes import FP32_BYTES
from planner.schema.tensors import Format, Tensor


def format_bytes(problem: Problem, name: Format) -> float:
    """Bytes of one element in a format. [bytes]"""
    engine, computed = problem.engine, problem.precision.activation_bytes
    if name == "stream" and engine.fp32_stream:
        return FP32_BYTES
    if name == "adapter" and engine.states.adapters == "fp32" and not engine.autocast:
        return FP32_BYTES
    return FP32_BYTES if name == "computed" and engine.fp32_products and not engine.autocast else computed


def element_bytes(problem: Problem, tensor: Tensor) -> float:
    """Bytes an element of all copies of a tensor together. [bytes]"""
    return (tensor.bytes or 0.0) + (tensor.copies or 0.0) * format_bytes(problem, tensor.format)


def mixed(problem: Problem) -> bool:
    """Autocast over fp32 weights: products in 16 bits between norms and residuals in fp32."""
    return problem.engine.autocast and problem.engine.fp32_stream


def adapter_casts(problem: Problem) -> tuple[bool, bool]:
    """Does an adapter keep a copy of its own of its input, where it reads (the residual stream, a product's result).

    Source: peft 0.21.2 tuners/lora/layer.py, Linear.forward: cast, dropout, product.
    """
    adapter, engine = problem.scenario.adapter, problem.engine
    if adapter is None:
        return False, False
    if adapter.dropout > 0:
        return True, True
    if engine.autocast:
        return engine.states.adapters == "fp32" or engine.fp32_stream, engine.states.adapters == "fp32"
    own = format_bytes(problem, "adapter")
    return own != format_bytes(problem, "stream"), own != format_bytes(problem, "computed")
