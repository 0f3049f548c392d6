"""A checkpoint in one `.safetensors` file, in the original layout as it is shared, to a diffusers folder.

Stable Diffusion 1.x, 2.x and XL, inpainting ones too. The file's tensors are renamed, never computed with; what a
config.json says of sizes is read off their shapes, and what no shape tells is in `FAMILIES`. Two things are in no file:

- The tokenizer. The vocabulary of CLIP is the same for all of these models, so any of their tokenizer folders will do.
- What the UNet predicts. In this order: what the caller says; the file's own `modelspec.prediction_type`; a tensor that
  is named `v_pred`, with which finetunes mark themselves; else epsilon, but v-prediction for Stable Diffusion 2 without
  inpainting, as in its version for 768 pixels, which most finetunes begin with. The wrong one makes noise of pictures.

The weights trained, not their moving average, are read where a file has both, as diffusers does.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from huggingface_hub import try_to_load_from_cache
from safetensors import safe_open

from ..errors import UserError, quoted
from ..files import write_json
from ..tokenizer import END_OF_TEXT, START_OF_TEXT, CLIPTokenizer, read_vocabulary
from .components import assign, create_model, save_model
from .original_keys import Tensors, autoencoder, clip, open_clip, unet
from .weight_files import PICKLES, check_safetensors

UNET = "model.diffusion_model."
AUTOENCODER = "first_stage_model."

# Whose folders are as those written here; diffusers wants to know.
DIFFUSERS_VERSION = "0.21.0"

# Latents, latents of the picture to change, and the mask.
INPAINTING_CHANNELS = 9

PREDICTION_TYPES = ("epsilon", "v_prediction")
MODELSPEC_PREDICTION_TYPES = {"epsilon": "epsilon", "v": "v_prediction"}

# Repositories with a tokenizer folder, any of which will do where it is in the local cache.
TOKENIZERS = (
    "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-xl-base-1.0",
    "stabilityai/sdxl-turbo",
)


@dataclass(frozen=True)
class TextEncoder:
    """One of a family's text encoders: where its tensors are, and what they do not tell."""

    prefix: str
    open_clip: bool
    """Spelled as OpenCLIP spells it, with its exact GELU; else as OpenAI's CLIP in transformers."""
    pad_token: str
    projects: bool = False
    most_layers: int | None = None
    """Layers after these are in the file and not used."""


@dataclass(frozen=True)
class Family:
    """What the tensors of a family of models do not tell."""

    name: str
    pipeline: str
    text_encoders: tuple[TextEncoder, ...]
    heads: int | None
    """The heads of every attention of the UNet; None: as many as give each 64 channels."""
    sample_sizes: dict[str, int]
    """The side of the latents, by what the UNet predicts; first, what it predicts where nothing else is known."""
    scaling_factor: float
    scheduler: str
    index: dict[str, Any]
    unet: dict[str, Any]


_NO_SAFETY_CHECKER = {
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
}

# The first whose text encoders a file holds is its family.
FAMILIES = (
    Family(
        name="Stable Diffusion XL",
        pipeline="StableDiffusionXL{}Pipeline",
        text_encoders=(
            TextEncoder("conditioner.embedders.0.transformer.", open_clip=False, pad_token=END_OF_TEXT),
            TextEncoder("conditioner.embedders.1.model.", open_clip=True, pad_token="!", projects=True),
        ),
        heads=None,
        sample_sizes={"epsilon": 128, "v_prediction": 128},
        scaling_factor=0.13025,
        scheduler="EulerDiscreteScheduler",
        index={"force_zeros_for_empty_prompt": True},
        unet={"addition_embed_type": "text_time", "addition_time_embed_dim": 256},
    ),
    Family(
        name="Stable Diffusion 2.x",
        pipeline="StableDiffusion{}Pipeline",
        text_encoders=(TextEncoder("cond_stage_model.model.", open_clip=True, pad_token="!", most_layers=23),),
        heads=None,
        sample_sizes={"v_prediction": 96, "epsilon": 64},
        scaling_factor=0.18215,
        scheduler="DDIMScheduler",
        index=_NO_SAFETY_CHECKER,
        unet={"upcast_attention": True},
    ),
    Family(
        name="Stable Diffusion 1.x",
        pipeline="StableDiffusion{}Pipeline",
        text_encoders=(TextEncoder("cond_stage_model.transformer.", open_clip=False, pad_token=END_OF_TEXT),),
        heads=8,
        sample_sizes={"epsilon": 64, "v_prediction": 64},
        scaling_factor=0.18215,
        scheduler="DDIMScheduler",
        index=_NO_SAFETY_CHECKER,
        unet={},
    ),
)

SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "clip_sample": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


def convert_single_file(
    file: str | Path, folder: str | Path, tokenizer: str | Path | None = None, prediction_type: str | None = None
) -> None:
    """Write the checkpoint `file` as a diffusers folder, in the precision it has, moved into place when whole.

    tokenizer: a tokenizer folder of any Stable Diffusion model; None takes one from the local cache of the hub.
    prediction_type: what the UNet predicts, "epsilon" or "v_prediction"; None goes by the rule of this module.
    Raises UserError in one sentence where the file is damaged or of another kind, the tokenizer is missing or does not
    fit, or the folder is in use.
    """
    file, folder = Path(file), Path(folder)
    if prediction_type not in (None, *PREDICTION_TYPES):
        raise UserError(f"The prediction type is {' or '.join(PREDICTION_TYPES)}, not {prediction_type!r}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already: name a new folder for the converted model.")
    tensors, metadata = _read(file)
    family = _family(file, tensors)
    vocabulary = _find_tokenizer(file, tokenizer)
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        _write(file, family, tensors, metadata, vocabulary, prediction_type, partial)
        if folder.exists():
            folder.rmdir()
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(
    file: Path,
    family: Family,
    tensors: Tensors,
    metadata: Mapping[str, str],
    vocabulary: Path,
    prediction_type: str | None,
    folder: Path,
) -> None:
    components: dict[str, list[str | None]] = {}

    def save(part: str, config: dict[str, Any], renamed: Tensors) -> None:
        complaint = f"{file}: its {part} is not that of {family.name}"
        dtypes = [tensor.dtype for tensor in renamed.values()]
        dtype = mx.float32 if mx.float32 in dtypes else dtypes[0]
        try:
            model = create_model(config)
        except UserError as error:
            raise UserError(f"{complaint}: {error}") from None
        assign(model, renamed.items(), dtype, complaint)
        save_model(model, folder / part, dtype)
        library = "transformers" if part.startswith("text_encoder") else "diffusers"
        components[part] = [library, type(model).__name__]

    for number, encoder in enumerate(family.text_encoders, start=1):
        suffix = "" if number == 1 else f"_{number}"
        own = dict(_under(encoder.prefix, tensors))
        config, renamed = open_clip(own, encoder.most_layers, encoder.projects) if encoder.open_clip else clip(own)
        save(f"text_encoder{suffix}", config, renamed)
        _write_tokenizer(vocabulary, folder / f"tokenizer{suffix}", encoder.pad_token, config)
        components[f"tokenizer{suffix}"] = ["transformers", "CLIPTokenizer"]

    config, renamed = autoencoder(dict(_under(AUTOENCODER, tensors)))
    save("vae", config | {"scaling_factor": family.scaling_factor}, renamed)

    config, renamed = unet(dict(_under(UNET, tensors)), family.heads)
    inpaints = config["in_channels"] == INPAINTING_CHANNELS
    if not inpaints and config["in_channels"] != config["out_channels"]:
        sizes = f"{config['in_channels']} channels and makes {config['out_channels']}"
        raise UserError(
            f"{file}: its UNet takes {sizes}: it draws from something else than a text, or a text and a mask."
        )
    predicts = prediction_type or _prediction_type(family, tensors, metadata, inpaints)
    save("unet", config | family.unet | {"sample_size": family.sample_sizes[predicts]}, renamed)

    scheduler = {"_class_name": family.scheduler, **SCHEDULER, "prediction_type": predicts}
    if "ztsnr" in tensors:
        scheduler |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    components["scheduler"] = ["diffusers", family.scheduler]
    name = family.pipeline.format("Inpaint" if inpaints else "")
    index = {"_class_name": name, "_diffusers_version": DIFFUSERS_VERSION, **components, **family.index}
    write_json(folder / "model_index.json", index)


def _read(file: Path) -> tuple[Tensors, dict[str, str]]:
    """The tensors, unread yet, and the metadata of a safetensors file."""
    if file.suffix in PICKLES:
        raise UserError(f"{file} is a pickle, which can run any code: only .safetensors files are read.")
    check_safetensors(file)
    with safe_open(file, "numpy") as opened:
        metadata = opened.metadata() or {}
    try:
        tensors = mx.load(str(file))
    except RuntimeError as error:
        raise UserError(f"{file} cannot be read: {quoted(error)}.") from None
    assert isinstance(tensors, dict)
    return tensors, metadata


def _family(file: Path, tensors: Tensors) -> Family:
    """Raises UserError where a file is not a whole checkpoint of a family."""
    held = [
        family
        for family in FAMILIES
        if all(any(key.startswith(encoder.prefix) for key in tensors) for encoder in family.text_encoders)
    ]
    if held and any(key.startswith(f"{UNET}input_blocks.") for key in tensors):
        if any(key.startswith(AUTOENCODER) for key in tensors):
            return held[0]
        raise UserError(f"{file} holds no autoencoder ({AUTOENCODER}*): take a version of the checkpoint that has one.")
    if any("lora_" in key for key in tensors):
        raise UserError(f"{file} is an adapter (LoRA), not a checkpoint: it is used together with one.")
    names = ", ".join(family.name for family in reversed(FAMILIES))
    raise UserError(f"{file} is no whole checkpoint, UNet and text encoders, of a family that is supported: {names}.")


def _under(prefix: str, tensors: Tensors) -> Iterator[tuple[str, mx.array]]:
    return ((key.removeprefix(prefix), tensor) for key, tensor in tensors.items() if key.startswith(prefix))


def _prediction_type(family: Family, tensors: Tensors, metadata: Mapping[str, str], inpaints: bool) -> str:
    told = metadata.get("modelspec.prediction_type", "")
    if told in MODELSPEC_PREDICTION_TYPES:
        return MODELSPEC_PREDICTION_TYPES[told]
    if "v_pred" in tensors:
        return "v_prediction"
    return "epsilon" if inpaints else next(iter(family.sample_sizes))


def _find_tokenizer(file: Path, folder: str | Path | None) -> Path:
    """A tokenizer folder: the one given, or one in the local cache. Raises UserError where there is none."""
    if folder is not None:
        return Path(folder)
    for repository in TOKENIZERS:
        cached = [try_to_load_from_cache(repository, f"tokenizer/{name}") for name in ("vocab.json", "merges.txt")]
        if all(isinstance(path, str) for path in cached):
            return Path(str(cached[0])).parent
    raise UserError(
        f"{file} holds no tokenizer, as no single file does: give the tokenizer folder of a Stable Diffusion model "
        f"with --tokenizer, or fetch one with `hf download {TOKENIZERS[0]} --include 'tokenizer/*'`."
    )


def _write_tokenizer(source: Path, folder: Path, pad_token: str, text_encoder: Mapping[str, Any]) -> None:
    """A tokenizer folder with the vocabulary of `source`; what pads is a matter of the family."""
    vocabulary, merges = read_vocabulary(source)
    write_json(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *map(" ".join, merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokens = {"bos_token": START_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT, "pad_token": pad_token}
    write_json(folder / "special_tokens_map.json", tokens)
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": text_encoder["max_position_embeddings"]}
    write_json(folder / "tokenizer_config.json", tokens | config)
    needed, held = CLIPTokenizer.load(folder).vocab_size, text_encoder["vocab_size"]
    if needed > held:
        raise UserError(f"The tokenizer {source} has {needed} tokens, the checkpoint's text encoder knows {held}.")
