"""Converts a checkpoint in one file, in the original layout, to a diffusers folder.

Stable Diffusion 1.x, 2.x and XL and their inpainting models. Tensors are renamed, never computed with. The sizes in a
config.json come from the tensors' shapes; settings that no shape tells are in `FAMILIES`. Two things are not in the
file:

- The tokenizer. All these models share CLIP's vocabulary, so the tokenizer folder of any of them will do.
- What the UNet predicts. In this order: the caller's argument; what the file states (`prediction`); for Stable
  Diffusion 2, one evaluation of the UNet; else v-prediction for Stable Diffusion 2 without inpainting (as its version
  for 768 pixels, on which most finetunes are based), and epsilon for all others. With the wrong one pictures are noise.

If a file has raw and EMA weights, the raw ones are read, as diffusers does.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
from huggingface_hub import try_to_load_from_cache

from ..errors import UserError, first_few
from ..files import whole_folder, write_json
from ..tokenizer import END_OF_TEXT, START_OF_TEXT, CLIPTokenizer, read_vocabulary
from .autoencoders import read_autoencoder
from .components import assign, create_model, save_model
from .file_families import FAMILIES, SCHEDULER, CheckpointFamily, TextEncoder
from .file_kinds import kind_of
from .original_keys import Tensors, autoencoder, clip, open_clip, unet
from .prediction import (
    EDM,
    PREDICTION_TYPES,
    declared_prediction,
    declares_zero_snr,
    edm_of,
    measured_prediction,
    sidecar_prediction,
)
from .tensor_files import read_tensors

UNET = "model.diffusion_model."
AUTOENCODER = "first_stage_model."

# The diffusers version whose folders have the layout that is written here.
DIFFUSERS_VERSION = "0.21.0"

# Latents, latents of the picture to repaint, and the mask: 4 + 4 + 1.
INPAINTING_CHANNELS = 9


# Hub repositories with a tokenizer folder: the first in the local cache is used.
TOKENIZERS = (
    "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-xl-base-1.0",
    "stabilityai/sdxl-turbo",
)


LEFTOVERS = re.compile(
    r"^(model_ema|loss|optimizer\w*|edm_vpred)\.|^(v_pred|edm_mean|edm_std|ztsnr|global_step|scale_factor|logvar|lvlb_weights|denoiser\..*)$"
    r"|^(betas|alphas_cumprod|sqrt_|log_one_minus|posterior_)"
)
"""Tensors that training leaves in many checkpoints, passed over without a word; others are named in a note."""

OTHER_INPUTS = {
    5: "a depth-to-image model",
    7: "an upscaler",
    8: "an InstructPix2Pix model",
    13: "a model of another kind",
}
"""What a UNet is that takes this many channels."""


def convert_single_file(
    file: str | Path,
    folder: str | Path,
    tokenizer: str | Path | None = None,
    prediction_type: str | None = None,
    *,
    vae: str | Path | None = None,
    allow_pickle: bool = False,
) -> list[str]:
    """Write the checkpoint `file` as a diffusers folder in the file's dtype, whole or not at all. Returns notes.

    tokenizer: a tokenizer folder of any Stable Diffusion model; None takes one from the local cache of the hub.
    prediction_type: what the UNet predicts, "epsilon" or "v_prediction"; None goes by the rule of this module.
    vae: the folder, file or hub id of the autoencoder to take instead of the file's. allow_pickle: read PyTorch's files
    too; nothing in them is run. Raises UserError if the file is damaged or not a checkpoint of a supported family, the
    tokenizer is missing or does not fit, or the folder is not empty.
    """
    file, folder = Path(file), Path(folder)
    if prediction_type not in (None, *PREDICTION_TYPES):
        raise UserError(f"The prediction type is {' or '.join(PREDICTION_TYPES)}, not {prediction_type!r}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already: name a new folder for the converted model.")
    tensors, metadata = read_tensors(file, allow_pickle, float64=True)
    family = _family(file, tensors, has_vae=vae is not None)
    edm, declared = _declared(file, tensors, metadata)
    tokenizer = _find_tokenizer(file, tokenizer)
    replacement = None if vae is None else read_autoencoder(vae, family.scaling_factor, allow_pickle)
    with whole_folder(folder) as partial:
        conversion = _Conversion(file, family, tensors, partial, metadata, replacement, edm)
        conversion.write(tokenizer, prediction_type or declared)
    return conversion.notes


@dataclass(frozen=True)
class _Conversion:
    """A checkpoint file and the diffusers folder that it is written to."""

    file: Path
    family: CheckpointFamily
    tensors: Tensors
    folder: Path
    metadata: Mapping[str, str]
    vae: tuple[dict[str, Any], Tensors] | None
    """The config and tensors of the autoencoder to take instead of the file's."""
    edm: EDM | None
    """The settings of a model that was trained on sigmas."""
    components: dict[str, list[str | None]] = field(default_factory=dict)
    """What `model_index.json` lists: each component's library and class. Filled while components are written."""
    notes: list[str] = field(default_factory=list)

    def write(self, tokenizer: Path, prediction_type: str | None) -> None:
        """Write all of the folder. prediction_type: of the caller or the file; None if neither states it."""
        for number, encoder in enumerate(self.family.text_encoders, start=1):
            self._write_text_encoder(encoder, "" if number == 1 else f"_{number}", tokenizer)
        if self.vae is None:
            config, renamed = autoencoder(self._tensors_under(AUTOENCODER))
            config["scaling_factor"] = self.family.scaling_factor
        else:
            config, renamed = self.vae
        self._save("vae", config | (self.edm.vae if self.edm else {}), renamed)
        inpaints, predicts = self._write_unet(prediction_type)
        self._write_scheduler(predicts)
        index = {
            "_class_name": self.family.pipeline.format("Inpaint" if inpaints else ""),
            "_diffusers_version": DIFFUSERS_VERSION,
            **self.components,
            **self.family.index,
        }
        write_json(self.folder / "model_index.json", index)
        self._note_unneeded()

    def _note_unneeded(self) -> None:
        """Note the tensors of the file that are no part of the folder, but for those that training leaves in many."""
        used = (UNET, AUTOENCODER, *(encoder.prefix for encoder in self.family.text_encoders))
        unneeded = [key for key in self.tensors if not key.startswith(used) and not LEFTOVERS.search(key)]
        if unneeded:
            self.notes.append(f"{self.file}: passed over tensors that drawing does not need: {first_few(unneeded)}.")

    def _write_text_encoder(self, encoder: TextEncoder, suffix: str, tokenizer: Path) -> None:
        tensors = self._tensors_under(encoder.prefix)
        if encoder.open_clip:
            config, renamed = open_clip(tensors, encoder.max_layers, encoder.projects)
        else:
            config, renamed = clip(tensors)
        self._save(f"text_encoder{suffix}", config, renamed)
        _write_tokenizer(tokenizer, self.folder / f"tokenizer{suffix}", encoder.pad_token, config)
        self.components[f"tokenizer{suffix}"] = ["transformers", "CLIPTokenizer"]

    def _write_unet(self, prediction_type: str | None) -> tuple[bool, str]:
        """Returns whether it is an inpainting model, and what it predicts."""
        tensors = self._tensors_under(UNET)
        if "label_emb.0.0.weight" in tensors and "addition_embed_type" not in self.family.unet:
            raise UserError(f"{self.file} is an unCLIP model, which draws from a picture: it is not supported.")
        config, renamed = unet(tensors, self.family.heads)
        inpaints = config["in_channels"] == INPAINTING_CHANNELS
        if not inpaints and config["in_channels"] != config["out_channels"]:
            kind = OTHER_INPUTS.get(config["in_channels"], "a model of another kind")
            raise UserError(
                f"{self.file} is {kind}: its UNet takes {config['in_channels']} channels and makes"
                f" {config['out_channels']}: only models that draw from a text, or from a text and a mask, are"
                " supported."
            )
        config |= self.family.unet
        predicts = prediction_type or self._likely_prediction(config, renamed, inpaints)
        self._save("unet", config | {"sample_size": self.family.sample_sizes[predicts]}, renamed)
        return inpaints, predicts

    def _likely_prediction(self, config: dict[str, Any], renamed: Tensors, inpaints: bool) -> str:
        """What the UNet predicts if neither the caller nor the file states it: a key of `sample_sizes`."""
        if inpaints:
            return "epsilon"
        default = next(iter(self.family.sample_sizes))
        if default == "epsilon":
            return default
        model: Any = create_model(config)
        assign(model, renamed.items(), mx.float32, f"{self.file}: its unet is not that of {self.family.name}")
        predicts = measured_prediction(model) or default
        self.notes.append(
            f"{self.file} does not state what it predicts; by an evaluation of its UNet it is {predicts}. If pictures"
            " are noise, convert it again with --predicts and the other one."
        )
        return predicts

    def _write_scheduler(self, predicts: str) -> None:
        scheduler: dict[str, Any] = {"_class_name": self.family.scheduler, **SCHEDULER, "prediction_type": predicts}
        if self.edm is not None:
            scheduler = self.edm.scheduler | {"prediction_type": predicts}
        elif declares_zero_snr(self.metadata, self.tensors, predicts):
            scheduler |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        write_json(self.folder / "scheduler" / "scheduler_config.json", scheduler)
        self.components["scheduler"] = ["diffusers", scheduler["_class_name"]]

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


def _family(file: Path, tensors: Tensors, has_vae: bool) -> CheckpointFamily:
    """The family of a checkpoint. Raises UserError if it is of none, or not whole. has_vae: it need not have one."""
    candidates = [
        family
        for family in FAMILIES
        if all(any(key.startswith(encoder.prefix) for key in tensors) for encoder in family.text_encoders)
    ]
    if candidates and any(key.startswith(f"{UNET}input_blocks.") for key in tensors):
        if has_vae or any(key.startswith(AUTOENCODER) for key in tensors):
            return candidates[0]
        raise UserError(
            f"{file} holds no autoencoder ({AUTOENCODER}*): give one with --vae, or use a version of the checkpoint"
            " that has one."
        )
    kind = kind_of(tensors)
    if kind is not None:
        raise UserError(f"{file} is not a whole checkpoint but {kind}.")
    names = ", ".join(family.name for family in reversed(FAMILIES))
    raise UserError(f"{file} is not a whole checkpoint (UNet and text encoders) of a supported family: {names}.")


def _declared(file: Path, tensors: Tensors, metadata: Mapping[str, str]) -> tuple[EDM | None, str | None]:
    """The settings of a model on sigmas, and what its UNet predicts, as far as the file states them."""
    try:
        edm = edm_of(tensors)
        return edm, edm.prediction_type if edm else declared_prediction(metadata, tensors) or sidecar_prediction(file)
    except UserError as error:
        raise UserError(f"{file} {error}.") from None


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
