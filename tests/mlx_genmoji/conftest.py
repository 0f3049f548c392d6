"""The oracles: diffusers' and transformers' own modules with random weights, saved as a user's folder or file is.

And a language model in miniature.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from hub_server import Repositories
from mlx.utils import tree_flatten
from mlx_lm.models.llama import Model, ModelArgs
from numpy.typing import ArrayLike
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from mlx_genmoji.models import ops
from train.model.vocabulary import train_clip_vocabulary

# The models here are so small that threads cost more than they save.
torch.set_num_threads(1)


def _randomise(model: torch.nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            elif name.endswith("weight"):
                parameter.copy_(1 + 0.3 * noise)
            else:
                parameter.copy_(0.2 * noise)


# The layers that write what a norm reads, and those that only add a bias to it.
_WRITERS = re.compile(
    r"(conv_in|conv1|conv2|time_emb_proj|proj_in|proj_out|to_out\.0|ff\.net\.2|add_embedding\.proj|post_quant_conv"
    r"|token_embedding|position_embedding|out_proj|fc2)\.(weight|bias)$"
)
_BIASES = re.compile(r"(conv_shortcut|samplers\.0\.conv)\.bias$")


def _quieten(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if _WRITERS.search(name) or _BIASES.search(name):
                parameter.mul_(1e-3)


@pytest.fixture(scope="session")
def save(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`save(model, quiet=False)`: give the oracle random weights, norms and biases included, and save it; its folder.

    `quiet` makes every activation that a norm sees about a thousandth, where a norm's eps counts.
    """

    def save(model: Any, quiet: bool = False) -> Path:
        folder = tmp_path_factory.mktemp("oracle")
        _randomise(model)
        if quiet:
            _quieten(model)
        model.eval()
        model.save_pretrained(folder)
        return folder

    return save


@pytest.fixture
def error() -> Callable[[ArrayLike, ArrayLike], float]:
    """`error(a, b)`: ||a - b|| / ||b||, a being ours. Arrays of different shapes are infinitely far apart."""

    def error(a: ArrayLike, b: ArrayLike) -> float:
        ours, theirs = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if ours.shape != theirs.shape or not np.isfinite(ours).all():
            return float("inf")
        return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))

    return error


@pytest.fixture(params=["cpu", "gpu"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both forms of the arithmetic, the CPU's and the GPU's, whatever this machine has."""
    monkeypatch.setattr(ops, "on_cpu", lambda: request.param == "cpu")
    return request.param


State = dict[str, torch.Tensor]

# The original layout of a checkpoint in one file, by the names of diffusers.
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}


def _original_unet(state: State, layers: int) -> State:
    """A UNet in the original layout: one list of layers down and one up, halvings and doublings among them."""

    def name(key: str) -> str:
        block = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|\w+samplers)\.(\d+)\.(.*)", key)
        if block is None:
            module = next(module for module in _UNET if key.startswith(f"{module}."))
            place, rest = _UNET[module], key.removeprefix(f"{module}.")
        else:
            first = int(block[2]) * (layers + 1)
            kind, number, rest = block[3], int(block[4]), block[5]
            if kind == "downsamplers":
                return f"input_blocks.{first + layers + 1}.0.op.{rest.removeprefix('conv.')}"
            if kind == "upsamplers":
                attends = f"up_blocks.{block[2]}.attentions.0.norm.weight" in state
                return f"output_blocks.{first + layers}.{2 if attends else 1}.{rest}"
            place = f"input_blocks.{1 + first + number}" if block[1] == "down" else f"output_blocks.{first + number}"
            place += ".0" if kind == "resnets" else ".1"
        head, _, tail = rest.partition(".")
        return f"{place}.{_RESNET.get(head, head) if '.resnets.' in key else head}{'.' if tail else ''}{tail}"

    return {name(key): tensor for key, tensor in state.items()}


def _original_vae(state: State, blocks: int) -> State:
    original = {}
    for key, tensor in state.items():
        key = re.sub(r"down_blocks\.(\d+)", r"down.\1", key)
        key = re.sub(r"up_blocks\.(\d+)", lambda match: f"up.{blocks - 1 - int(match[1])}", key)
        key = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", key)
        for ours, theirs in (
            (r"\.resnets\.", ".block."),
            (r"\.(down|up)samplers\.0\.", r".\1sample."),
            (r"mid_block\.attentions\.0\.", "mid.attn_1."),
            (r"attn_1\.group_norm\.", "attn_1.norm."),
            (r"attn_1\.to_([qkv])\.", r"attn_1.\1."),
            (r"attn_1\.to_out\.0\.", "attn_1.proj_out."),
            (r"conv_shortcut", "nin_shortcut"),
            (r"conv_norm_out", "norm_out"),
        ):
            key = re.sub(ours, theirs, key)
        original[key] = tensor[:, :, None, None] if "attn_1" in key and tensor.ndim == 2 else tensor
    return original


def _original_clip(state: State) -> State:
    positions = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    return {f"text_model.{key}": tensor for key, tensor in state.items()} | positions


def _original_open_clip(state: State) -> State:
    """OpenCLIP's spelling, with what only training needs."""
    state = {key.removeprefix("text_model."): tensor for key, tensor in state.items()}
    original: State = {"logit_scale": torch.tensor(4.6)}
    for key, tensor in state.items():
        if "q_proj" in key:
            kind = key.rpartition(".")[2]
            joined = [state[key.replace("q_proj", f"{which}_proj")] for which in "qkv"]
            original[re.sub(r"self_attn\.q_proj\.", "attn.in_proj_", key)] = torch.cat(joined)
            assert kind in ("weight", "bias")
        elif "k_proj" not in key and "v_proj" not in key:
            original[key] = tensor
    renamed = {}
    for key, tensor in original.items():
        for ours, theirs in (
            (r"^encoder\.layers\.", "transformer.resblocks."),
            (r"\.layer_norm([12])\.", r".ln_\1."),
            (r"\.mlp\.fc1\.", ".mlp.c_fc."),
            (r"\.mlp\.fc2\.", ".mlp.c_proj."),
            (r"\.self_attn\.", ".attn."),
            (r"^embeddings\.token_embedding\.", "token_embedding."),
            (r"^embeddings\.position_embedding\.weight$", "positional_embedding"),
            (r"^final_layer_norm\.", "ln_final."),
        ):
            key = re.sub(ours, theirs, key)
        renamed[key] = tensor
    if "text_projection.weight" in renamed:
        renamed["text_projection"] = renamed.pop("text_projection.weight").T
    return renamed


@pytest.fixture(scope="session")
def original_layout() -> Callable[..., State]:
    """`original_layout(unet, vae, text_encoders)`: the oracles' weights as one file in the original layout spells them.

    The text encoders, by their prefix, are spelled as OpenCLIP's where that ends in "model.".
    """

    def original_layout(unet: Any, vae: Any, text_encoders: dict[str, Any]) -> State:
        parts = {
            "model.diffusion_model.": _original_unet(unet.state_dict(), unet.config.layers_per_block),
            "first_stage_model.": _original_vae(vae.state_dict(), len(vae.config.block_out_channels)),
        }
        for prefix, encoder in text_encoders.items():
            spell = _original_open_clip if prefix.endswith("model.") else _original_clip
            parts[prefix] = spell(encoder.state_dict())
        return {f"{prefix}{key}": tensor for prefix, part in parts.items() for key, tensor in part.items()}

    return original_layout


CAPTIONS = ["a flying pig", "a red apple on a plate", "an astronaut, waving, at night", "a happy octopus", "two cats"]


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    folder = tmp_path_factory.mktemp("vocabulary")
    train_clip_vocabulary(CAPTIONS, 600, folder, 77)
    return CLIPTokenizer.from_pretrained(folder)


def _encoder(kind: type, tokenizer: CLIPTokenizer, width: int, **more: Any) -> Any:
    return kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
            **more,
        )
    )


@pytest.fixture(scope="session")
def write_pipeline(vocabulary: CLIPTokenizer) -> Callable[..., Path]:
    """`write_pipeline(folder, kind, scheduler, **unet fields)`: a small one of 16 pixels with random weights."""

    def write_pipeline(folder: Path, kind: type, scheduler: Any, **fields: Any) -> Path:
        torch.manual_seed(0)
        xl = "XL" in kind.__name__
        settings: dict[str, Any] = {
            "sample_size": 8,
            "block_out_channels": (32, 64),
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "layers_per_block": 1,
            "attention_head_dim": 4,
            "cross_attention_dim": 72 if xl else 32,
            "norm_num_groups": 8,
        }
        if xl:
            settings |= {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 8,
                "projection_class_embeddings_input_dim": 24 + 6 * 8,
                "use_linear_projection": True,
                "transformer_layers_per_block": (1, 2),
            }
        parts: dict[str, Any] = {
            "vae": AutoencoderKL(
                block_out_channels=(16, 32),
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                norm_num_groups=8,
                sample_size=16,
            ),
            "text_encoder": _encoder(CLIPTextModel, vocabulary, 32, hidden_act="quick_gelu"),
            "unet": UNet2DConditionModel(**settings | fields),
        }
        if xl:
            second = _encoder(CLIPTextModelWithProjection, vocabulary, 40, hidden_act="gelu", projection_dim=24)
            parts["text_encoder_2"] = second
        with torch.no_grad():
            for model in parts.values():
                for parameter in model.parameters():
                    parameter.add_(0.02 * torch.randn_like(parameter))
            # The text should matter to the picture more than in a random model it does.
            for name, parameter in parts["unet"].named_parameters():
                if "attn2" in name:
                    parameter.mul_(4)
            # diffusers draws the latents of a picture from their distribution; of no variance, it is their mean.
            channels = parts["vae"].config.latent_channels
            parts["vae"].quant_conv.weight[channels:] = 0
            parts["vae"].quant_conv.bias[channels:] = -30
        parts |= {"tokenizer": vocabulary, "scheduler": scheduler}
        if xl:
            parts["tokenizer_2"] = vocabulary
        else:
            parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        kind(**parts).save_pretrained(folder)
        return folder

    return write_pipeline


_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model in miniature: random weights, a byte-level tokenizer, a chat template."""
    folder = tmp_path_factory.mktemp("language-model")
    tokens = _SPECIAL + sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _SPECIAL])
    backend.save(str(folder / "tokenizer.json"))
    roles = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(roles | {"chat_template": _CHAT_TEMPLATE}))
    config = {
        "model_type": "llama",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "rms_norm_eps": 1e-5,
        "vocab_size": len(tokens),
        "tie_word_embeddings": True,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    mx.random.seed(0)
    model = Model(ModelArgs.from_dict(config))
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
    return folder


@pytest.fixture
def repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repositories]:
    """A hub on this machine, empty, with a cache and settings of the test's own."""
    held = Repositories()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            status, body, headers = held.answer(unquote(urlsplit(self.path).path))
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                with suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    held.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("HF_ENDPOINT", held.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield held
    server.shutdown()
    server.server_close()
    thread.join()
