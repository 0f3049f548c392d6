"""Rules that judge rewritten prompts, without a model. They were written before the first rewrite was read.

`rewriting-prompts.tsv` lists for each prompt what a plan must keep and what suits it: `skin_tone` and `person_type` of
the prompt (empty: none), `keep`, the words that the subject must have in this order (empty: all words of the prompt),
the `kind` of thing, its `mood` (`+`, `-`, `s` for scary, `any`) and the `colours` that it can have (`*` any, `-` none).

A plan is **valid** if it has every field of the contract with the right type, a final prompt within the limit, and
holds no special token. It **keeps** its words if the subject, and the final prompt, hold `keep` in order; tone and type
if they are those of the table, the final prompt names that tone and no other, and no optional field speaks of either.
It **chatters** if an optional field or the final prompt holds a phrase of `CHATTER`, a line break, a colon, a quotation
mark or brackets that the prompt does not have, or if an optional field has over six words.

An optional field is **good** only if all of this holds:
1. Every word is one this judge knows, at most six of them, no content word twice.
2. It does not repeat a content word of the prompt, and the prompt does not already say such a field (`SAID`).
3. expression: adverbs of `ADVERBS` and then words of one mood of `EXPRESSIONS`; the mood suits the table's: `+` wants a
   glad, calm, bold or surprised one, `-` a sad, angry, tired or ill one, `s` a scary, angry, bold or glad one, `any`
   every one but sad, angry, ill and scary ones.
4. colours: one to three different colours, all of them among the table's.
5. pose: a verb in -ing first, out of those that this kind of thing can do (`POSES`), the rest known words.
6. wearing: ends in one of `WEARABLES` (before any "with ..."), and the kind is none of `place` and `feeling`.
7. holding: ends in one of `HOLDABLES` (before any "of ..."), and the kind has something to hold it with (`HANDS`).
8. It shares no content word with another field (the later one loses), and who sleeps has a calm or tired face.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

PROMPTS = Path(__file__).with_name("rewriting-prompts.tsv")
OPTIONAL = ("expression", "pose", "wearing", "holding", "colours")
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
SOURCES = ("llm", "partial", "template")

CHATTER = (
    "sure", "certainly", "here is", "here's", "here are", "note that", "sorry", "i cannot", "i can't", "as an ai",
    "language model", "assistant", "of course", "i hope", "let me", "please", "emoji of", "image of", "picture of",
    "none", "n/a", "unknown", "subject", "prompt",
)  # fmt: skip
PEOPLE = set(
    "man men woman women boy boys girl girls guy lady male female person people baby child kid skin skinned tone"
    " complexion".split()
)

COLOURS = set(
    "red orange yellow green blue purple pink brown black white grey gray gold golden silver teal turquoise cream beige"
    " tan amber mint violet cyan magenta crimson navy lavender peach".split()
)
ADVERBS = set("very slightly a bit quietly softly gently happily totally so big wide".split())
EXPRESSIONS = {
    "glad": "happy smiling grinning laughing cheerful joyful excited delighted playful amused thrilled overjoyed"
    " beaming"
    " winking silly goofy friendly loving proud grateful hopeful cute eager gleeful jolly merry festive smile grin"
    " laugh"
    " lovestruck adoring blushing",
    "calm": "calm peaceful relaxed content serene dreamy gentle cozy thoughtful pensive curious shy zen focused"
    " concentrated serious neutral patient wise hungry innocent",
    "bold": "confident brave determined cool fierce heroic mischievous cheeky smug sly sassy bold daring energetic"
    " dramatic strong smirking smirk cocky",
    "surprised": "surprised amazed astonished wide-eyed dazzled shocked stunned awestruck starry-eyed speechless",
    "sad": "sad crying tearful teary gloomy heartbroken lonely disappointed worried anxious nervous scared hurt"
    " sorrowful"
    " upset miserable embarrassed awkward frowning pleading melancholic confused jealous envious wistful longing",
    "angry": "angry furious grumpy annoyed irritated mad frustrated cranky fuming scowling",
    "tired": "tired sleepy exhausted yawning drowsy bored weary groggy worn-out unamused",
    "ill": "sick dizzy ill nauseous feverish queasy",
    "scary": "scary evil menacing spooky sinister wicked creepy ghostly eerie mysterious threatening",
}
MOODS = {
    "+": {"glad", "calm", "bold", "surprised"},
    "-": {"sad", "angry", "tired", "ill"},
    "s": {"scary", "angry", "bold", "glad"},
    "any": {"glad", "calm", "bold", "surprised", "tired"},
}

ANY_BODY = set(
    "dancing bouncing spinning floating standing sitting sleeping resting leaning jumping relaxing waving posing"
    " rolling"
    " tilting glowing sparkling shining celebrating lying napping hovering flying balancing tumbling wobbling hopping"
    " swinging sunbathing snoozing hiding peeking twirling lounging singing cheering smiling winking leaping twinkling"
    " dreaming flexing soaring drifting gliding swaying".split()
)
LEGS = set(
    "running walking skipping kicking climbing crouching kneeling sneaking marching strolling stretching skating"
    " surfing"
    " skateboarding riding jogging dashing trotting galloping prancing crawling pouncing stomping skiing racing cycling"
    " squatting wandering tiptoeing charging chasing strutting bowing swimming diving splashing playing eating drinking"
    " licking sniffing looking gazing curling roaring barking purring howling wagging chewing nibbling munching yawning"
    " perching digging laughing reading drumming growling breathing crossing".split()
)
ARMS = set(
    "clapping pointing saluting hugging painting cooking writing typing juggling lifting throwing catching stirring"
    " drawing building fixing working hammering shrugging facepalming thinking giving raising holding reaching teaching"
    " studying talking speaking shouting whispering conducting mixing baking serving knitting gardening planting"
    " watering"
    " performing exploring meditating praying training exercising boxing fighting casting looking listening taking"
    " driving piloting investigating inspecting testing measuring experimenting blowing pushing pulling carrying"
    " chopping tossing flipping pouring sweeping cleaning rowing shooting aiming blocking guarding patrolling"
    " protecting"
    " rescuing spraying repairing welding sawing drilling designing planning planning sketching presenting lecturing"
    " explaining proposing rapping strumming crying sobbing sighing hanging rubbing scratching tapping opening"
    " arresting directing delivering folding tipping gesturing pressing stacking sorting counting picking harvesting"
    " feeding milking plowing rocking cuddling laughing grinning typing texting calling".split()
)
POSES = {
    "person": ANY_BODY | LEGS | ARMS,
    "beast": ANY_BODY | LEGS | {"waving", "hugging", "clapping", "juggling", "flapping", "stretching", "drumming"},
    "bird": ANY_BODY | LEGS | {"flapping", "pecking", "waddling", "perching", "paddling", "spreading", "chirping"},
    "fish": ANY_BODY
    | set("swimming diving splashing blowing stretching curling gliding jumping waving hugging juggling".split()),
    "bug": ANY_BODY | set("crawling buzzing flapping spreading climbing sipping fluttering sliding creeping".split()),
    "food": ANY_BODY | set("steaming melting dripping sizzling oozing bubbling fizzing splashing running"
    " overflowing".split()),
    "thing": ANY_BODY
    | set("ringing blooming growing flashing ticking playing opening burning smoking beeping popping steaming".split()),
    "vehicle": ANY_BODY | set("driving speeding racing launching landing sailing zooming blasting chugging"
    " flashing".split()),
    "place": ANY_BODY | set("erupting rising setting towering smoking crumbling stretching arching rumbling".split()),
    "feeling": ANY_BODY | LEGS | ARMS | {"melting", "exploding", "slumping", "drooping", "breaking", "sinking"},
}  # fmt: skip
SLEEPING = {"sleeping", "napping", "snoozing", "dreaming"}

WEARABLES = set(
    "hat cap beanie helmet crown tiara sunglasses glasses goggles mask scarf tie bowtie bow jacket coat hoodie sweater"
    " shirt t-shirt dress skirt tutu suit tuxedo robe cape cloak gown uniform apron vest overalls jeans pants shorts"
    " socks shoes boots sneakers slippers sandals skates gloves mittens headphones earmuffs headband bandana turban"
    " headscarf veil hijab wig necklace bracelet earrings ring watch belt backpack lei wreath collar bell monocle"
    " eyepatch kimono poncho sombrero beret fedora bonnet pajamas raincoat spacesuit armor wings badge stethoscope lab"
    " nightcap blanket swimsuit snorkel ribbon medal sash bib toque chef's tunic blouse cardigan hardhat visor armour"
    " flower snowboots ponytail bandage".split()
) | {"lab coat", "hard hat"}
HOLDABLES = set(
    "balloon balloons flower flowers bouquet rose heart star book books pen pencil paintbrush brush palette camera"
    " phone"
    " laptop microphone guitar drum drumstick drumsticks trumpet violin ball football basketball racket bat trophy"
    " medal"
    " flag umbrella cup mug coffee tea glass bottle juice milk ice-cream lollipop candy cookie cake cupcake donut pizza"
    " sandwich apple banana carrot fish bone acorn nut leaf leaves stick wand sword shield hammer wrench"
    " screwdriver saw"
    " drill axe shovel rake hose extinguisher bucket broom mop spoon fork knife whisk pan spatula ladle rolling pin"
    " gavel scales scroll map compass telescope binoculars magnifying microscope beaker flask test tube syringe pill"
    " thermometer stethoscope clipboard briefcase bag suitcase ticket gift present box candle lantern torch flashlight"
    " lamp key keys lock rope ladder fan mirror comb scissors needle yarn basket egg bread baguette cheese corn wheat"
    " rice sushi noodles chopsticks taco burger popcorn drink soda cocktail coconut watermelon strawberry cherry lemon"
    " pumpkin mushroom cactus plant seedling bamboo branch feather shell pearl anchor paddle oar surfboard skateboard"
    " helmet controller dice cards card chess piece puzzle teddy bear doll toy kite yo-yo rocket robot globe calculator"
    " ruler notebook newspaper letter envelope megaphone whistle bell badge handcuffs radio badge baton dumbbell"
    " barbell"
    " sparkler firework snowball snowflake pillow blanket towel soap duck sign banner money coin gem diamond crown ring"
    " handkerchief tissue passport wheel spanner toolbox blueprint blueprints tablet screen keyboard mouse joystick"
    " trident staff orb potion treasure coin worm honey jar pot teapot kettle hay pitchfork".split()
)
HANDS = {"person", "beast", "bird", "fish", "feeling", "bug"}

PLACES = set(
    "sky air clouds cloud moon sun stars star rainbow rain snow wind water waves wave sea ocean beach pool pond"
    " river lake"
    " hill mountain mountains tree trees forest garden grass field flowers meadow park street road city stage spotlight"
    " floor ground table plate bowl kitchen bed chair couch sofa hammock corner door window wall fence rock log branch"
    " nest skateboard surfboard bike scooter swing rope music beat party confetti fire flames campfire steam smoke"
    " bubbles"
    " sparkles hearts space planet night morning light joy excitement circles place toes head arms arm hands hand"
    " paws paw"
    " legs leg feet foot eyes tail ears wings wing fins tentacles belly back side air heart thumb thumbs peace fist"
    " fists"
    " crowd camera viewer friend thumbs-up hello goodbye butter cheese sauce syrup sprinkles crumbs".split()
)
ADJECTIVES = set(
    "big small little tiny giant huge long short tall round fluffy cozy warm cool cold hot fresh shiny sparkly"
    " bright dark"
    " colorful colourful rainbow striped polka-dot dotted checkered plaid woolly woollen wool knitted leather straw"
    " silk"
    " velvet denim cotton metal wooden paper plastic glass stylish fancy elegant classic vintage old new soft cute"
    " funny"
    " silly magic magical royal golden pointy floppy oversized heart-shaped star-shaped tropical hawaiian festive party"
    " birthday winter summer spring christmas santa space chef's doctor's cowboy pirate wizard's top baseball"
    " bucket flower"
    " bow sun rain snow ski lab hard safety bobble high wide open closed one two both three full empty half steaming"
    " melting burning fast slowly quickly happily proudly gracefully lazily merrily gently softly playfully sweetly"
    " loudly calmly quietly first".split()
)
FUNCTION = set(
    "a an the and with of in on at to for from by its his her their it up down out over under around through into off"
    " along across behind beside near like while upside against toward towards above below between about as everywhere"
    " together forward away".split()
)
KNOWN = (
    FUNCTION | ADJECTIVES | ADVERBS | PLACES | WEARABLES | HOLDABLES | COLOURS | LEGS | ARMS
    | set().union(*POSES.values()) | set(" ".join(EXPRESSIONS.values()).split())
    | set("eyes smile face look cheeks tongue".split())
)  # fmt: skip

SAID = {
    "expression": set(" ".join(EXPRESSIONS.values()).split()) | set("hapy sleepy laughing crying proud lacht".split()),
    "pose": LEGS
    | ARMS
    | ANY_BODY
    | set("surfing lifting painting fixing sliding graduating flyng tanzt tumbling".split()),
    "wearing": WEARABLES | set("wearing sunglasses hat dressed sombrero pajamas suit tutu".split()),
    "holding": set("holding carrying spoon balloon baloon laptop gavel glass trumpet newspaper book".split()),
    "colours": COLOURS,
}


class Wanted(NamedTuple):
    """A line of rewriting-prompts.tsv."""

    prompt: str
    skin_tone: str
    person_type: str
    kind: str
    mood: str
    colours: str
    keep: str


@dataclass(frozen=True)
class Verdict:
    valid: bool
    keeps_words: bool
    keeps_tone_and_type: bool
    chatters: bool
    good: tuple[str, ...]
    why_not: dict[str, str]
    """Field -> the first rule that it breaks, for each optional field of the plan that is not good."""


def read_prompts() -> list[Wanted]:
    lines = PROMPTS.read_text(encoding="utf-8").splitlines()[1:]
    return [Wanted(*line.split("\t")) for line in lines]


def judge(wanted: Wanted, plan: Mapping[str, Any], limit_kept: bool) -> Verdict:
    """The verdict on a plan (`PromptPlan.to_dict`); limit_kept: whether its final prompt fits the text encoder."""
    said = {name: plan.get(name) for name in OPTIONAL if plan.get(name)}
    final, subject = str(plan.get("final_prompt", "")), str(plan.get("subject", ""))
    keep = _words(wanted.keep or wanted.prompt)
    return Verdict(
        valid=limit_kept and _valid(plan),
        keeps_words=_in_order(keep, _words(subject)) and _in_order(keep, _words(final)),
        keeps_tone_and_type=_keeps_tone_and_type(wanted, plan, said, final),
        chatters=any(_chatters(text, wanted.prompt) for text in (final, *said.values()))
        or any(len(text.split()) > 6 for text in said.values()),
        **_judge_fields(wanted, said),
    )


def _valid(plan: Mapping[str, Any]) -> bool:
    texts = ("subject", "category", "final_prompt", "source")
    optional = (*OPTIONAL, "skin_tone", "person_type")
    return (
        all(isinstance(plan.get(name), str) and plan[name] for name in texts)
        and isinstance(plan.get("negative_prompt"), str)
        and all(name in plan and (plan[name] is None or isinstance(plan[name], str)) for name in optional)
        and isinstance(plan.get("dropped"), dict)
        and plan["source"] in SOURCES
        and not re.search(r"<\|.*?\|>", " ".join(str(value) for value in plan.values()))
    )


def _keeps_tone_and_type(wanted: Wanted, plan: Mapping[str, Any], said: Mapping[str, str], final: str) -> bool:
    named = re.findall(r"((?:medium-)?(?:light|dark)|medium) skin tone", final)
    return (
        (plan.get("skin_tone") or "") == wanted.skin_tone
        and (plan.get("person_type") or "") == wanted.person_type
        and named == ([wanted.skin_tone] if wanted.skin_tone else [])
        and not any(PEOPLE & set(_words(text)) for text in said.values())
    )


def _chatters(text: str, prompt: str) -> bool:
    lower = f" {' '.join(_words(text))} "
    marks = [mark for mark in ':"{}[]()\n' if mark in text and mark not in prompt]
    return bool(marks) or any(f" {phrase} " in lower and phrase not in prompt.lower() for phrase in CHATTER)


def _judge_fields(wanted: Wanted, said: Mapping[str, str]) -> dict[str, Any]:
    good: list[str] = []
    why_not: dict[str, str] = {}
    used: set[str] = set()
    for name in OPTIONAL:
        if name not in said:
            continue
        reason = _fault(name, said[name], wanted, said, used)
        if reason:
            why_not[name] = reason
        else:
            good.append(name)
            used |= _content(said[name])
    return {"good": tuple(good), "why_not": why_not}


def _fault(name: str, value: str, wanted: Wanted, said: Mapping[str, str], used: set[str]) -> str | None:
    words, prompt = _words(value), set(_words(wanted.prompt))
    if strange := [word for word in words if word not in KNOWN]:
        return f"unknown: {strange[0]}"
    content = [_stem(word) for word in words if word not in FUNCTION]
    if not words or len(words) > 6 or len(content) != len(set(content)):
        return "length or repetition"
    if set(content) & {_stem(word) for word in prompt}:
        return "repeats the prompt"
    if SAID[name] & prompt:
        return "said in the prompt"
    if set(content) & used:
        return "repeats another field"
    return _RULES[name](words, wanted, said)


def _expression(words: list[str], wanted: Wanted, said: Mapping[str, str]) -> str | None:
    rest = [word for word in words if word not in ADVERBS | {"and", "with", "eyes", "face", "look", "cheeks"}]
    moods = {mood for word in rest for mood, known in EXPRESSIONS.items() if word in known.split()}
    if not rest or any(not any(word in known.split() for known in EXPRESSIONS.values()) for word in rest):
        return "no expression"
    return None if moods <= MOODS[wanted.mood] else f"mood {'/'.join(sorted(moods))} does not suit"


def _colours(words: list[str], wanted: Wanted, said: Mapping[str, str]) -> str | None:
    named = [word for word in words if word != "and"]
    if not 1 <= len(named) <= 3 or not set(named) <= COLOURS:
        return "no colours"
    allowed = set(wanted.colours.split(","))
    return None if allowed == {"*"} or set(named) <= allowed else "not its colours"


def _pose(words: list[str], wanted: Wanted, said: Mapping[str, str]) -> str | None:
    if words[0] not in POSES[wanted.kind]:
        return f"cannot do: {words[0]}"
    face = said.get("expression", "")
    calm = set(f"{EXPRESSIONS['calm']} {EXPRESSIONS['tired']}".split())
    if words[0] in SLEEPING and face and not calm & set(_words(face)):
        return "asleep with such a face"
    return None


def _wearing(words: list[str], wanted: Wanted, said: Mapping[str, str]) -> str | None:
    if wanted.kind in ("place", "feeling"):
        return "wears nothing"
    head = " ".join(words).split(" with ")[0].split()
    return None if head and head[-1] in WEARABLES else "no clothing"


def _holding(words: list[str], wanted: Wanted, said: Mapping[str, str]) -> str | None:
    if wanted.kind not in HANDS:
        return "has no hands"
    head = " ".join(words).split(" of ")[0].split()
    return None if head and head[-1] in HOLDABLES else "not to be held"


_RULES = {"expression": _expression, "pose": _pose, "wearing": _wearing, "holding": _holding, "colours": _colours}


def _words(text: str) -> list[str]:
    letters = unicodedata.normalize("NFC", text.lower().replace("’", "'"))
    # A word may hold marks (Hindi), an apostrophe or a hyphen.
    return re.findall(r"[^\W_][^\s,.;:!?\"()\[\]{}<>|]*", letters)


def _stem(word: str) -> str:
    for ending in ("ing", "es", "s"):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return word[: -len(ending)]
    return word


def _content(text: str) -> set[str]:
    return {_stem(word) for word in _words(text) if word not in FUNCTION}


def _in_order(wanted: list[str], found: list[str]) -> bool:
    rest = iter(found)
    return all(word in rest for word in wanted)
