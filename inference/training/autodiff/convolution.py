"""Gradients of 2-D convolutions, of normalization by frozen statistics, and of pooling by means.

The weights' gradient is one matrix product for each tap of the kernel, over a strided view of the input: what
unrolling the input (im2col) would compute, without nine copies of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from inference.training.autodiff.rules import Visit, rule
from inference.training.autodiff.tape import Tape

Gradients = Sequence[str | None]
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """How a kernel moves over a picture. `pads` are top, left, bottom, right; all in (height, width) order."""

    kernel: Pair
    strides: Pair
    dilations: Pair
    pads: tuple[int, int, int, int]
    size: Pair
    moved: Pair
    """The picture's height and width, and those of what comes out."""

    def left_over(self, axis: int) -> int:
        """Pixels at the far edge that no position of the kernel touched."""
        reach = (self.moved[axis] - 1) * self.strides[axis] + (self.kernel[axis] - 1) * self.dilations[axis] + 1
        return self.size[axis] + self.pads[axis] + self.pads[2 + axis] - reach

    def taps(self) -> Iterator[Pair]:
        """Where each tap of the kernel begins, in the padded picture."""
        for row in range(self.kernel[0]):
            for column in range(self.kernel[1]):
                yield row * self.dilations[0], column * self.dilations[1]

    @property
    def is_point(self) -> bool:
        return self.kernel == self.strides == (1, 1) and not any(self.pads)


def window_of(tape: Tape, visit: Visit, kernel: Sequence[int]) -> Window:
    """Raises Unsupported for what isn't 2-D or leaves its padding to be found out."""
    size, moved = tape.shape(visit.inputs[0])[2:], tape.shape(visit.output)[2:]
    if len(size) != 2:
        raise visit.refuse("isn't in two dimensions")
    if visit.attribute("auto_pad", b"NOTSET") != b"NOTSET" or visit.attribute("ceil_mode", 0):
        raise visit.refuse("has auto_pad or ceil_mode: give pads")
    return Window(
        kernel=(kernel[0], kernel[1]),
        strides=tuple(visit.attribute("strides", [1, 1])),
        dilations=tuple(visit.attribute("dilations", [1, 1])),
        pads=tuple(visit.attribute("pads", [0, 0, 0, 0])),
        size=(size[0], size[1]),
        moved=(moved[0], moved[1]),
    )


@rule("Conv")
def conv(tape: Tape, visit: Visit) -> Gradients:
    window = window_of(tape, visit, tape.shape(visit.inputs[1])[2:])
    return [
        _of_picture(tape, visit, window) if visit.needed[0] else None,
        _of_weights(tape, visit, window) if visit.needed[1] else None,
        tape.sum_over(visit.gradient, [0, 2, 3]) if len(visit.inputs) > 2 and visit.needed[2] else None,
    ]


def _of_picture(tape: Tape, visit: Visit, window: Window) -> str:
    groups = visit.attribute("group", 1)
    return _spread(tape, visit.gradient, visit.inputs[1], window, groups)


def _spread(tape: Tape, gradient: str, weights: str, window: Window, groups: int) -> str:
    """The turned-around convolution: each output's gradient goes back to the pixels that it came from."""
    return tape.emit(
        "ConvTranspose",
        gradient,
        weights,
        kernel_shape=window.kernel,
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads,
        output_padding=[window.left_over(0), window.left_over(1)],
        group=groups,
    )


def _of_weights(tape: Tape, visit: Visit, window: Window) -> str:
    shape, groups = tape.shape(visit.inputs[1]), visit.attribute("group", 1)
    channels = tape.shape(visit.inputs[0])[1]
    if groups == 1:
        taps = _taps_of_all(tape, visit, window, shape[0], channels)
    elif groups == channels == shape[0]:
        taps = _taps_of_each(tape, visit, window)
    else:
        raise visit.refuse(f"has {groups} groups for {channels} channels: one, or one a channel")
    joined = taps[0] if len(taps) == 1 else tape.emit("Concat", *taps, axis=2)
    return tape.emit("Reshape", joined, tape.integers(shape))


def _taps_of_all(tape: Tape, visit: Visit, window: Window, out: int, channels: int) -> list[str]:
    """(out, channels, 1) for each tap: the sum over pictures of gradient times view, over their pixels."""
    pixels = window.moved[0] * window.moved[1]
    rows = tape.emit("Reshape", visit.gradient, tape.integers([0, out, pixels]))
    taps = []
    for view in _views(tape, visit.inputs[0], window):
        columns = tape.emit("Reshape", view, tape.integers([0, channels, pixels]))
        product = tape.emit("MatMul", rows, tape.emit("Transpose", columns, perm=[0, 2, 1]))
        taps.append(tape.emit("Unsqueeze", tape.sum_over(product, [0]), tape.integers([2])))
    return taps


def _taps_of_each(tape: Tape, visit: Visit, window: Window) -> list[str]:
    """The same of a depthwise convolution, (channels, 1, 1): each channel has only its own picture."""
    return [
        tape.emit(
            "Unsqueeze",
            tape.sum_over(tape.emit("Mul", visit.gradient, view), [0, 2, 3]),
            tape.integers([1, 2]),
        )
        for view in _views(tape, visit.inputs[0], window)
    ]


def _views(tape: Tape, picture: str, window: Window) -> Iterator[str]:
    """What each tap of the kernel saw: (batch, channels, height, width) of what came out."""
    if window.is_point:
        yield picture
        return
    top, left, bottom, right = window.pads
    if any(window.pads):
        picture = tape.emit("Pad", picture, tape.integers([0, 0, top, left, 0, 0, bottom, right]))
    for row, column in window.taps():
        end = [
            begin + (moved - 1) * stride + 1
            for begin, moved, stride in zip((row, column), window.moved, window.strides, strict=True)
        ]
        yield tape.emit(
            "Slice", picture, tape.integers([row, column]), tape.integers(end),
            tape.integers([2, 3]), tape.integers(window.strides),
        )  # fmt: skip


@rule("BatchNormalization")
def batch_normalization(tape: Tape, visit: Visit) -> Gradients:
    """As in inference: the statistics are constants. Their gradients are asked for by nobody."""
    picture, scale, _, mean, variance = visit.inputs
    if visit.attribute("training_mode", 0) or any(visit.needed[3:]):
        raise visit.refuse("would change its statistics")
    channels, rank = tape.shape(scale)[0], tape.rank(picture)
    aligned = tape.integers([1, channels, *[1] * (rank - 2)])
    others = [axis for axis in range(rank) if axis != 1]
    widened = tape.emit("Add", variance, tape.number(visit.attribute("epsilon", 1e-5)))
    inverse = tape.emit("Reciprocal", tape.emit("Sqrt", widened))
    of_picture = of_scale = None
    if visit.needed[0]:
        factor = tape.emit("Reshape", tape.emit("Mul", scale, inverse), aligned)
        of_picture = tape.emit("Mul", visit.gradient, factor)
    if visit.needed[1]:
        centred = tape.emit("Sub", picture, tape.emit("Reshape", mean, aligned))
        of_scale = tape.emit("Mul", tape.sum_over(tape.emit("Mul", visit.gradient, centred), others), inverse)
    return [of_picture, of_scale, tape.sum_over(visit.gradient, others) if visit.needed[2] else None]


@rule("GlobalAveragePool")
def global_average_pool(tape: Tape, visit: Visit) -> Gradients:
    shape = tape.shape(visit.inputs[0])
    shared = tape.emit("Mul", visit.gradient, tape.number(1 / np.prod(shape[2:])))
    return [tape.emit("Expand", shared, tape.integers(shape))]


@rule("AveragePool")
def average_pool(tape: Tape, visit: Visit) -> Gradients:
    window = window_of(tape, visit, visit.attribute("kernel_shape", []))
    if any(window.pads) and not visit.attribute("count_include_pad", 0):
        raise visit.refuse("divides by fewer pixels at its edges: set count_include_pad")
    channels = tape.shape(visit.inputs[0])[1]
    mean = tape.array(np.full((channels, 1, *window.kernel), 1 / np.prod(window.kernel)))
    return [_spread(tape, visit.gradient, mean, window, channels)]
