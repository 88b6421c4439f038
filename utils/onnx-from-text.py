#!/usr/bin/env python3
"""Turns a model in onnx's text syntax into a binary model: onnx-from-text.py in.onnxtxt out.onnx.

Tests keep their models as text, which can be read and compared. Lines that begin with // are comments (lit's RUN and
CHECK lines among them) and are dropped first, because onnx's parser has no comments. The model is written as it is,
unchecked, so that wrong models can be written too."""
import sys

import onnx.parser


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.splitlines()[0])
    with open(sys.argv[1]) as file:
        text = "".join(line for line in file if not line.lstrip().startswith("//"))
    try:
        model = onnx.parser.parse_model(text)
    except onnx.parser.ParseError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    with open(sys.argv[2], "wb") as file:
        file.write(model.SerializeToString())


if __name__ == "__main__":
    main()
