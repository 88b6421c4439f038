"""Convolutions whose tiles of pixels leave padding out: images as wide as a tile, a part or a multiple of one, beside the interpreter."""

import pytest

from test_layout import Net, check, compile_model

# width of the image, then the convolution's attributes
CASES = {
    "7": (7, 7, dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1])),
    "14": (14, 14, dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1])),
    "28": (5, 28, dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1])),
    "not-square": (3, 14, dict(kernel_shape=[3, 5], pads=[0, 2, 1, 2])),
    "one-sided": (7, 7, dict(kernel_shape=[3, 3], pads=[2, 0, 0, 2])),
    "strided": (27, 13, dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])),
    "dilated": (14, 14, dict(kernel_shape=[3, 3], pads=[3, 3, 3, 3], dilations=[3, 3])),
    "more-padding-than-taps": (7, 7, dict(kernel_shape=[3, 3], pads=[4, 0, 3, 0])),
    "wide-kernel": (14, 14, dict(kernel_shape=[7, 7], pads=[3, 3, 3, 3])),
    "grouped": (14, 7, dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=2)),
    "one-pixel-rows": (9, 1, dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1])),
}


@pytest.mark.parametrize("numerics", ["reassoc", "strict"])
@pytest.mark.parametrize("name", CASES)
def test_beside_the_interpreter(name, numerics, tmp_path):
    height, width, attributes = CASES[name]
    net = Net(5)
    net.conv(16, 48, 1, 1)
    net.conv(48, 64, *attributes["kernel_shape"], **{k: v for k, v in attributes.items() if k != "kernel_shape"})
    net.conv(64, 20, 1, 1)
    shape = (2, 16, height, width)
    model, library, _ = compile_model(tmp_path, net, shape, f"-fp={numerics}")
    check(tmp_path, model, library, shape)


def test_one_pixel(tmp_path):
    """The result has no axes of pixels: real_silero_vad ends so."""
    net = Net(8)
    net.conv(16, 128, 3, pads=[1, 1], strides=[2])
    net.conv(128, 128, 3, pads=[1, 1], strides=[2])
    net.conv(128, 20, 1)
    for length in 2, 4:
        model, library, _ = compile_model(tmp_path, net, (1, 16, length))
        check(tmp_path, model, library, (1, 16, length))


def test_line(tmp_path):
    """One axis of pixels."""
    net = Net(6)
    net.conv(16, 32, 1)
    net.conv(32, 64, 5, pads=[2, 2])
    net.conv(64, 20, 1)
    model, library, _ = compile_model(tmp_path, net, (3, 16, 14))
    check(tmp_path, model, library, (3, 16, 14))


def test_symbolic_height(tmp_path):
    """The number of rows is known at run time only."""
    net = Net(7)
    net.conv(16, 48, 1, 1)
    net.conv(48, 64, 3, 3, pads=[1, 1, 1, 1])
    net.conv(64, 20, 1, 1)
    model, library, _ = compile_model(tmp_path, net, ("N", 16, "H", 14))
    for batch, height in (1, 14), (2, 1), (3, 5):
        check(tmp_path, model, library, (batch, 16, height, 14))


FIRST = {
    "3x3-stride-2": ((2, 3, 33, 45), dict(kernel=[3, 3], strides=[2, 2])),
    "3x3": ((1, 3, 21, 19), dict(kernel=[3, 3])),
    "7x7-stride-2": ((1, 3, 40, 231), dict(kernel=[7, 7], strides=[2, 2])),
    "5x1-gray": ((2, 1, 17, 16), dict(kernel=[5, 1])),
    "1x4-dilated": ((1, 3, 9, 50), dict(kernel=[1, 4], dilations=[1, 3])),
    "padded": ((1, 3, 33, 45), dict(kernel=[3, 3], strides=[2, 2], pads=[1, 0, 1, 0])),
}


@pytest.mark.parametrize("numerics", ["reassoc", "strict"])
@pytest.mark.parametrize("name", FIRST)
def test_first_convolution(name, numerics, tmp_path):
    """An image of few channels, channels first, without padding along its rows: its taps share their loads."""
    shape, attributes = FIRST[name]
    net = Net(9)
    net.conv(shape[1], 64, *attributes["kernel"], **{k: v for k, v in attributes.items() if k != "kernel"})
    net.conv(64, 20, 1, 1)
    model, library, _ = compile_model(tmp_path, net, shape, f"-fp={numerics}")
    check(tmp_path, model, library, shape)
