"""Plans: the final prompt fits the text encoder, and an edited plan is a plan."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_genmoji import Genmoji, UserError
from mlx_genmoji.prompt import CaptionForm, PromptPlan, UnsafePrompt, compose, parse

PLAN = PromptPlan(
    "pig", "animal", pose="dancing", expression="happy", wearing="a hat", holding="a rose", colours="pink and white"
)


def words(most: int) -> CaptionForm:
    return CaptionForm("{prompt}, 3d", lambda text: len(text.replace(",", " ").split()) <= most)


@pytest.mark.parametrize(
    ("most", "final"),
    [
        (99, "pig, happy, dancing, wearing a hat, holding a rose, pink and white, 3d"),
        (11, "pig, happy, dancing, wearing a hat, holding a rose, 3d"),
        (9, "pig, happy, dancing, wearing a hat, 3d"),
        (6, "pig, happy, dancing, 3d"),
        (3, "pig, happy, 3d"),
        (2, "pig, 3d"),
    ],
)
def test_optional_fields_go_in_a_fixed_order_where_there_is_no_room(most: int, final: str) -> None:
    plan = PLAN.composed(words(most))
    assert plan.final_prompt == final
    assert plan.pose == "dancing"
    assert all(why.startswith("no room") for why in plan.dropped.values())


def test_room_that_is_found_again_is_used() -> None:
    assert PLAN.composed(words(3)).composed(words(99)).dropped == {}


def test_the_users_words_go_last_and_the_style_and_tone_stay() -> None:
    plan = PromptPlan("a very long story of a pig", skin_tone="dark", pose="dancing").composed(words(8))
    assert plan.final_prompt == "a very long story, dark skin tone, 3d"
    assert plan.dropped["subject"].endswith("of a pig") and "pose" in plan.dropped


def test_a_word_without_end_is_cut_within() -> None:
    form = CaptionForm("{prompt}, 3d", lambda text: len(text) < 20)
    assert PromptPlan("x" * 90).composed(form).final_prompt == "x" * 11 + ", 3d"


def test_a_form_takes_only_the_fields_that_it_has() -> None:
    plan = PLAN.composed(CaptionForm("{prompt}, 3d", fields=("expression",)))
    assert plan.final_prompt == "pig, happy, 3d" and plan.colours == "pink and white"


@pytest.mark.parametrize("form", [CaptionForm("pig"), CaptionForm("{prompt}", lambda text: False)])
def test_a_template_without_a_place_or_room_is_an_error(form: CaptionForm) -> None:
    with pytest.raises(UserError, match="template"):
        PLAN.composed(form)


def test_a_final_prompt_is_checked_as_a_whole() -> None:
    with pytest.raises(UnsafePrompt):
        PLAN.edited(wearing="a swastika").composed(CaptionForm())


def test_what_the_prompt_says_counts_more_than_what_is_chosen() -> None:
    plan = PromptPlan.of(parse("👩🏿‍🚀"), skin_tone="light", person_type="man")
    assert (plan.skin_tone, plan.person_type) == ("dark", "woman")
    assert plan.dropped == {
        "skin_tone": "light was asked for, the prompt says dark",
        "person_type": "man was asked for, the prompt says woman",
    }
    assert PromptPlan.of(parse("pig"), "light", "man").composed(words(9)).final_prompt == (
        "man pig, light skin tone, 3d"
    )


def test_a_plan_survives_json() -> None:
    plan = PLAN.composed(words(6))
    assert PromptPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_an_edited_plan_has_its_final_prompt_to_come() -> None:
    plan = PLAN.composed(words(99)).edited(colours=None, pose="sleeping")
    assert plan.final_prompt == "" and plan.composed(words(99)).final_prompt.startswith("pig, happy, sleeping, wearing")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"subject": ""},
        {"subject": 3},
        {"subject": "pig", "mood": "good"},
        {"subject": "pig", "skin_tone": "green"},
        {"subject": "pig", "person_type": "zombie"},
        {"subject": "pig", "source": "me"},
        {"subject": "pig", "pose": ["dancing"]},
        {"subject": "pig", "dropped": "all"},
    ],
)
def test_what_is_no_plan_is_told_in_one_line(values: dict[str, Any]) -> None:
    with pytest.raises(UserError) as error:
        PromptPlan.from_dict(values)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def genmoji() -> Genmoji:
    return Genmoji.load()


def test_a_plan_is_drawn_and_kept_and_replayed_without_a_language_model(genmoji: Genmoji) -> None:
    plan = PLAN.edited(subject="woman astronaut", skin_tone="dark")
    sticker = genmoji.generate("woman astronaut", rewrite=plan, steps=1, seed=1)[0]
    recipe = json.loads(json.dumps(sticker.recipe))
    assert recipe["prompt"] == "woman astronaut" and recipe["skin_tone"] == "dark"
    assert recipe["plan"]["final_prompt"] == recipe["final_prompt"]
    assert recipe["final_prompt"] == "woman astronaut, dark skin tone, 3d"
    again = genmoji.replay(recipe)
    assert again.image.tobytes() == sticker.image.tobytes() and again.recipe["plan"] == recipe["plan"]


def test_an_edited_final_prompt_is_drawn_as_it_is(genmoji: Genmoji) -> None:
    plan = PLAN.edited(final_prompt="red apple, flat", negative_prompt="pear")
    with pytest.warns(UserWarning, match="takes no negative prompt, 'pear' is left out"):
        recipe = genmoji.generate("pig", rewrite=plan, steps=1)[0].recipe
    assert (recipe["final_prompt"], recipe["negative_prompt"]) == ("red apple, flat", "")


def test_a_plan_of_another_form_is_composed_for_the_model_that_draws_it(genmoji: Genmoji) -> None:
    """As `Rewriter.rewrite` gives it, read back from JSON or with a field replaced."""
    plan = PLAN.edited(skin_tone="dark").composed(CaptionForm())
    assert plan.final_prompt == "pig, happy, dancing, wearing a hat, holding a rose, pink and white, dark skin tone"
    for variant in (plan, PromptPlan.from_dict(json.loads(json.dumps(plan.to_dict()))), replace(plan, pose="sleeping")):
        recipe = genmoji.generate("pig", rewrite=variant, steps=1, skin_tone="dark")[0].recipe
        assert recipe["final_prompt"] == "pig face, 3d" == recipe["plan"]["final_prompt"]
    finished = replace(plan, final_prompt="red apple, flat")
    assert genmoji.generate("pig", rewrite=finished, steps=1)[0].recipe["final_prompt"] == "red apple, flat"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"skin_tone": "light"}, "skin tone light .* plan says dark"),
        ({"person_type": "man"}, "person type man .* plan says none"),
        ({"negative_prompt": "apple"}, "negative prompt apple .* plan says pear"),
        ({"template": "{prompt}, flat"}, "final prompt of its own"),
    ],
)
def test_an_argument_that_says_something_else_than_the_plan_is_an_error(
    genmoji: Genmoji, arguments: dict[str, str], message: str
) -> None:
    plan = PLAN.edited(skin_tone="dark", negative_prompt="pear", final_prompt="pig, flat")
    with pytest.raises(UserError, match=message):
        genmoji.generate("pig", rewrite=plan, steps=1, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"prompt": "a nude woman"},
        {"prompt": "a nude woman", "template": "{prompt}"},
        {"prompt": "pig", "template": "nude {prompt}"},
        {"prompt": "pig", "rewrite": PromptPlan("pig", final_prompt="a nude woman")},
        {"prompt": "pig", "rewrite": PromptPlan("nude woman")},
    ],
)
def test_what_is_unsafe_is_never_drawn(genmoji: Genmoji, arguments: dict[str, Any]) -> None:
    with pytest.raises(UnsafePrompt):
        genmoji.generate(**arguments, steps=1)


PIECES = [
    "<|endoftext|>",
    "<|startoftext|>",
    "<|",
    "|>",
    "<｜a｜>",
    "\u200b",
    "\x00",
    "\ud800",
    "pig",
    "👩🏿‍🚀",
    "dark skin",
    " ",
    "\n",
]


@pytest.mark.filterwarnings("ignore:The text is too long")
@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=12).map("".join), st.booleans())
def test_no_text_brings_a_mark_of_the_text_encoders_own(genmoji: Genmoji, text: str, plain: bool) -> None:
    try:
        prompts = [
            compose(text, "{prompt}" if plain else "{prompt}, 3d", "dark", "woman"),
            PromptPlan("pig", final_prompt=text or "pig").finished(genmoji.caption_form()).final_prompt,
        ]
    except UserError as error:
        assert "\n" not in str(error)
        return
    tokenizer = genmoji.text.tokenizers[0]
    for ids in tokenizer(prompts).tolist():
        assert ids[0] == tokenizer.bos_token_id and tokenizer.bos_token_id not in ids[1:]
        end = ids.index(tokenizer.eos_token_id)
        assert not set(ids[end:]) - {tokenizer.eos_token_id, tokenizer.pad_token_id}


def test_the_built_in_models_form_counts_with_its_own_tokenizer(genmoji: Genmoji) -> None:
    form = genmoji.caption_form()
    # It learned captions by heart that have none of these: each that is added makes its pictures worse.
    assert form.fields == ()
    assert form.template == "{prompt}, 3d" and form.fits("pig, 3d") and not form.fits("pig " * 30)
    assert genmoji.caption_form("{prompt}, flat").template == "{prompt}, flat"
