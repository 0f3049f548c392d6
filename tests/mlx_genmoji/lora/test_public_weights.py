"""Public emoji weights by their names: files of each repository's layout on a hub of this machine, small and random.

Names, keys and dtypes are those of the public files; shapes are reduced. A command draws with each, and diffusers draws
the same picture from the base with the weights merged by hand.
"""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from hub_server import Repositories
from PIL import Image
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes

from app.cli import main
from mlx_genmoji.sticker import read_recipe

State = dict[str, torch.Tensor]
Base = Callable[[str], Path]
Theirs = Callable[[str], Any]

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
SEED = 3
WIDTHS = {"text_encoder": 32, "text_encoder_2": 40}


def psnr(a: Any, b: Any) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(10 * np.log10(255**2 / max(np.mean((a - b) ** 2), 1e-9)))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def paths_of(pipeline: Any, ends: Iterable[str] = ("to_q", "to_k", "to_v", "to_out.0")) -> list[str]:
    """The paths of the UNet's attention layers."""
    names = [name for name, _ in pipeline.unet.named_modules()]
    return [name for name in names if name.endswith(tuple(ends)) and "attn" in name]


def pair_of(pipeline: Any, path: str, rank: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """The down and up matrices of a layer of an adapter."""
    rows, columns = pipeline.unet.get_submodule(path).weight.shape
    seed = len(path)
    return normal(rank, columns, seed=seed) / columns**0.5, normal(rows, rank, seed=seed) / 2


def merge(
    pipeline: Any, scale: float, rank: int = 2, ends: Iterable[str] = ("to_q", "to_k", "to_v", "to_out.0")
) -> None:
    """Add an adapter's deltas to the UNet by hand."""
    for path in paths_of(pipeline, ends):
        down, up = pair_of(pipeline, path, rank)
        with torch.no_grad():
            pipeline.unet.get_submodule(path).weight += scale * up @ down


def cog_keys(pipeline: Any) -> State:
    """As Replicate's trainer spells them: processors, no component, no alpha."""
    state = {}
    for path in paths_of(pipeline):
        block, _, layer = path.partition(".to_")
        down, up = pair_of(pipeline, path)
        name = f"{block}.processor.to_{layer.removesuffix('.0')}_lora"
        state |= {f"{name}.down.weight": down, f"{name}.up.weight": up}
    return state


def kohya_keys(pipeline: Any, alpha: float = 1.0) -> State:
    state = {}
    for path in paths_of(pipeline):
        down, up = pair_of(pipeline, path)
        name = f"lora_unet_{path.replace('.', '_')}"
        state |= {f"{name}.lora_down.weight": down.half(), f"{name}.lora_up.weight": up.half()}
        state[f"{name}.alpha"] = torch.tensor(alpha).half()
    return state


def dora_keys(pipeline: Any) -> State:
    """As diffusers writes PEFT's: half matrices and a magnitude for each output."""
    state = {}
    for path in paths_of(pipeline):
        down, up = pair_of(pipeline, path)
        weight = pipeline.unet.get_submodule(path).weight.detach()
        magnitude = (weight.norm(dim=1) * 1.1).contiguous()
        name = f"unet.{path}"
        state |= {
            f"{name}.lora_A.weight": down,
            f"{name}.lora_B.weight": up,
            f"{name}.lora_magnitude_vector": magnitude,
        }
    return state


def merge_dora(pipeline: Any) -> None:
    for path in paths_of(pipeline):
        down, up = pair_of(pipeline, path)
        layer = pipeline.unet.get_submodule(path)
        with torch.no_grad():
            changed = layer.weight + up @ down
            layer.weight.copy_(
                layer.weight.norm(dim=1, keepdim=True) * 1.1 * changed / changed.norm(dim=1, keepdim=True)
            )


def learn(pipeline: Any, tokens: Iterable[str], vectors: dict[str, torch.Tensor]) -> None:
    """Append tokens and their vectors to each text encoder."""
    for encoder, rows in vectors.items():
        suffix = encoder.removeprefix("text_encoder")
        for token, row in zip(tokens, rows, strict=True):
            pipeline.load_textual_inversion(
                {token: row},
                token=token,
                text_encoder=getattr(pipeline, encoder),
                tokenizer=getattr(pipeline, f"tokenizer{suffix}"),
            )


def embeddings(first: str, second: str) -> tuple[bytes, dict[str, torch.Tensor]]:
    """A file with two vectors for each encoder, and the vectors."""
    vectors = {name: normal(2, width, seed=width).half() for name, width in WIDTHS.items()}
    file = tensor_bytes({first: vectors["text_encoder"], second: vectors["text_encoder_2"]})
    return file, {name: rows.float() for name, rows in vectors.items()}


@dataclass
class Row:
    """A repository: what is in it, the command that draws with it, and the same by hand in diffusers."""

    family: str
    put: Callable[[Repositories, Any], None]
    arguments: list[str]
    by_hand: Callable[[Any], None]
    prompt: str = "octopus"
    drawn: str = "octopus"
    """The text that the encoder gets."""
    base: str = SDXL
    least_effect: float = 30.0
    """PSNR to the base's own picture, at most; a checkpoint of its own has none."""


def put_emoji(repositories: Repositories, pipeline: Any, id: str = "fofr/sdxl-emoji") -> None:
    """Replicate's trainer."""
    card = f"---\nlicense: creativeml-openrail-m\ntags: [lora]\nbase_model: {SDXL}\n---\nUse `lora_scale=0.6`.\n"
    files = {
        "README.md": card.encode(),
        "embeddings.pti": embeddings("text_encoders_0", "text_encoders_1")[0],
        "lora.safetensors": tensor_bytes(cog_keys(pipeline)),
        "special_params.json": b'{"TOK": "<s0><s1>"}',
    }
    repositories.add(id, files)


def emoji_by_hand(pipeline: Any) -> None:
    merge(pipeline, 0.6)
    learn(pipeline, ("<s0>", "<s1>"), embeddings("a", "b")[1])


def put_lora(id: str, file: str, keys: Callable[[Any], State], card: str = "", **more: bytes) -> Any:
    """A repository of one adapter and its card."""

    def put(repositories: Repositories, pipeline: Any) -> None:
        files = {file: tensor_bytes(keys(pipeline)), **more}
        repositories.add(id, files | ({"README.md": card.encode()} if card else {}))

    return put


def put_ios_emoji(repositories: Repositories, pipeline: Any) -> None:
    lora = tensor_bytes(kohya_keys(pipeline, 2.0))
    names = ("ios_emoji_xl_v1_lora", "ios_emoji_xl_v2_lora", "ios_emoji_xl_v2_lora_converted")
    repositories.add("camenduru/ios-emoji-xl", {f"{name}.safetensors": lora for name in names})


def put_huggy(repositories: Repositories, pipeline: Any) -> None:
    card = f"---\nbase_model: {SDXL}\ninstance_prompt: a <s0><s1> emoji\n---\n"
    repositories.add(
        "linoyts/huggy-lora",
        {
            "README.md": card.encode(),
            "huggy.safetensors": tensor_bytes(kohya_keys(pipeline, 2.0)),
            "huggy_emb.safetensors": embeddings("clip_l", "clip_g")[0],
        },
    )


def huggy_by_hand(pipeline: Any) -> None:
    merge_half(pipeline, 1.0)
    learn(pipeline, ("<s0>", "<s1>"), embeddings("a", "b")[1])


def merge_half(pipeline: Any, scale: float) -> None:
    """`merge` with matrices in half precision."""
    for path in paths_of(pipeline):
        down, up = (half.half().float() for half in pair_of(pipeline, path))
        with torch.no_grad():
            pipeline.unet.get_submodule(path).weight += scale * up @ down


def put_pickles(id: str, **others: bytes) -> Any:
    """A model's folder of pickles, as diffusers wrote them in 2022, and files beside it."""

    def put(repositories: Repositories, pipeline: Any) -> None:
        files = files_in(saved(pipeline))
        for name in [name for name in files if name.endswith(".safetensors")]:
            pickle = io.BytesIO()
            torch.save(read_tensors(files.pop(name)), pickle)
            stem = "pytorch_model" if name.startswith("text_encoder") else "diffusion_pytorch_model"
            files[f"{name.partition('/')[0]}/{stem}.bin"] = pickle.getvalue()
        repositories.add(id, files | {name.replace("__", "."): content for name, content in others.items()})

    return put


def put_memoji(repositories: Repositories, pipeline: Any) -> None:
    """A folder in both precisions and single files beside it."""
    files = files_in(saved(pipeline)) | files_in(saved(pipeline, variant="fp16"))
    repositories.add("Yntec/MemojiRemix", files | {"MemojiRemix.safetensors": tensor_bytes({"a": torch.zeros(1)})})


SAVED: dict[str, Path] = {}


def saved(pipeline: Any, **options: Any) -> Path:
    folder = SAVED["folder"] / f"{len(list(SAVED['folder'].iterdir()))}"
    pipeline.save_pretrained(folder, **options)
    return folder


def predict_velocity(pipeline: Any) -> None:
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, prediction_type="v_prediction")


def put_velocity(repositories: Repositories, pipeline: Any) -> None:
    predict_velocity(pipeline)
    put_pickles("Norod78/sd21-fluentui-emoji")(repositories, pipeline)


def nothing(pipeline: Any) -> None:
    """The checkpoint itself."""


def put_lightning(repositories: Repositories, pipeline: Any) -> None:
    """LoRAs for several numbers of steps, UNets and whole checkpoints."""
    lora = tensor_bytes(kohya_keys(pipeline, 8.0))
    unet = tensor_bytes({f"down_blocks.{i}.x.weight": torch.zeros(1) for i in range(2)})
    repositories.add(
        "ByteDance/SDXL-Lightning",
        {
            "sdxl_lightning_1step_unet_x0.safetensors": unet,
            "sdxl_lightning_2step_lora.safetensors": lora,
            "sdxl_lightning_4step_lora.safetensors": lora,
            "sdxl_lightning_4step_unet.safetensors": unet,
        },
    )


def put_fast(repositories: Repositories, pipeline: Any) -> None:
    put_emoji(repositories, pipeline)
    put_lightning(repositories, pipeline)


def fast_by_hand(pipeline: Any) -> None:
    merge_half(pipeline, 4.0)
    emoji_by_hand(pipeline)


EMOJI = {"prompt": "a man", "drawn": "A TOK emoji of a man"}
IOS = "camenduru/ios-emoji-xl/ios_emoji_xl_v2_lora.safetensors"
POOR_CARD = "---\nlicense: mit\n---\n"

ROWS = {
    "fofr/sdxl-emoji": Row("xl", put_emoji, ["--model", "sdxl-emoji"], emoji_by_hand, **EMOJI),
    "a copy of it, by id": Row(
        "xl",
        lambda repositories, pipeline: put_emoji(repositories, pipeline, "julien-c/fofr-sdxl-emoji"),
        ["--model", SDXL, "--adapter", "julien-c/fofr-sdxl-emoji"],
        emoji_by_hand,
        prompt="a TOK emoji of a man",
        drawn="a TOK emoji of a man",
    ),
    "camenduru/ios-emoji-xl": Row(
        "xl", put_ios_emoji, ["--model", SDXL, "--adapter", f"{IOS}:0.5"], lambda pipe: merge_half(pipe, 0.5)
    ),
    "Norod78/sdxl-emoji-lora": Row(
        "xl",
        put_lora("Norod78/sdxl-emoji-lora", "SDXL-Emoji-Lora-r4.safetensors", lambda pipe: kohya_keys(pipe, 2.0)),
        ["--model", "emoji-xl"],
        lambda pipe: merge_half(pipe, 1.0),
        drawn="emoji, octopus",
    ),
    "artificialguybr/StickersRedmond": Row(
        "xl",
        put_lora("artificialguybr/StickersRedmond", "StickersRedmond.safetensors", lambda pipe: kohya_keys(pipe, 2.0)),
        ["--model", "stickers-redmond"],
        lambda pipe: merge_half(pipe, 1.0),
        drawn="Stickers, Sticker, octopus",
    ),
    "ntc-ai/SDXL-LoRA-slider.emoji": Row(
        "xl",
        put_lora("ntc-ai/SDXL-LoRA-slider.emoji", "emoji.safetensors", lambda pipe: kohya_keys(pipe, 2.0), POOR_CARD),
        ["--model", SDXL, "--adapter", "ntc-ai/SDXL-LoRA-slider.emoji:-3"],
        lambda pipe: merge_half(pipe, -3.0),
    ),
    "the slider by its name": Row(
        "xl",
        put_lora("ntc-ai/SDXL-LoRA-slider.emoji", "emoji.safetensors", lambda pipe: kohya_keys(pipe, 2.0), POOR_CARD),
        ["--model", "emoji-slider"],
        lambda pipe: merge_half(pipe, 2.0),
    ),
    "henil08/xEmoji_LoRA": Row(
        "xl",
        put_lora("henil08/xEmoji_LoRA", "pytorch_lora_weights.safetensors", dora_keys),
        ["--model", "xemoji"],
        merge_dora,
        drawn="emoji, octopus",
    ),
    "linoyts/huggy-lora": Row(
        "xl",
        put_huggy,
        ["--model", SDXL, "--adapter", "linoyts/huggy-lora"],
        huggy_by_hand,
        drawn="a <s0><s1> emoji of octopus",
    ),
    "valhalla/emoji-diffusion": Row(
        "sd",
        put_pickles("valhalla/emoji-diffusion"),
        ["--model", "emoji-diffusion"],
        nothing,
        drawn="emoji, octopus",
        base="valhalla/emoji-diffusion",
        least_effect=np.inf,
    ),
    "Norod78/sd15-fluentui-emoji": Row(
        "sd",
        put_pickles("Norod78/sd15-fluentui-emoji", model__ckpt=b"pickle", model__yaml=b"model: {}"),
        ["--model", "fluent-sd15"],
        nothing,
        prompt="octopus, flat, color",
        drawn="octopus, flat, color",
        base="Norod78/sd15-fluentui-emoji",
        least_effect=np.inf,
    ),
    "Norod78/sd21-fluentui-emoji, which predicts velocity": Row(
        "sd",
        put_velocity,
        ["--model", "fluent-sd21"],
        predict_velocity,
        drawn="high contrast, color, octopus",
        base="Norod78/sd21-fluentui-emoji",
    ),
    "soypablo's adapter in a pull request": Row(
        "sd",
        lambda repositories, pipeline: repositories.add(
            "soypablo/emoji-model-finetuned-lora-3000",
            {"pytorch_lora_weights.safetensors": tensor_bytes({f"unet.{k}": t for k, t in cog_keys(pipeline).items()})},
            revision="refs/pr/1",
        ),
        ["--model", SD15, "--adapter", "soypablo/emoji-model-finetuned-lora-3000@refs/pr/1"],
        lambda pipe: merge(pipe, 1.0),
        base=SD15,
    ),
    "Yntec/MemojiRemix": Row(
        "sd",
        put_memoji,
        ["--model", "memoji"],
        nothing,
        drawn="memoji, octopus",
        base="Yntec/MemojiRemix",
        least_effect=np.inf,
    ),
    "stabilityai/sdxl-turbo": Row(
        "xl",
        lambda repositories, pipeline: None,
        ["--model", "sdxl-turbo", "--size", "16"],
        nothing,
        base="stabilityai/sdxl-turbo",
        least_effect=np.inf,
    ),
    "ByteDance/SDXL-Lightning": Row(
        "xl", put_lightning, ["--model", "sdxl-lightning"], lambda pipe: merge_half(pipe, 4.0)
    ),
    "Lightning and emoji": Row("xl", put_fast, ["--model", "sdxl-emoji-fast"], fast_by_hand, **EMOJI),
}


def draw_here(arguments: list[str], output: Path, prompt: str) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """The picture of a command, and its recipe."""
    assert main(["generate", prompt, *arguments, "--seed", str(SEED), "--noise", "torch", "-o", str(output)]) == 0
    recipe = read_recipe(output)
    assert isinstance(recipe, dict)
    with Image.open(output) as image:
        return np.asarray(image.convert("RGB")), recipe


def draw_there(pipeline: Any, text: str, recipe: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The picture of diffusers with the recipe's settings."""
    if recipe.get("spacing"):
        assert recipe["sampler"].startswith("euler")
        config = pipeline.scheduler.config
        pipeline.scheduler = EulerDiscreteScheduler.from_config(config, timestep_spacing=recipe["spacing"])
    images = pipeline(
        text.replace("TOK", "<s0><s1>"),
        num_inference_steps=recipe["steps"],
        guidance_scale=recipe["guidance"],
        generator=torch.Generator("cpu").manual_seed(recipe["seed"]),
        height=16,
        width=16,
    ).images
    return np.asarray(images[0])


@pytest.mark.parametrize("name", ROWS)
def test_a_command_draws_what_diffusers_draws_with_the_weights_merged_by_hand(
    name: str, base: Base, theirs: Theirs, repositories: Repositories, tmp_path: Path
) -> None:
    row = ROWS[name]
    SAVED["folder"] = tmp_path / "saved"
    SAVED["folder"].mkdir()
    repositories.add(row.base, files_in(base(row.family)))
    row.put(repositories, theirs(row.family))
    ours, recipe = draw_here(row.arguments, tmp_path / "ours.png", row.prompt)
    assert recipe["final_prompt"] == row.drawn
    pipeline = theirs(row.family)
    plain = draw_there(pipeline, row.drawn, recipe)
    pipeline = theirs(row.family)
    row.by_hand(pipeline)
    assert psnr(ours, draw_there(pipeline, row.drawn, recipe)) >= 50
    if row.least_effect < np.inf:
        assert psnr(ours, plain) <= row.least_effect
