#!/usr/bin/env python3
"""Models with symbolic dimensions, each with the sizes it is tried at.

    python dynamic.py --list
    python dynamic.py --out cases [--only dyn_bert ...]

A case is a folder with model.onnx alone; `CASES[name].inputs(sizes)` gives seeded inputs for one choice of sizes, and
`CASES[name].sizes` the choices (at least five). The modules are those of models.py (decoders with one layer) exported with
symbolic dimensions, and the models of real_models.py with the symbolic dimensions that their authors gave them, or, where a
name is given here, with more of them."""
import argparse
import os

import numpy as np

import real_models


class Dynamic:
    """One model: `build(path)` writes it, `inputs(sizes)` is a list of arrays in graph order."""

    def __init__(self, build, inputs, sizes, tolerance=1e-4):
        self.build, self.inputs, self.sizes, self.tolerance = build, inputs, sizes, tolerance


CASES = {}
IMAGES = [dict(batch=1, height=224, width=224), dict(batch=2, height=64, width=96), dict(batch=3, height=97, width=33),
          dict(batch=5, height=32, width=160), dict(batch=8, height=40, width=40)]
TEXTS = [dict(batch=1, seq=1), dict(batch=2, seq=7), dict(batch=3, seq=64), dict(batch=5, seq=33), dict(batch=8, seq=17),
         dict(batch=1, seq=128), dict(batch=1, seq=200)]
PASTS = [dict(batch=1, past=1), dict(batch=2, past=7), dict(batch=3, past=64), dict(batch=5, past=128), dict(batch=8, past=31),
         dict(batch=1, past=200), dict(batch=1, past=1000)]


def export(module, arguments, names, outputs, dims, path):
    """Writes a torch module with the symbolic dims {input: {axis: name}}."""
    import torch

    symbols = {name: torch.export.Dim.DYNAMIC for axes in dims for name in axes.values()}
    shapes = tuple({axis: symbols[name] for axis, name in axes.items()} for axes in dims)
    fixed = sum(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in signature(module))
    if len(shapes) > fixed:  # those of *arguments are one tuple
        shapes = (*shapes[:fixed], shapes[fixed:])
    with torch.no_grad():
        program = torch.onnx.export(module, arguments, dynamo=True, opset_version=18, input_names=names, output_names=outputs, verbose=False,
                                    dynamic_shapes=shapes)
    model = program.model_proto
    # The exporter invents names (s77, s53); equal sizes were found equal, so one name for each of ours is enough.
    given = {value.name: axes for value, axes in zip(model.graph.input, dims)}
    for value in model.graph.input:
        for axis, name in given[value.name].items():
            value.type.tensor_type.shape.dim[axis].dim_param = name
    for value in list(model.graph.output) + list(model.graph.value_info):
        value.type.tensor_type.ClearField("shape")
    import onnx

    onnx.save(model, path)


def signature(module):
    import inspect

    return inspect.signature(module.forward).parameters.values()


def seeded(name, sizes):
    return real_models.rng(name + str(sorted(sizes.items())))


# ------------------------------------------------------------------------------------------------ models.py
def add_image_model(name, make):
    def build(path):
        import models
        import torch

        module = models.init_weights(make(models), models.seed_of(name))
        export(module, (torch.zeros(2, 3, 96, 64),), ["x"], ["logits"], [{0: "batch", 2: "height", 3: "width"}], path)

    def inputs(sizes):
        return [seeded(name, sizes).standard_normal((sizes["batch"], 3, sizes["height"], sizes["width"])).astype(np.float32)]

    CASES["dyn_" + name] = Dynamic(build, inputs, IMAGES)


add_image_model("resnet50", lambda models: models.ResNet50())
add_image_model("mobilenet_v2", lambda models: models.MobileNet(2))
add_image_model("mobilenet_v3_large", lambda models: models.MobileNet(3))


def text_inputs(name, sizes, vocabulary):
    """Token ids, a mask whose rows end at different places, and token types."""
    g, shape = seeded(name, sizes), (sizes["batch"], sizes["seq"])
    lengths = [max(1, shape[1] - 3 * row) for row in range(shape[0])]
    mask = (np.arange(shape[1])[None] < np.array(lengths)[:, None]).astype(np.int64)
    return [g.integers(0, vocabulary, shape), mask, g.integers(0, 2, shape)]


def build_bert(path):
    import models
    import torch

    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = tuple(torch.ones(2, 9, dtype=torch.int64) for _ in names)
    module = models.init_weights(models.Bert(), models.seed_of("bert"))
    export(module, example, names, ["hidden", "pooled"], [{0: "batch", 1: "seq"}] * 3, path)


CASES["dyn_bert_base"] = Dynamic(build_bert, lambda sizes: text_inputs("bert", sizes, 30522), TEXTS)


def decoder_inputs(family, phase, heads, width, sizes):
    """input_ids, attention_mask, position_ids, then past_k and past_v of the one layer when decoding."""
    g, batch = seeded(family + phase, sizes), sizes["batch"]
    past, new = (sizes["past"], 1) if phase == "decode" else (0, sizes["seq"])
    total = past + new
    # Rows are padded on the left, as batched decoding is; the first row is whole.
    mask = (np.arange(total)[None] >= np.minimum(np.arange(batch), total - new)[:, None]).astype(np.int64)
    positions = np.broadcast_to(np.arange(past, total), (batch, new))
    if family == "chatglm":
        whole = np.arange(total)
        split = np.stack([np.minimum(whole, max(total // 2, 1)), np.maximum(whole - total // 2, 0)])
        positions = np.broadcast_to(split[None, :, past:], (batch, 2, new))
    arrays = [g.integers(0, 4096, (batch, new)), mask, np.ascontiguousarray(positions)]
    if past:
        arrays += [g.standard_normal((batch, heads, past, width)).astype(np.float32) for _ in "kv"]
    return arrays


def add_decoder(family, phase):
    def config(models):
        hidden, heads, kv, inter, width = models.FAMILIES[family][0]
        return models.Cfg(family, hidden, 1, heads, kv, inter, 4096, width)

    def build(path):
        import models
        import torch

        c = config(models)
        module = models.init_weights(models.Decoder(c, 8 if phase == "decode" else 0), models.seed_of(family))
        sizes = dict(batch=2, past=8) if phase == "decode" else dict(batch=2, seq=9)
        example = decoder_inputs(family, phase, c.kv, c.hd, sizes)
        new = {} if phase == "decode" else {1: "seq"}
        dims = [{0: "batch", **new}, {0: "batch", 1: "total" if phase == "decode" else "seq"}, {0: "batch", **({k + (family == "chatglm"): v for k, v in new.items()})}]
        names, outputs = ["input_ids", "attention_mask", "position_ids"], ["logits", "present_k", "present_v"]
        if phase == "decode":
            dims += [{0: "batch", 2: "past"}] * 2
            names += ["past_k", "past_v"]
        export(module, tuple(map(torch.tensor, example)), names, outputs, dims, path)

    inputs = lambda sizes: decoder_inputs(family, phase, *DECODERS[family], sizes)
    CASES[f"dyn_{family}_{phase}"] = Dynamic(build, inputs, PASTS if phase == "decode" else TEXTS)


DECODERS = {"llama2": (16, 64), "qwen2": (4, 64), "qwen3": (8, 128), "baichuan2_7b": (16, 64), "baichuan2_13b": (20, 64),
            "chatglm": (16, 64), "chatglm2": (2, 64)}  # heads and width of keys, as FAMILIES of models.py has them
for family in DECODERS:
    for phase in ("prefill", "decode"):
        add_decoder(family, phase)


# ------------------------------------------------------------------------------------------------ real_models.py
def add_real(name, dims, inputs, sizes):
    """A model of real_models.py; `dims` are names for axes of its inputs: {input number: {axis: name}}."""

    def build(path):
        import onnx

        package, member, feeds = real_models.OPEN[name][:3]
        blob = real_models.wheel_member(package, member, os.path.join(os.path.dirname(path), "..", "..", "wheels"))
        if feeds == "minilm":
            real_models.minilm(blob, path, True)
            return
        model = onnx.load_from_string(blob)
        constants = {tensor.name for tensor in model.graph.initializer}
        values = [value for value in model.graph.input if value.name not in constants]
        for number, axes in dims.items():
            for axis, symbol in axes.items():
                values[number].type.tensor_type.shape.dim[axis].dim_param = symbol
        onnx.save(model, path)

    CASES["dyn_" + name] = Dynamic(build, inputs, sizes)


def picture(name, make):
    return lambda sizes: [make(name + str(sizes), sizes["batch"], 3, sizes["height"], sizes["width"])]


NCHW = {0: {0: "batch", 2: "height", 3: "width"}}
add_real("real_ppocr4_det", NCHW, picture("det", real_models.page),
         [dict(batch=1, height=640, width=640), dict(batch=2, height=64, width=96), dict(batch=3, height=96, width=64),
          dict(batch=1, height=320, width=480), dict(batch=5, height=64, width=160), dict(batch=8, height=64, width=64)])
add_real("real_ppocr4_rec", NCHW, picture("rec", real_models.page),
         [dict(batch=1, height=48, width=320), dict(batch=2, height=48, width=100), dict(batch=3, height=48, width=64),
          dict(batch=6, height=48, width=31), dict(batch=1, height=48, width=1000)])
add_real("real_ppocr_cls", NCHW, picture("cls", real_models.image),
         [dict(batch=n, height=48, width=192) for n in (1, 2, 3, 5, 8)])
add_real("real_magika", {}, lambda sizes: [seeded("magika", sizes).integers(0, 257, (sizes["batch"], 2048)).astype(np.int32)],
         [dict(batch=n) for n in (1, 2, 3, 5, 8)])
add_real("real_silero_vad", {0: {0: "batch"}, 1: {1: "batch"}},
         lambda sizes: [np.stack([real_models.audio(f"vad{row}", 576) for row in range(sizes["batch"])]), np.zeros((2, sizes["batch"], 128), np.float32)],
         [dict(batch=n) for n in (1, 2, 3, 5, 8)])
add_real("real_minilm_l6", {}, lambda sizes: text_inputs("minilm", sizes, 30522), [dict(batch=1, seq=n) for n in (2, 7, 64, 128, 200, 512)])


def write(name, folder):
    """The path of the case's model, written when it is not there yet."""
    path = os.path.join(folder, name, "model.onnx")
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        CASES[name].build(path + ".part")
        os.rename(path + ".part", path)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="cases")
    parser.add_argument("--only", nargs="*", default=list(CASES))
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    for name in arguments.only:
        print(name if arguments.list else write(name, arguments.out), flush=True)


if __name__ == "__main__":
    main()
