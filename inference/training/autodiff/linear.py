"""Gradients of matrix products."""

from __future__ import annotations

from collections.abc import Sequence

from inference.training.autodiff.rules import Visit, rule
from inference.training.autodiff.tape import Tape

Gradients = Sequence[str | None]


@rule("Gemm")
def gemm(tape: Tape, visit: Visit) -> Gradients:
    """alpha A B + beta C, where B may be given turned."""
    if visit.attribute("transA", 0):
        raise visit.refuse("turns its first input")
    a, b = visit.inputs[:2]
    turned, alpha, beta = visit.attribute("transB", 0), visit.attribute("alpha", 1.0), visit.attribute("beta", 1.0)
    return [
        tape.emit("Gemm", visit.gradient, b, transB=1 - turned, alpha=alpha) if visit.needed[0] else None,
        _of_weights(tape, a, visit.gradient, turned, alpha) if visit.needed[1] else None,
        _of_bias(tape, visit, beta) if len(visit.inputs) > 2 and visit.needed[2] else None,
    ]


def _of_weights(tape: Tape, a: str, gradient: str, turned: int, alpha: float) -> str:
    first, second = (gradient, a) if turned else (a, gradient)
    return tape.emit("Gemm", first, second, transA=1, alpha=alpha)


def _of_bias(tape: Tape, visit: Visit, beta: float) -> str:
    summed = tape.summed_to(visit.gradient, visit.output, visit.inputs[2])
    return summed if beta == 1.0 else tape.emit("Mul", summed, tape.number(beta))


@rule("MatMul")
def matmul(tape: Tape, visit: Visit) -> Gradients:
    """Batched as numpy does it: what one side was repeated over is summed on the way back."""
    a, b = visit.inputs
    if min(tape.rank(a), tape.rank(b)) < 2:
        raise visit.refuse("multiplies a vector")
    return [
        _folded(tape, tape.emit("MatMul", visit.gradient, _turned(tape, b)), visit, a) if visit.needed[0] else None,
        _folded(tape, tape.emit("MatMul", _turned(tape, a), visit.gradient), visit, b) if visit.needed[1] else None,
    ]


def _turned(tape: Tape, name: str) -> str:
    axes = list(range(tape.rank(name)))
    return tape.emit("Transpose", name, perm=[*axes[:-2], axes[-1], axes[-2]])


def _folded(tape: Tape, gradient: str, visit: Visit, to: str) -> str:
    """The gradient summed over the leading axes that `to` lacks, or has only one of."""
    lead, own = tape.shape(visit.output)[:-2], tape.shape(to)
    missing = len(lead) - len(own[:-2])
    axes = [axis for axis, size in enumerate(lead) if axis < missing or (own[axis - missing] == 1 and size != 1)]
    if not axes:
        return gradient
    return tape.emit("Reshape", tape.sum_over(gradient, axes, keep=True), tape.integers(own))
