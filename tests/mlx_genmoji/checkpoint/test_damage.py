"""Damaged folders: whatever a config.json or a header says, loading ends, in a model or in one sentence.

Five components, each with a hundred changes: of a field of the config, of an entry of the header, or of single bytes.
"""

import json
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import mlx.core as mx
import pytest
import transformers

from mlx_genmoji.checkpoint.components import load_model
from mlx_genmoji.errors import UserError

pytestmark = pytest.mark.usefixtures("cpu")

CHANGES = 50

UNET = {"block_out_channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 4, "cross_attention_dim": 6}
TEXT = transformers.CLIPTextConfig(
    vocab_size=20, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2, projection_dim=6
)
ORACLES: dict[str, Callable[[], Any]] = {
    "stable-diffusion-xl": lambda: diffusers.UNet2DConditionModel(
        **UNET,
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"],
        transformer_layers_per_block=[1, [1]],
        reverse_transformer_layers_per_block=[[1, 1], 1],
        attention_head_dim=[1, 2],
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=30,
        time_cond_proj_dim=5,
    ),
    "stable-diffusion-1": lambda: diffusers.UNet2DConditionModel(
        **UNET,
        down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"],
        attention_head_dim=2,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
    ),
    "vae": lambda: diffusers.AutoencoderKL(block_out_channels=[8], norm_num_groups=4),
    "tiny-vae": lambda: diffusers.AutoencoderTiny(
        encoder_block_out_channels=[4, 4],
        decoder_block_out_channels=[4, 4],
        num_encoder_blocks=[1, 1],
        num_decoder_blocks=[1, 1],
    ),
    "text-encoder": lambda: transformers.CLIPTextModelWithProjection(TEXT),
}

VALUES = [
    *(None, True, False, -1, 0, 1, 2, 7, 2**20, 2**31 - 1, 2**31, 2**63, 2**64, 10**30, 10**300, -(10**400)),
    *(0.5, -0.0, 1e-300, 1e308, float("nan"), float("inf"), "", "abc", "8", "\n", "\u2028", "x" * 5000, "\ud800"),
    *([], [0], [[]], [None], [1, 2], [2**40, 2**40], [[1], [1]], [8] * 2000, {}, {"a": {"b": [1]}}),
    *("UNetMidBlock2D", "CrossAttnDownBlock2D", ["DownBlock2D"] * 2, "text", "text_time", "scale_shift"),
]
KEYS = ["a\nb", "", "x" * 5000, "conv_in.weight", "\u2028", "layers.0", "num_class_embeds", "__metadata__", "a\x00b"]
DTYPES = ["F64", "F16", "BF16", "F8_E4M3", "I32", "U8", "BOOL", "C64", "F4", "Q4", "", None, 3, ["F32"]]
SIZES = [0, 1, -1, 3, 2**31, 2**32, 2**32 + 1, 2**63, 2**64, 1.5, None, "8", [8], True]


def change_json(value: Any, choose: random.Random) -> Any:
    """`value` with something, anywhere inside, replaced, taken away, doubled or added."""
    if isinstance(value, dict) and value and choose.random() < 0.9:
        key = choose.choice(list(value))
        kind = choose.randrange(6)
        if kind == 0:
            return {name: item for name, item in value.items() if name != key}
        if kind == 1:
            return value | {choose.choice(KEYS): choose.choice([value[key], *VALUES])}
        return value | {key: change_json(value[key], choose)}
    if isinstance(value, list) and value and choose.random() < 0.7:
        i = choose.randrange(len(value))
        return choose.choice([value[:i], value * 2, value[::-1], [*value[:i], change_json(value[i], choose)]])
    if type(value) is int and choose.random() < 0.3:
        return choose.choice([value + 1, value - 1, 2 * value, value * 10**6, -value, str(value), [value]])
    return choose.choice(VALUES)


def change_bytes(data: bytes, choose: random.Random) -> bytes:
    """`data` with a few bytes replaced, taken away or added."""
    changed = bytearray(data)
    for _ in range(choose.randrange(1, 4)):
        i = choose.randrange(len(changed))
        changed[i : i + choose.randrange(2)] = choose.randbytes(choose.randrange(3))
    return bytes(changed)


def change_config(path: Path, choose: random.Random) -> None:
    if choose.random() < 0.15:
        path.write_bytes(change_bytes(path.read_bytes(), choose))
    else:
        path.write_text(json.dumps(change_json(json.loads(path.read_text()), choose)))


def change_header(path: Path, choose: random.Random) -> None:
    """Change the header of a safetensors file; its declared length matches it except once in a while."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    text, data = content[8 : 8 + length], content[8 + length :]
    if choose.random() < 0.2:
        text = change_bytes(text, choose)
    else:
        header = json.loads(text)
        key = choose.choice(list(header))
        if choose.random() < 0.2 or key == "__metadata__":
            header = change_json(header, choose)
        elif choose.random() < 0.3:
            header[choose.choice(KEYS)] = header.pop(key)
        else:
            entry = header[key]
            entry[choose.choice(["dtype", "shape", "data_offsets"])] = choose.choice(
                [
                    choose.choice(DTYPES),
                    entry["shape"][::-1],
                    [*entry["shape"], choose.choice(SIZES)],
                    [choose.choice(SIZES) for _ in range(choose.randrange(5))],
                    [offset + choose.choice([-4, 4, 2**40]) for offset in entry["data_offsets"]],
                ]
            )
        text = json.dumps(header).encode()
    declared = choose.choice([0, 1, length + 1, len(content), 2**40, 2**64 - 1]) if choose.random() < 0.1 else len(text)
    path.write_bytes(struct.pack("<Q", declared) + text + data)


@pytest.fixture(scope="module")
def folders(save) -> dict[str, Path]:
    return {name: save(oracle()) for name, oracle in ORACLES.items()}


@pytest.mark.parametrize("change", [change_config, change_header])
@pytest.mark.parametrize("component", ORACLES)
def test_a_damaged_folder_is_a_model_or_one_sentence(component, change, folders, tmp_path):
    files = {path.name: path.read_bytes() for path in folders[component].iterdir()}
    changed = "config.json" if change is change_config else next(name for name in files if name != "config.json")
    size = sum(map(len, files.values()))
    refusals = []
    for seed in range(CHANGES):
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        change(tmp_path / changed, random.Random(f"{component} {seed}"))
        # A cached buffer counts with its whole size, which may be nearly twice that of the array it is reused for.
        mx.clear_cache()
        mx.reset_peak_memory()
        before, start = mx.get_active_memory(), time.process_time()
        try:
            load_model(tmp_path)
        except UserError as error:
            refusals.append(str(error))
        assert time.process_time() - start < 5
        assert mx.get_peak_memory() - before <= 2 * size
    # Some changes are harmless: of what does not count here, or to a value as good.
    assert len(refusals) >= CHANGES // 2
    assert all(refusal.endswith(".") and len(refusal.splitlines()) == 1 for refusal in refusals)
    assert max(map(len, refusals)) <= 1500


def test_changes_are_many_and_differ(folders):
    """The damage above is what it says: hardly a change is made twice or changes nothing."""
    config = json.loads((folders["stable-diffusion-xl"] / "config.json").read_text())
    changed = {json.dumps(change_json(config, random.Random(seed))) for seed in range(CHANGES)}
    assert len(changed - {json.dumps(config)}) >= 0.9 * CHANGES
