"""The objective of an adapter: the prediction of a base whose own weights, dense or quantized, are frozen."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_genmoji import Genmoji
from mlx_genmoji.checkpoint.weight_files import weights_sha256
from mlx_genmoji.errors import UserError
from mlx_genmoji.families.stable_diffusion import StableDiffusion, TextTowers
from mlx_genmoji.lora import Adapter, adapter_of, load_adapter, save_adapter
from mlx_genmoji.models.checkpointing import checkpoint_blocks

from ..batch import Sample
from ..data.captions import prompt_template
from ..data.dataset import Dataset
from ..data.latents import dataset_latents
from ..denoising import DenoisingObjective, Trained, every_caption
from ..fit.checkpoints import write_whole
from ..sheets import sheet
from ..texts import CachedTexts, FrozenTexts, Texts, TrainedTexts
from .base import attach_new, attach_started, check_base
from .fusing import check_packable
from .recipe import LoRARecipe
from .validation import SEED, band_timestep, held_out


class LoRAObjective(DenoisingObjective):
    """The prediction of a base with an adapter, of which only the adapter is trained."""

    recipe: LoRARecipe

    def __init__(self, recipe: LoRARecipe, genmoji: Genmoji, dataset: Dataset):
        """genmoji: the base. The adapter is attached to it, and its parts that are not needed any more can be freed."""
        check_base(genmoji)
        if recipe.fuse_bits is not None:
            check_packable(genmoji.models, recipe.fuse_bits, "Recipe: 'fuse_bits'")
        side = recipe.data.size
        if side % genmoji.vae.downscale:
            raise UserError(f"Recipe: 'data.size' must be a multiple of {genmoji.vae.downscale}, not {side}.")
        assert genmoji.folder is not None
        self.base = {"base_model": genmoji.name, "base_sha256": str(genmoji.sha256)}
        latents = dataset_latents(genmoji.vae, dataset.whole, weights_sha256(genmoji.folder / "vae"))
        self.validation_rows = held_out(dataset.hashes, recipe.validation.pictures)
        if recipe.start_from is None:
            self.layers = attach_new(genmoji, recipe.lora, recipe.bits, recipe.seed)
        else:
            fused = recipe.fuse_bits is not None
            self.layers = attach_started(genmoji, recipe.start_from, recipe.lora.dropout, fused)
        texts: Texts
        painting: TextTowers
        if any(path.startswith("text_encoder") for path in self.layers):
            self.models = genmoji.models
            texts, painting = TrainedTexts(genmoji.text), genmoji.text
        else:
            self.models = {"unet": genmoji.unet}
            weights = weights_sha256(*(genmoji.folder / name for name in genmoji.models if name != "unet"))
            key = [weights, recipe.bits]
            texts = FrozenTexts(genmoji.text, every_caption(dataset), dataset.cache, key, recipe.sample_prompts)
            painting = CachedTexts(texts)
        model = Trained(self.models)
        model.eval()
        if recipe.checkpointing:
            checkpoint_blocks(model)
        super().__init__(recipe, dataset, latents, model, texts, genmoji.scheduler, self.validation_rows)
        self.painter = Genmoji(
            StableDiffusion(unet=genmoji.unet, text=painting, vae=genmoji.vae, scheduler=genmoji.scheduler),
            defaults=genmoji.defaults,
            name=genmoji.name,
        )

    def inputs(self) -> dict[str, str | None]:
        """Hashes of the weights that the run starts from, for `run_settings`."""
        start = self.recipe.start_from
        return {
            "the base's weights": self.base["base_sha256"],
            "the adapter to start from": fingerprint(load_adapter(start)) if start else None,
        }

    def validate(self) -> list[float]:
        """The loss of the held-out pictures in each band of timesteps, from the least noisy."""
        bands, rows = self.recipe.validation.bands, self.validation_rows
        loop = self.recipe.loop
        # No more pictures at the same time than in training.
        part_size = loop.batch_size // loop.parts
        losses = []
        for band in range(bands):
            samples = []
            for place, row in enumerate(rows.tolist()):
                timestep = band_timestep(band, bands, (place + 0.5) / len(rows), len(self.signal))
                noise = np.random.default_rng((SEED, band, place)).standard_normal(self.latents.shape[1:], np.float32)
                samples.append(Sample(row, self.dataset.captions[row], timestep, noise))
            total = 0.0
            for part in np.array_split(np.arange(len(samples)), -(-len(samples) // part_size)):
                total += len(part) * np.asarray(self.loss(*self.arrays([samples[i] for i in part]))).item()
            losses.append(total / len(samples))
        return losses

    def paint(self, prompts: Sequence[str]) -> NDArray[np.uint8]:
        """The model's pictures of captions, (N, H, W, 3)."""
        stickers = [self.painter.generate(text, seed=self.recipe.sample_seed, template="{prompt}") for text in prompts]
        return np.stack([np.asarray(batch[0].image) for batch in stickers])

    def sample(self, path: Path) -> None:
        """One sticker for each sample prompt."""
        if self.recipe.sample_prompts:
            sheet(self.paint(self.recipe.sample_prompts), columns=8).save(path)

    def save(self, path: Path, steps: int, for_dense: bool = False) -> None:
        """Write the adapter as it is now; for_dense: without its part that repairs the rounding of a quantized base."""
        recipe = self.recipe
        facts = {
            **self.base,
            "base_bits": None if for_dense else recipe.bits,
            "init": "zero" if for_dense else recipe.lora.init,
            "skin_tone": recipe.skin_tone,
            "person_type": recipe.person_type,
            "template": prompt_template(recipe.data),
            "dataset_sha256": self.dataset.sha256,
            "step": steps,
            "seed": recipe.seed,
        }
        adapter = adapter_of(self.models, for_dense)
        metadata = {**adapter.metadata} | {name: str(value) for name, value in facts.items() if value is not None}
        write_whole(path, lambda partial: save_adapter(replace(adapter, metadata=metadata), partial))


def fingerprint(adapter: Adapter) -> str:
    """A hash of an adapter's layers: that of its file depends on how it happens to be written."""
    digest = hashlib.sha256()
    for path, layer in sorted(adapter.layers.items()):
        digest.update(f"{path} {layer.alpha}".encode())
        for array in (layer.down, layer.up, layer.dora_scale):
            digest.update(b"" if array is None else np.asarray(array.astype(mx.float32)).tobytes())
    return digest.hexdigest()
