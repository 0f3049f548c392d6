"""The vocabulary of the parser and of the language model's grammar.

`emoji.tsv` and `words.tsv` are made from emojibase-data by `scrape/prompt_vocabulary.py`. The lists here are those that
Unicode does not have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

FOLDER = Path(__file__).parent

SkinTone = Literal["light", "medium-light", "medium", "medium-dark", "dark"]
SKIN_TONES: tuple[str, ...] = get_args(SkinTone)
"""From the lightest to the darkest, as Unicode orders its modifiers."""

PERSON_TYPES = ("man", "woman", "person", "boy", "girl", "child", "baby", "old man", "old woman", "old person")

EXPRESSIONS = {
    "glad": "happy, smiling, grinning, laughing, cheerful, joyful, excited, delighted, playful, amused, overjoyed,"
    " winking, silly, friendly, loving, proud, grateful, jolly, energetic, beaming, thrilled, goofy, hopeful",
    "calm": "calm, peaceful, relaxed, content, serene, dreamy, thoughtful, mysterious, curious, shy, focused,"
    " serious, gentle,"
    " concentrated",
    "bold": "confident, brave, determined, fierce, mischievous, cheeky, smug, sly, cool, heroic",
    "surprised": "surprised, amazed, astonished, wide-eyed, shocked, starry-eyed",
    "sad": "sad, crying, tearful, gloomy, lonely, worried, nervous, scared, heartbroken, embarrassed, disappointed",
    "angry": "angry, furious, grumpy, annoyed, frustrated",
    "tired": "tired, sleepy, exhausted, yawning, bored",
    "ill": "sick, dizzy",
    "scary": "scary, menacing, wicked, spooky",
}
"""Facial expressions by mood."""

COLOURS = (
    "red orange yellow green blue purple pink brown black white grey gold silver turquoise teal cream beige tan"
    " lavender navy golden"
).split()

POSES = (
    "balancing baking barking beeping blooming blowing bouncing bowing breathing building burning buzzing carrying"
    " casting"
    " catching celebrating charging cheering chirping chopping clapping climbing conducting cooking crawling crossing"
    " crouching cuddling curling cycling dancing dashing digging diving drawing drinking dreaming drifting dripping"
    " driving drumming"
    " eating erupting explaining exploring facepalming fixing fizzing flapping flashing flexing flipping floating"
    " fluttering"
    " flying galloping gazing giving gliding glowing growing growling gardening hammering hanging harvesting hiding"
    " hopping"
    " hovering howling hugging inspecting investigating juggling jumping kicking kneeling knitting landing"
    " launching leaning"
    " leaping licking lifting listening looking lounging lying marching meditating melting mixing munching napping"
    " nibbling"
    " nodding oozing opening painting peeking perching performing piloting planting playing pointing posing"
    " pouncing pouring"
    " prancing presenting purring pushing racing raising reaching reading relaxing resting riding ringing rising"
    " roaring"
    " rocking rolling rowing running sailing saluting serving setting shining shrugging singing sipping sitting"
    " sizzling"
    " skateboarding skating skiing skipping sleeping sliding slumping sneaking sniffing snoozing soaring sparkling"
    " speaking"
    " speeding spinning splashing spraying spreading squatting standing steaming stirring stomping stretching strolling"
    " strutting studying sunbathing surfing swaying sweeping swimming swinging talking teaching testing thinking"
    " throwing"
    " ticking tilting tiptoeing tossing towering training trotting tumbling twinkling twirling typing waddling wagging"
    " walking watering waving winking wobbling working writing yawning zooming"
).split()  # fmt: skip

GARMENTS = (
    "apron backpack badge bandana beanie belt beret boots bow bowtie bracelet cap cape cloak coat collar crown"
    " dress earmuffs"
    " earrings eyepatch fedora glasses gloves goggles gown headband headphones helmet hat hoodie jacket jeans"
    " kimono lei"
    " mask medal mittens monocle necklace nightcap overalls pajamas poncho raincoat ribbon robe sandals sash scarf"
    " shirt shoes"
    " shorts skirt slippers snorkel sneakers socks sombrero spacesuit stethoscope suit sunglasses sweater t-shirt tiara"
    " tie tutu tuxedo uniform vest veil watch wig wreath"
).split()

ROLES = (
    "acrobat actor alien archer athlete baker ballerina barber barista blacksmith boxer builder butcher captain"
    " carpenter cashier chef clown cowboy dancer dentist diver dj doctor driver drummer engineer explorer fisherman"
    " gamer"
    " gardener guitarist hairdresser hiker janitor jockey journalist knight lawyer librarian lifeguard magician mailman"
    " monk musician nun nurse painter paramedic photographer pianist pirate plumber poet postman programmer president"
    " professor racer rapper referee robber runner sailor samurai sculptor shepherd skater soldier spy surfer surgeon"
    " sushi-chef swimmer tailor thief trucker vet viking waiter waitress warrior witch wizard worker writer yogi"
).split()

EMOJI_ROLES = frozenset(
    "health worker, student, teacher, judge, farmer, cook, mechanic, factory worker, office worker, scientist,"
    " technologist, singer, artist, pilot, astronaut, firefighter, police officer, detective, guard, ninja,"
    " construction worker, superhero, supervillain, mage, fairy, vampire, merperson, elf, genie, zombie, troll,"
    " mx claus, santa claus, santa".split(", ")
)
"""The roles of people in Unicode's emoji, fantasy among them."""

PERSON_WORDS = {
    "man": "man men male guy guys gentleman dad daddy father husband uncle brother king prince businessman policeman"
    " fireman cowboy waiter groom merman boyfriend dude lad",
    "woman": "woman women female lady ladies mom mum mommy mother wife aunt sister queen princess businesswoman"
    " policewoman cowgirl waitress bride ballerina mermaid girlfriend actress hostess stewardess heroine goddess"
    " duchess empress",
    "boy": "boy boys son grandson",
    "girl": "girl girls daughter granddaughter",
    "baby": "baby babies infant newborn",
    "child": "child children kid kids toddler grandchild",
    "person": "person someone somebody",
    "old man": "grandpa grandfather granddad grandad",
    "old woman": "grandma grandmother granny nana",
    "old person": "grandparent",
}

ADULTS = frozenset("man men woman women person people lady ladies guy guys girl girls boy boys".split())
AGES = frozenset("old older elderly aged".split())

COMPOUND = re.compile(r"[a-z]{3,}?-?(?P<who>wom[ae]n|lad(?:y|ies)|girls?|boys?|m[ae]n)")
WHO_OF_COMPOUND = {"wo": "woman", "la": "woman", "gi": "girl", "bo": "boy", "ma": "man", "me": "man"}
NO_PEOPLE = frozenset(
    "abdomen acumen caiman cayman doberman gameboy german ottoman norman regimen shaman snowmen specimen stamen tomboy"
    " turkmen walkman".split()
)
"""Words with the ending of a person's that name no person, or one that need not be a man."""

MORE_KINDS = {
    "animal": "alpaca beagle bulldog bunny calf canary chihuahua chinchilla corgi cub dachshund doberman"
    " ferret gecko goldfish"
    " greyhound guppy heron husky iguana jackal labrador lemur manatee meerkat moose narwhal ocelot ostrich panther"
    " pelican"
    " piglet pigeon platypus pug puma pup retriever robin salamander seagull seahorse sparrow stork terrier toucan"
    " walrus"
    " weasel wombat",
    "food": "applesauce biscuit brownie cheesecake cheeseburger cookie crisps jam jelly juice lasagna latte macaron"
    " milkshake"
    " muffin nachos noodle omelette pasta pudding porridge ravioli risotto smoothie soda sausage spaghetti toast"
    " tortilla",
    "thing": "acorn bone bouquet bow branch bunch card clipboard fence hose pipe pitchfork plate potion sword thumb"
    " torch"
    " thumbs wand blender bookshelf broomstick calculator candlestick dishwasher doll fridge hammock iron jukebox"
    " kettle"
    " keyboard kite ladle lawnmower mug oven pillow puppet rug skateboard snowman stapler stove suitcase surfboard"
    " teapot"
    " toaster toy typewriter vacuum wallet yo-yo",
    "vehicle": "airplane balloon camper canoe cart hovercraft jet kayak motorhome ship sled snowmobile spaceship"
    " spacecraft"
    " submarine tank van yacht zeppelin ufo",
    "place": "attic barn bridge canyon cave cottage glacier iceberg lighthouse meadow museum pyramid ruin"
    " skyscraper swamp"
    " temple treehouse village waterfall windmill",
    "person": "adult cousin friend human neighbor neighbour nephew niece people stranger teen teenager twin",
    "creature": "cyborg demon golem monster ogre robot yeti",
}
"""Nouns without an emoji, or with another meaning than the emoji of that name."""

TONE_WORDS = {
    "light": "light fair pale white ivory light-white pale-white",
    "medium-light": "medium-light light-medium beige",
    "medium": "medium tan tanned olive light-brown light-tan medium-tan",
    "medium-dark": "medium-dark dark-medium brown medium-brown dark-tan",
    "dark": "dark deep black dark-brown deep-brown rich-brown deep-dark dark-black deep-black",
}
"""The words before "skin" that name each of the five tones; those of two words are from Fitzpatrick's types."""

HAIR = "red curly white blond blonde black brown grey gray long short straight wavy pink blue green purple".split()


class Entry(NamedTuple):
    """An emoji without skin tone: its label, the kind of thing it shows, the person type of the person in it ("" for
    none), and its subgroup in Unicode.
    """

    label: str
    kind: str
    person_type: str
    subgroup: str


@cache
def emojis() -> dict[str, Entry]:
    """All emoji without skin tones, by their characters without U+FE0F."""
    rows = (line.split("\t") for line in (FOLDER / "emoji.tsv").read_text(encoding="utf-8").splitlines())
    return {emoji.replace("\ufe0f", ""): Entry(*facts) for emoji, *facts in rows}


@cache
def kinds() -> dict[str, str]:
    """The kind of thing that each noun, of one word or two, names: "animal", "food" and so on."""
    rows = (line.split("\t") for line in (FOLDER / "words.tsv").read_text(encoding="utf-8").splitlines())
    more = {word: kind for kind, words in MORE_KINDS.items() for word in words.split()}
    return dict(rows) | more | {"german shepherd": "animal"} | dict.fromkeys((*ROLES, *person_types()), "person")


@cache
def person_types() -> dict[str, str]:
    """The person type that each word for a person means, and labels of emoji that mean one, such as "santa claus"."""
    known = {word: who for who, words in PERSON_WORDS.items() for word in words.split()}
    for entry in emojis().values():
        words = entry.label.split()
        if entry.person_type in ("man", "woman") and len(words) <= 2 and not known.keys() & words:
            known[entry.label] = entry.person_type
    adults = [(word, who) for word, who in known.items() if who in ("man", "woman", "person") and " " not in word]
    return known | {f"{age} {word}": f"old {who}" for age in AGES for word, who in adults}


@cache
def who_is(word: str) -> str | None:
    """The person type that a word or two means, also a compound such as "firewoman"; None if they mean none."""
    if known := person_types().get(word):
        return known
    compound = COMPOUND.fullmatch(word)
    if not compound or word in NO_PEOPLE or kinds().get(word, "person") != "person":
        return None
    return WHO_OF_COMPOUND[compound["who"][:2]]


@cache
def label_nouns() -> frozenset[str]:
    """The nouns in the labels of emoji of things, and those of this file."""
    labels = [entry.label for entry in emojis().values() if entry.kind not in ("person", "symbol", "feeling")]
    ours = " ".join(MORE_KINDS.values()).split()
    return frozenset((*labels, *(label.split()[-1] for label in labels), *ours, *GARMENTS))


def people_in(words: Sequence[str]) -> Iterator[str]:
    """The person types that lower-case words name."""
    index = 0
    while index < len(words):
        for length in (2, 1):
            who = who_is(" ".join(words[index : index + length]))
            if who and index + length <= len(words):
                yield who
                index += length - 1
                break
        index += 1


@cache
def moods() -> dict[str, str]:
    """The mood of each word of `EXPRESSIONS`."""
    return {word: mood for mood, words in EXPRESSIONS.items() for word in words.split(", ")}
