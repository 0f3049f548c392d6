"""Checkpoints in one file: what diffusers' own models say, after their weights were written in the original layout.

The layout is written from a random model of each family, and diffusers' own conversion reads it as meant.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import huggingface_hub.constants
import mlx.core as mx
import numpy as np
import pytest
import torch
import transformers
from diffusers.loaders import single_file_utils
from safetensors.torch import save_file

from mlx_genmoji.checkpoint.components import load_model
from mlx_genmoji.checkpoint.single_file import TOKENIZERS, convert_single_file
from mlx_genmoji.errors import UserError
from mlx_genmoji.models.clip import CLIPTextModel
from mlx_genmoji.models.unet import UNet2DConditionModel
from mlx_genmoji.models.vae import AutoencoderKL
from mlx_genmoji.tokenizer import CLIPTokenizer
from train.model.vocabulary import train_clip_vocabulary

pytestmark = pytest.mark.usefixtures("cpu")

TOLERANCE = 1e-5
VOCABULARY = 700
State = dict[str, torch.Tensor]

CROSS, PLAIN = "CrossAttn{}Block2D", "{}Block2D"


def unet_config(kinds: list[str], channels: list[int], **others: Any) -> dict[str, Any]:
    return {
        "down_block_types": [kind.format("Down") for kind in kinds],
        "up_block_types": [kind.format("Up") for kind in reversed(kinds)],
        "block_out_channels": channels,
        **others,
    }


XL = {
    "attention_head_dim": [1, 1, 2],
    "cross_attention_dim": 192,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 1664,
}
UNETS: dict[str, dict[str, Any]] = {
    "1": unet_config([CROSS, PLAIN], [32, 64], attention_head_dim=8, cross_attention_dim=128),
    "1-inpainting": unet_config(
        [CROSS, CROSS], [32, 64], attention_head_dim=8, cross_attention_dim=128, in_channels=9, layers_per_block=1
    ),
    "2": unet_config(
        [CROSS, PLAIN],
        [64, 128],
        attention_head_dim=[1, 2],
        cross_attention_dim=128,
        use_linear_projection=True,
        layers_per_block=1,
    ),
    "xl": unet_config([PLAIN, CROSS, CROSS], [64, 64, 128], transformer_layers_per_block=[1, 2, 3], **XL),
    "xl-distilled": unet_config(
        [PLAIN, CROSS, CROSS],
        [64, 64, 128],
        transformer_layers_per_block=[1, [2, 1], [2, 2]],
        reverse_transformer_layers_per_block=[[1, 3, 1], [1, 1, 2], 1],
        **XL,
    ),
}
PIPELINES = {
    "1": "StableDiffusionPipeline",
    "1-inpainting": "StableDiffusionInpaintPipeline",
    "2": "StableDiffusionPipeline",
    "xl": "StableDiffusionXLPipeline",
    "xl-distilled": "StableDiffusionXLPipeline",
}
PREFIXES = {
    "1": ["cond_stage_model.transformer."],
    "2": ["cond_stage_model.model."],
    "xl": ["conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."],
}


def text_config(hidden_size: int, layers: int, activation: str, projection: int = 512) -> transformers.CLIPTextConfig:
    return transformers.CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden_size,
        intermediate_size=40,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 64,
        hidden_act=activation,
        eos_token_id=2,
        projection_dim=projection,
    )


def text_encoders(family: str) -> dict[str, Any]:
    if family.startswith("1"):
        return {"text_encoder": transformers.CLIPTextModel(text_config(128, 2, "quick_gelu"))}
    if family.startswith("2"):
        return {"text_encoder": transformers.CLIPTextModel(text_config(128, 23, "gelu"))}
    return {
        "text_encoder": transformers.CLIPTextModel(text_config(64, 2, "quick_gelu")),
        "text_encoder_2": transformers.CLIPTextModelWithProjection(text_config(128, 3, "gelu", projection=128)),
    }


class Checkpoint:
    """Random oracles of a family, and a file that holds their weights in the original layout."""

    def __init__(self, family: str, save: Callable[..., Path], original_layout: Callable[..., State], folder: Path):
        self.family = family
        self.unet = diffusers.UNet2DConditionModel(**UNETS[family])
        self.vae = diffusers.AutoencoderKL(
            block_out_channels=[32, 64],
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
            layers_per_block=2,
        )
        self.text_encoders = text_encoders(family)
        for oracle in (self.unet, self.vae, *self.text_encoders.values()):
            save(oracle)
        prefixes = PREFIXES[family.partition("-")[0]]
        self.state = original_layout(self.unet, self.vae, dict(zip(prefixes, self.text_encoders.values(), strict=True)))
        if family == "2":
            last = {k.replace(".22.", ".23."): -tensor for k, tensor in self.state.items() if ".resblocks.22." in k}
            self.state |= last | {"cond_stage_model.model.text_projection": torch.ones(128, 128)}
        self.state |= {"betas": torch.ones(1000), "model_ema.decay": torch.tensor(0.9999)}
        self.file = folder / f"{family}.safetensors"
        self.write(self.file)

    def write(self, file: Path, metadata: dict[str, str] | None = None, **more: torch.Tensor) -> Path:
        save_file({key: tensor.contiguous() for key, tensor in (self.state | more).items()}, file, metadata)
        return file


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_clip_vocabulary("a flying pig! horse on the moon, 8k don't".split() * 5, 600, folder, max_length=77)
    tokens = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77, **tokens}))
    return folder


@pytest.fixture(scope="module")
def make(save, original_layout, vocabulary, tmp_path_factory) -> Callable[[str], tuple[Checkpoint, Path]]:
    """`make(family)`: the oracles, and the folder that their file became."""
    made: dict[str, tuple[Checkpoint, Path]] = {}

    def make(family: str) -> tuple[Checkpoint, Path]:
        if family not in made:
            root = tmp_path_factory.mktemp("single-file")
            checkpoint = Checkpoint(family, save, original_layout, root)
            convert_single_file(checkpoint.file, root / "converted", vocabulary)
            made[family] = checkpoint, root / "converted"
        return made[family]

    return make


def equal(left: State, right: State) -> bool:
    return left.keys() == right.keys() and all(
        torch.equal(left[key].reshape(right[key].shape), right[key]) for key in left
    )


def bare(encoder: transformers.PreTrainedModel) -> State:
    return {key.removeprefix("text_model."): tensor for key, tensor in encoder.state_dict().items()}


@pytest.mark.parametrize("family", UNETS)
def test_the_layout_is_what_diffusers_takes_for_it(family, make):
    checkpoint, _ = make(family)
    theirs = single_file_utils.convert_ldm_unet_checkpoint(checkpoint.state, dict(checkpoint.unet.config))
    assert equal(theirs, checkpoint.unet.state_dict())
    theirs = single_file_utils.convert_ldm_vae_checkpoint(checkpoint.state, dict(checkpoint.vae.config))
    assert equal(theirs, checkpoint.vae.state_dict())
    for prefix, encoder in zip(PREFIXES[family.partition("-")[0]], checkpoint.text_encoders.values(), strict=True):
        if prefix.endswith("model."):
            theirs = single_file_utils.convert_open_clip_checkpoint(encoder, checkpoint.state, prefix)
        else:
            theirs = single_file_utils.convert_ldm_clip_checkpoint(checkpoint.state)
            theirs.pop("text_model.embeddings.position_ids")
        # transformers writes the encoder without projection without the prefix that diffusers' conversion gives it.
        assert equal({key.removeprefix("text_model."): tensor for key, tensor in theirs.items()}, bare(encoder))


@pytest.mark.parametrize("family", UNETS)
def test_diffusers_reads_the_folder_and_finds_every_weight(family, make):
    checkpoint, folder = make(family)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    assert type(pipeline).__name__ == PIPELINES[family]
    oracles = {"unet": checkpoint.unet, "vae": checkpoint.vae, **checkpoint.text_encoders}
    for part, oracle in oracles.items():
        assert equal(pipeline.components[part].state_dict(), oracle.state_dict())
    theirs, ours = dict(checkpoint.unet.config), dict(pipeline.unet.config)
    assert {key for key in theirs if not key.startswith("_") and repr(theirs[key]) != repr(ours[key])} <= {
        "sample_size",
        "upcast_attention",
        *(("transformer_layers_per_block", "reverse_transformer_layers_per_block") if "distilled" in family else ()),
    }


@pytest.mark.parametrize("family", UNETS)
def test_the_converted_unet_predicts_what_the_oracle_predicts(family, make, error):
    checkpoint, folder = make(family)
    random = np.random.default_rng(1)
    config = checkpoint.unet.config
    sample = random.normal(size=(2, 10, 6, config.in_channels)).astype(np.float32)
    text = random.normal(size=(2, 5, config.cross_attention_dim)).astype(np.float32)
    timesteps = np.array([1, 981])
    added = {}
    if family.startswith("xl"):
        added["text_embeds"] = random.normal(size=(2, 128)).astype(np.float32)
        added["time_ids"] = np.array([[1024, 900, 0, 16, 512, 768]] * 2, np.float32)
    with torch.no_grad():
        expected = checkpoint.unet(
            torch.from_numpy(sample).permute(0, 3, 1, 2),
            torch.from_numpy(timesteps),
            torch.from_numpy(text),
            added_cond_kwargs={name: torch.from_numpy(array) for name, array in added.items()},
        ).sample
    model = load_model(folder / "unet")
    assert isinstance(model, UNet2DConditionModel)
    conditions = {name: mx.array(array) for name, array in added.items()}
    output = model(mx.array(sample), mx.array(timesteps), mx.array(text), conditions)
    assert error(output, expected.permute(0, 2, 3, 1).numpy()) <= TOLERANCE


@pytest.mark.parametrize("family", ["1", "2", "xl"])
def test_the_other_converted_components_say_what_the_oracles_say(family, make, error):
    checkpoint, folder = make(family)
    ids = np.random.default_rng(1).integers(0, VOCABULARY, (2, 77))
    for part, oracle in checkpoint.text_encoders.items():
        with torch.no_grad():
            expected = oracle(torch.from_numpy(ids), output_hidden_states=True)
        model = load_model(folder / part)
        assert isinstance(model, CLIPTextModel)
        output = model(mx.array(ids))
        assert error(output.last_hidden_state, expected.last_hidden_state.numpy()) <= TOLERANCE
        assert error(output.hidden_states[-2], expected.hidden_states[-2].numpy()) <= TOLERANCE
        pooled = expected.text_embeds if "text_embeds" in expected else expected.pooler_output
        assert error(output.pooled, pooled.numpy()) <= TOLERANCE
    latents = np.random.default_rng(2).normal(size=(1, 5, 4, 4)).astype(np.float32)
    with torch.no_grad():
        picture = checkpoint.vae.decode(torch.from_numpy(latents).permute(0, 3, 1, 2)).sample
    vae = load_model(folder / "vae")
    assert isinstance(vae, AutoencoderKL)
    assert error(vae.decode(mx.array(latents)), picture.permute(0, 2, 3, 1).numpy()) <= TOLERANCE
    assert vae.config.scaling_factor == (0.13025 if family == "xl" else 0.18215)


@pytest.mark.parametrize(
    ("family", "part", "pad"),
    [("1", "tokenizer", "end"), ("2", "tokenizer", "!"), ("xl", "tokenizer", "end"), ("xl", "tokenizer_2", "!")],
)
def test_each_tokenizer_pads_as_its_family_does(family, part, pad, make):
    folder = make(family)[1] / part
    ours, theirs = CLIPTokenizer.load(folder), transformers.CLIPTokenizer.from_pretrained(folder)
    assert ours.pad_token_id == (ours.eos_token_id if pad == "end" else 0)
    prompts = ["", "a flying pig!", "pig! ! 8k, don't", "MOON horse"]
    expected = theirs(prompts, padding="max_length", max_length=77, truncation=True, return_tensors="np").input_ids
    assert np.array_equal(ours(prompts), expected)


def scheduler(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "scheduler" / "scheduler_config.json").read_text())


@pytest.mark.parametrize(
    ("family", "predicts", "size"),
    [("1", "epsilon", 64), ("1-inpainting", "epsilon", 64), ("2", "v_prediction", 96), ("xl", "epsilon", 128)],
)
def test_where_nothing_is_known_a_family_predicts_as_most_of_it_does(family, predicts, size, make):
    _, folder = make(family)
    assert scheduler(folder)["prediction_type"] == predicts
    assert json.loads((folder / "unet" / "config.json").read_text())["sample_size"] == size


def test_what_a_model_predicts_comes_from_the_caller_then_the_metadata_then_a_mark(make, vocabulary, tmp_path):
    checkpoint, _ = make("2")
    declared = {"modelspec.prediction_type": "epsilon"}
    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    file = checkpoint.write(tmp_path / "declared.safetensors", declared, **marks)
    convert_single_file(file, tmp_path / "caller", vocabulary, prediction_type="v_prediction")
    convert_single_file(file, tmp_path / "metadata", vocabulary)
    assert scheduler(tmp_path / "caller")["prediction_type"] == "v_prediction"
    assert scheduler(tmp_path / "metadata")["prediction_type"] == "epsilon"
    checkpoint, _ = make("1")
    convert_single_file(checkpoint.write(tmp_path / "b.safetensors", **marks), tmp_path / "mark", vocabulary)
    assert scheduler(tmp_path / "mark")["prediction_type"] == "v_prediction"
    assert scheduler(tmp_path / "mark")["rescale_betas_zero_snr"] is True


def test_half_precision_stays_half_precision(make, vocabulary, tmp_path):
    checkpoint, folder = make("1")
    halves = {k: tensor.half() if tensor.is_floating_point() else tensor for k, tensor in checkpoint.state.items()}
    convert_single_file(checkpoint.write(tmp_path / "half.safetensors", **halves), tmp_path / "half", vocabulary)
    for part in ("unet", "vae", "text_encoder"):
        whole, half = (max((f / part).glob("*.safetensors")).stat().st_size for f in (folder, tmp_path / "half"))
        assert 0.45 < half / whole < 0.6


def test_keys_of_the_first_text_encoder_may_lack_their_prefix(make, vocabulary, tmp_path):
    checkpoint, folder = make("1")
    state = {key.replace("transformer.text_model.", "transformer."): array for key, array in checkpoint.state.items()}
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / "bare.safetensors")
    convert_single_file(tmp_path / "bare.safetensors", tmp_path / "bare", vocabulary)
    weights = "text_encoder/model.safetensors"
    assert (tmp_path / "bare" / weights).read_bytes() == (folder / weights).read_bytes()


@pytest.mark.parametrize("family", ["1", "2"])
def test_what_other_tools_leave_in_a_file_is_passed_over(family, make, vocabulary, tmp_path):
    checkpoint, folder = make(family)
    prefix = PREFIXES[family][0]
    keys = [f"{prefix}{key}" for key in ("logit_scale", "attn_mask", "text_projection.weight")][
        : 3 if family == "1" else 2
    ]
    keys += ["first_stage_model.loss.logvar", "first_stage_model.model_ema.decay", "model_ema.num_updates", "ae.extra"]
    file = checkpoint.write(tmp_path / "more.safetensors", **{key: torch.ones(2) for key in keys})
    convert_single_file(file, tmp_path / "more", vocabulary)
    for path in folder.rglob("*.safetensors"):
        assert (tmp_path / "more" / path.relative_to(folder)).read_bytes() == path.read_bytes()


def test_a_tokenizer_is_taken_from_the_cache_of_the_hub(make, vocabulary, tmp_path, monkeypatch):
    checkpoint, folder = make("1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(UserError, match=r"no tokenizer.*--tokenizer.*hf download"):
        convert_single_file(checkpoint.file, tmp_path / "converted")
    repository = tmp_path / "hub" / f"models--{TOKENIZERS[1].replace('/', '--')}"
    shutil.copytree(vocabulary, repository / "snapshots" / ("0" * 40) / "tokenizer")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    convert_single_file(checkpoint.file, tmp_path / "converted")
    for name in ("vocab.json", "merges.txt"):
        assert (tmp_path / "converted/tokenizer" / name).read_bytes() == (folder / "tokenizer" / name).read_bytes()


def refused(message: str, file: Path, folder: Path, *arguments: Any) -> None:
    with pytest.raises(UserError, match=message) as caught:
        convert_single_file(file, folder, *arguments)
    assert "\n" not in str(caught.value)
    assert not list(folder.parent.glob("*.partial*"))


def changed(checkpoint: Checkpoint, file: Path, change: Callable[[State], State]) -> Path:
    save_file({key: tensor.clone().contiguous() for key, tensor in change(dict(checkpoint.state)).items()}, file)
    return file


UP, DOWN = "model.diffusion_model.output_blocks.2.0", "model.diffusion_model.input_blocks.1.0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if "first_stage" not in k}, "holds no autoencoder"),
        (lambda s: {k: v for k, v in s.items() if "cond_stage" not in k}, "not a whole checkpoint.*2.x"),
        (lambda s: {k: v for k, v in s.items() if "diffusion_model" not in k}, "not a whole checkpoint"),
        (lambda s: {"lora_unet_mid.lora_up.weight": s["betas"]}, "adapter"),
        (
            lambda s: {k: v for k, v in s.items() if k != f"{UP}.in_layers.0.bias"},
            "unet.*missing: up_blocks.0.resnets.2",
        ),
        (
            lambda s: s | {f"{DOWN}.in_layers.2.weight": s["betas"]},
            "unet is not that of Stable Diffusion 1.x: .*1000 channels",
        ),
        (lambda s: {k: v for k, v in s.items() if "token_embedding" not in k}, "lacks text_model.*token_embedding"),
        (
            lambda s: s | {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, 5, 3, 3)},
            "takes 5 channels and makes 4",
        ),
        (lambda s: s | {"first_stage_model.encoder.extra": s["betas"]}, "vae.*unexpected: encoder.extra"),
    ],
)
def test_a_file_that_is_not_a_whole_checkpoint_is_one_sentence(change, message, make, vocabulary, tmp_path):
    checkpoint, _ = make("1")
    refused(message, changed(checkpoint, tmp_path / "x.safetensors", change), tmp_path / "converted", vocabulary)
    assert not (tmp_path / "converted").exists()


def test_what_cannot_be_done_is_one_sentence(make, vocabulary, tmp_path):
    checkpoint, folder = make("1")
    refused("is .* or .*, not 'sample'", checkpoint.file, tmp_path / "new", vocabulary, "sample")
    refused("pickle", tmp_path / "v1-5.ckpt", tmp_path / "new", vocabulary)
    refused("cannot be read", tmp_path / "nowhere.safetensors", tmp_path / "new", vocabulary)
    refused("exists already", checkpoint.file, folder, vocabulary)
    refused("nowhere.*is missing", checkpoint.file, tmp_path / "new", tmp_path / "nowhere")
    (tmp_path / "cut.safetensors").write_bytes(checkpoint.file.read_bytes()[:-1])
    refused("damaged", tmp_path / "cut.safetensors", tmp_path / "new", vocabulary)


def test_a_tokenizer_that_knows_more_than_the_text_encoder_is_refused(make, vocabulary, tmp_path):
    checkpoint, _ = make("1")
    larger = shutil.copytree(vocabulary, tmp_path / "larger")
    ids = json.loads((larger / "vocab.json").read_text())
    (larger / "vocab.json").write_text(json.dumps(ids | {"<|endoftext|>": VOCABULARY}))
    refused(f"{VOCABULARY + 1} tokens.*knows {VOCABULARY}", checkpoint.file, tmp_path / "converted", larger)
