"""The faults that `run.py` plants: each changes one place, and at least one of the tests named with it must notice.

Every one of them spoils results without a crash. They were chosen in a review of the code; of the first 21, the tests
of that day noticed eight. Where a file is rewritten, its rows here follow.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """One planted fault: `old`, which stands once in `file`, becomes `new`; `tests` are files or folders of tests."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


TRAINING = ("tests/train/test_batches.py", "tests/train/test_training.py")
ADAPTERS = ("tests/train/test_batches.py", "tests/train/test_lora.py")
CRAWL = ("tests/scrape/emojigraph",)
EXPORT = ("tests/quantize/export",)

MUTATIONS = (
    Mutation(
        "each caption is trained with another picture's latents",
        "train/denoising.py",
        "self.latents[self.dataset.places[[sample.row for sample in samples]]]",
        "self.latents[self.dataset.places[[sample.row for sample in samples[::-1]]]]",
        TRAINING + ADAPTERS,
    ),
    Mutation(
        "the cache of texts does not know the text encoder",
        "train/texts.py",
        "[cached(cache, name, [key, texts], partial",
        "[cached(cache, name, [texts], partial",
        ADAPTERS,
    ),
    Mutation(
        "a whole model: captions are never dropped",
        "train/batch.py",
        "if rng.random() < dropout:",
        "if rng.random() < 0:",
        TRAINING,
    ),
    Mutation(
        "a whole model: timestep_shift is ignored",
        "train/batch.py",
        "/ count, noise.timestep_shift)",
        "/ count, 1.0)",
        TRAINING,
    ),
    Mutation(
        "an adapter: timestep_shift is ignored",
        "train/batch.py",
        "/ count, noise.timestep_shift)",
        "/ count, 1.0)",
        ADAPTERS,
    ),
    Mutation(
        "an adapter: timesteps are not stratified",
        "train/batch.py",
        "shifted((key[-1] + rng.random()) / count,",
        "shifted(rng.random(),",
        ADAPTERS,
    ),
    Mutation(
        "half precision: gradients are not scaled back",
        "train/fit/step.py",
        "/ (count * self.scale)",
        "/ count",
        ("tests/train/test_plan.py", *TRAINING, *ADAPTERS),
    ),
    Mutation(
        "an adapter: the same dropout in every step",
        "train/fit/step.py",
        "_mlx_seed((self.seed, step, self.world.rank, number))",
        "_mlx_seed((self.seed, self.world.rank, number))",
        ADAPTERS,
    ),
    Mutation(
        "personas: pictures of two skin tones are taken too",
        "train/adapter/personas.py",
        '{"skin_tone": [[entry.skin_tone]]}',
        '{"skin_tone": [entry.skin_tone]}',
        ("tests/train/test_personas.py",),
    ),
    Mutation(
        "the mean of the weights has no warm-up",
        "train/fit/step.py",
        "decay = min(self.loop.ema_decay, (step + 1) / (step + 10))",
        "decay = self.loop.ema_decay",
        TRAINING + ADAPTERS,
    ),
    Mutation(
        "the export's README exchanges Neural Engine and GPU",
        "quantize/export/companion_files.py",
        '".cpuAndNeuralEngine" if facts["attention_implementation"] == "SPLIT_EINSUM" else ".cpuAndGPU"',
        '".cpuAndGPU" if facts["attention_implementation"] == "SPLIT_EINSUM" else ".cpuAndNeuralEngine"',
        EXPORT,
    ),
    Mutation(
        "an exported autoencoder is shifted with the wrong sign",
        "quantize/export/vae.py",
        "z = g.mb.add(x=z, y=g.dtype.type(shift))",
        "z = g.mb.sub(x=z, y=g.dtype.type(shift))",
        EXPORT,
    ),
    Mutation(
        "palettes after one round of Lloyd's method",
        "quantize/export/weight_formats.py",
        "MAX_ROUNDS = 200",
        "MAX_ROUNDS = 1",
        EXPORT,
    ),
    Mutation(
        "the decoder: the share of the old weights is that of the new",
        "train/model/decoder.py",
        "new + recipe.kept * (old - new)",
        "old + recipe.kept * (new - old)",
        TRAINING,
    ),
    Mutation(
        "another port counts as the same site",
        "scrape/emojigraph/client.py",
        "(url.scheme, url.host, url.port) == site",
        "(url.scheme, url.host) == site[:2]",
        CRAWL,
    ),
    Mutation(
        "a crawl stops after so many failures in all, not in a row",
        "scrape/emojigraph/crawl.py",
        "        else:\n            self._given_up.clear()",
        "        else:\n            pass",
        CRAWL,
    ),
    Mutation(
        "Retry-After of answers that are not tried again is obeyed",
        "scrape/emojigraph/client.py",
        '_retry_after(headers.get("Retry-After", ""), now) if retryable else 0.0',
        '_retry_after(headers.get("Retry-After", ""), now)',
        CRAWL,
    ),
    Mutation(
        "Fluent's exchanged skin tones stay exchanged",
        "scrape/fluent.py",
        'SWAPPED_TONES = {"1F3FC": "1F3FD", "1F3FD": "1F3FC"}',
        "SWAPPED_TONES: dict[str, str] = {}",
        ("tests/scrape/test_collect.py",),
    ),
    Mutation(
        "gradients of a batch's parts are summed, not averaged",
        "train/fit/step.py",
        "/ (count * self.scale)",
        "/ self.scale",
        TRAINING + ADAPTERS,
    ),
    Mutation(
        "an adapter starts ten times as large",
        "mlx_genmoji/lora/initialization.py",
        "bound = 1 / math.sqrt(",
        "bound = 10 / math.sqrt(",
        ("tests/mlx_genmoji/lora", *ADAPTERS),
    ),
    Mutation(
        "AdamW has no weight decay",
        "train/fit/optimizers.py",
        "optim.AdamW(rate, betas, weight_decay=decay,",
        "optim.AdamW(rate, betas, weight_decay=0.0,",
        TRAINING + ADAPTERS,
    ),
)
