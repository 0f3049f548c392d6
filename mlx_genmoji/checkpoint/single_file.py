"""Converts a checkpoint in one `.safetensors` file, in the original layout, to a diffusers folder.

Stable Diffusion 1.x, 2.x and XL and their inpainting models. Tensors are renamed, never computed with. The sizes in a
config.json come from the tensors' shapes; settings that no shape tells are in `FAMILIES`. Two things are not in the
file:

- The tokenizer. All these models share CLIP's vocabulary, so the tokenizer folder of any of them will do.
- What the UNet predicts. In this order: the caller's argument; `modelspec.prediction_type` in the file's header; a
  tensor named `v_pred`, by which finetunes declare it; else v-prediction for Stable Diffusion 2 without inpainting (as
  its version for 768 pixels, on which most finetunes are based), and epsilon for all others. With the wrong one
  pictures are noise.

If a file has raw and EMA weights, the raw ones are read, as diffusers does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
from huggingface_hub import try_to_load_from_cache
from safetensors import safe_open

from ..errors import UserError, quoted
from ..files import whole_folder, write_json
from ..tokenizer import END_OF_TEXT, START_OF_TEXT, CLIPTokenizer, read_vocabulary
from .components import assign, create_model, save_model
from .original_keys import Tensors, autoencoder, clip, open_clip, unet
from .weight_files import PICKLES, check_safetensors

UNET = "model.diffusion_model."
AUTOENCODER = "first_stage_model."

# The diffusers version whose folders have the layout that is written here.
DIFFUSERS_VERSION = "0.21.0"

# Latents, latents of the picture to repaint, and the mask: 4 + 4 + 1.
INPAINTING_CHANNELS = 9

PREDICTION_TYPES = ("epsilon", "v_prediction")
MODELSPEC_PREDICTION_TYPES = {"epsilon": "epsilon", "v": "v_prediction"}

# Hub repositories with a tokenizer folder: the first in the local cache is used.
TOKENIZERS = (
    "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-xl-base-1.0",
    "stabilityai/sdxl-turbo",
)


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder of a family: the prefix of its tensors, and settings that their shapes do not tell."""

    prefix: str
    open_clip: bool
    """Keys and activation (exact GELU) of OpenCLIP; else those of OpenAI's CLIP in transformers."""
    pad_token: str
    projects: bool = False
    max_layers: int | None = None
    """Layers after these are in the file but not used."""


@dataclass(frozen=True)
class CheckpointFamily:
    """The settings of a family of models that the shapes of its tensors do not tell."""

    name: str
    pipeline: str
    text_encoders: tuple[TextEncoder, ...]
    heads: int | None
    """The number of heads of every attention of the UNet; None: channels / 64."""
    sample_sizes: dict[str, int]
    """What the UNet may predict -> the side of the latents. The first key is the default."""
    scaling_factor: float
    scheduler: str
    index: dict[str, Any]
    unet: dict[str, Any]


_NO_SAFETY_CHECKER = {
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
}

# A file is of the first family whose text encoders it has.
FAMILIES = (
    CheckpointFamily(
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
    CheckpointFamily(
        name="Stable Diffusion 2.x",
        pipeline="StableDiffusion{}Pipeline",
        text_encoders=(TextEncoder("cond_stage_model.model.", open_clip=True, pad_token="!", max_layers=23),),
        heads=None,
        sample_sizes={"v_prediction": 96, "epsilon": 64},
        scaling_factor=0.18215,
        scheduler="DDIMScheduler",
        index=_NO_SAFETY_CHECKER,
        unet={"upcast_attention": True},
    ),
    CheckpointFamily(
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
    """Write the checkpoint `file` as a diffusers folder in the file's dtype, whole or not at all.

    tokenizer: a tokenizer folder of any Stable Diffusion model; None takes one from the local cache of the hub.
    prediction_type: what the UNet predicts, "epsilon" or "v_prediction"; None goes by the rule of this module.
    Raises UserError if the file is damaged or not a checkpoint of a supported family, the tokenizer is missing or does
    not fit, or the folder is not empty.
    """
    file, folder = Path(file), Path(folder)
    if prediction_type not in (None, *PREDICTION_TYPES):
        raise UserError(f"The prediction type is {' or '.join(PREDICTION_TYPES)}, not {prediction_type!r}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already: name a new folder for the converted model.")
    tensors, metadata = _read(file)
    family = _family(file, tensors)
    tokenizer = _find_tokenizer(file, tokenizer)
    with whole_folder(folder) as partial:
        _Conversion(file, family, tensors, partial).write(metadata, tokenizer, prediction_type)


@dataclass(frozen=True)
class _Conversion:
    """A checkpoint file and the diffusers folder that it is written to."""

    file: Path
    family: CheckpointFamily
    tensors: Tensors
    folder: Path
    components: dict[str, list[str | None]] = field(default_factory=dict)
    """What `model_index.json` lists: each component's library and class. Filled while components are written."""

    def write(self, metadata: Mapping[str, str], tokenizer: Path, prediction_type: str | None) -> None:
        """Write all of the folder. metadata: the file's. prediction_type: None goes by the rule of this module."""
        for number, encoder in enumerate(self.family.text_encoders, start=1):
            self._write_text_encoder(encoder, "" if number == 1 else f"_{number}", tokenizer)
        config, renamed = autoencoder(self._tensors_under(AUTOENCODER))
        self._save("vae", config | {"scaling_factor": self.family.scaling_factor}, renamed)
        inpaints, predicts = self._write_unet(metadata, prediction_type)
        self._write_scheduler(predicts)
        index = {
            "_class_name": self.family.pipeline.format("Inpaint" if inpaints else ""),
            "_diffusers_version": DIFFUSERS_VERSION,
            **self.components,
            **self.family.index,
        }
        write_json(self.folder / "model_index.json", index)

    def _write_text_encoder(self, encoder: TextEncoder, suffix: str, tokenizer: Path) -> None:
        tensors = self._tensors_under(encoder.prefix)
        if encoder.open_clip:
            config, renamed = open_clip(tensors, encoder.max_layers, encoder.projects)
        else:
            config, renamed = clip(tensors)
        self._save(f"text_encoder{suffix}", config, renamed)
        _write_tokenizer(tokenizer, self.folder / f"tokenizer{suffix}", encoder.pad_token, config)
        self.components[f"tokenizer{suffix}"] = ["transformers", "CLIPTokenizer"]

    def _write_unet(self, metadata: Mapping[str, str], prediction_type: str | None) -> tuple[bool, str]:
        """Returns whether it is an inpainting model, and what it predicts."""
        config, renamed = unet(self._tensors_under(UNET), self.family.heads)
        inpaints = config["in_channels"] == INPAINTING_CHANNELS
        if not inpaints and config["in_channels"] != config["out_channels"]:
            raise UserError(
                f"{self.file}: its UNet takes {config['in_channels']} channels and makes {config['out_channels']}: only"
                " models that draw from a text, or from a text and a mask, are supported."
            )
        predicts = prediction_type or _prediction_type(self.family, self.tensors, metadata, inpaints)
        self._save("unet", config | self.family.unet | {"sample_size": self.family.sample_sizes[predicts]}, renamed)
        return inpaints, predicts

    def _write_scheduler(self, predicts: str) -> None:
        scheduler = {"_class_name": self.family.scheduler, **SCHEDULER, "prediction_type": predicts}
        if "ztsnr" in self.tensors:
            scheduler |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        write_json(self.folder / "scheduler" / "scheduler_config.json", scheduler)
        self.components["scheduler"] = ["diffusers", self.family.scheduler]

    def _save(self, component: str, config: dict[str, Any], renamed: Tensors) -> None:
        """Write one component. Raises UserError if its tensors do not fit its config."""
        complaint = f"{self.file}: its {component} is not that of {self.family.name}"
        dtypes = [tensor.dtype for tensor in renamed.values()]
        dtype = mx.float32 if mx.float32 in dtypes else dtypes[0]
        try:
            model = create_model(config)
        except UserError as error:
            raise UserError(f"{complaint}: {error}") from None
        assign(model, renamed.items(), dtype, complaint)
        save_model(model, self.folder / component, dtype)
        library = "transformers" if component.startswith("text_encoder") else "diffusers"
        self.components[component] = [library, type(model).__name__]

    def _tensors_under(self, prefix: str) -> Tensors:
        """The tensors whose keys begin with `prefix`, by the rest of their keys."""
        return {key.removeprefix(prefix): tensor for key, tensor in self.tensors.items() if key.startswith(prefix)}


def _read(file: Path) -> tuple[Tensors, dict[str, str]]:
    """The tensors of a safetensors file, lazy, and its metadata."""
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


def _family(file: Path, tensors: Tensors) -> CheckpointFamily:
    """The family of a checkpoint. Raises UserError if it is of none, or not whole."""
    candidates = [
        family
        for family in FAMILIES
        if all(any(key.startswith(encoder.prefix) for key in tensors) for encoder in family.text_encoders)
    ]
    if candidates and any(key.startswith(f"{UNET}input_blocks.") for key in tensors):
        if any(key.startswith(AUTOENCODER) for key in tensors):
            return candidates[0]
        raise UserError(f"{file} holds no autoencoder ({AUTOENCODER}*): use a version of the checkpoint that has one.")
    if any("lora_" in key for key in tensors):
        raise UserError(f"{file} is an adapter (LoRA), not a checkpoint: it is used together with one.")
    names = ", ".join(family.name for family in reversed(FAMILIES))
    raise UserError(f"{file} is not a whole checkpoint (UNet and text encoders) of a supported family: {names}.")


def _prediction_type(family: CheckpointFamily, tensors: Tensors, metadata: Mapping[str, str], inpaints: bool) -> str:
    """What the UNet predicts if the caller does not say: a key of `sample_sizes`."""
    declared = metadata.get("modelspec.prediction_type", "")
    if declared in MODELSPEC_PREDICTION_TYPES:
        return MODELSPEC_PREDICTION_TYPES[declared]
    if "v_pred" in tensors:
        return "v_prediction"
    return "epsilon" if inpaints else next(iter(family.sample_sizes))


def _find_tokenizer(file: Path, folder: str | Path | None) -> Path:
    """`folder`, or a tokenizer folder in the local cache of the hub. Raises UserError if there is none."""
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
    """Write a tokenizer folder with the vocabulary of `source` and the family's padding token."""
    vocabulary, merges = read_vocabulary(source)
    write_json(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *map(" ".join, merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokens = {"bos_token": START_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT, "pad_token": pad_token}
    write_json(folder / "special_tokens_map.json", tokens)
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": text_encoder["max_position_embeddings"]}
    write_json(folder / "tokenizer_config.json", tokens | config)
    tokens_count, embeddings = CLIPTokenizer.load(folder).vocab_size, text_encoder["vocab_size"]
    if tokens_count > embeddings:
        raise UserError(
            f"The tokenizer {source} has {tokens_count} tokens, the checkpoint's text encoder knows {embeddings}."
        )
