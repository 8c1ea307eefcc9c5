"""The words of the organism's world: common English for the prose, made-up names for the people, places and things."""

from __future__ import annotations

import random

NOUNS = """
    farmer miller baker sailor singer teacher doctor painter hunter weaver merchant soldier king queen prince
    shepherd tailor carpenter gardener fisher river mountain forest valley garden meadow harbor island desert
    village castle tower bridge market temple cabin cellar stable orchard road horse dog cat bird wolf bear goat cow
    duck rabbit eagle owl spider snake frog bee lion tiger apple pear plum onion carrot melon nut seed root flower
    rose tree stone rock hammer nail saw rope basket bucket barrel bottle kettle plate spoon candle lantern mirror
    clock key door window table chair blanket coat hat boot ring crown sword shield arrow drum flute violin song
    story letter book map coin boat wagon wheel storm cloud star moon lake field hill wall gate lamp
""".split()
VERBS = """
    help follow visit find call answer lead meet thank greet paint draw clean repair build open move lift carry hold
    drop throw pull turn break burn cook eat bake boil plant pick gather store hide seek guard trade sell lend
    borrow want need love fear admire know remember forget describe praise blame warn teach hear watch see notice
    ignore avoid chase lose keep bring send take leave cover fill collect count
""".split()
MOTIONS = """
    walk run ride sail wander travel climb swim jump sleep rest wait stand sit hide shine fall float sing work
""".split()
ADJECTIVES = """
    old young small large tall short quiet loud brave gentle clever foolish happy sad proud humble rich poor strong
    weak swift slow dark pale bright golden silver wooden broken clean dusty heavy light soft hard sharp dull smooth
    rough narrow wide deep shallow hollow ancient modern strange common rare sweet bitter fresh ripe frozen hungry
    tired lonely angry busy lazy wild tame
""".split()
ADVERBS = """
    often always never sometimes slowly quickly gladly quietly early late rarely softly
""".split()
PREPOSITIONS = ["near", "behind", "under", "above", "beside", "beyond", "inside", "around", "across", "toward"]
OPENERS = ["then", "later", "soon", "today", "yesterday", "meanwhile"]
DETERMINERS_ONE = ["the", "a", "every", "this", "that"]
DETERMINERS_MANY = ["the", "some", "many", "few", "these", "those"]
CONNECTIVES = ["and", "but", "because", "while"]

TRADES = """
    mason potter smith cooper printer tanner brewer jeweler dyer surgeon lawyer piper judge notary porter scribe
""".split()
PETS = """
    parrot ferret monkey turtle hamster pony falcon lizard canary mouse goose pigeon otter badger squirrel toad
""".split()
CROPS = ["barley", "wheat", "oats", "rye", "hops", "flax", "cotton", "maize", "lentils", "beans", "rice", "sugar"]
MATERIALS = """
    bronze copper iron glass marble ivory leather linen silk amber jade granite
""".split()
SHADES = """
    scarlet purple orange yellow brown black white violet crimson indigo teal olive
""".split()

_ONSETS = """
    B Br C D Dr F G Gr H K L M N P Pr R S St T Th Tr V W
""".split()
_VOWELS = ["a", "e", "i", "o", "u"]
_PERSON_ENDS = ["bin", "dric", "lan", "mund", "nis", "rik", "sell", "vin", "wen", "zar"]
_PLACE_ENDS = ["burg", "dale", "fell", "ford", "ham", "mere", "mouth", "port", "stead", "wick"]
_THING_ENDS = ["blade", "cup", "globe", "harp", "helm", "loom", "orb", "vane"]
_RIVER_ENDS = ["ble", "ne", "rro", "sk", "th", "x"]


def _made_up(rng: random.Random, ends: list[str], n: int, taken: set[str]) -> list[str]:
    names: list[str] = []
    while len(names) < n:
        name = rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(ends)
        if name not in taken:
            taken.add(name)
            names.append(name)
    return names


def names(seed: int, *, people: int, guests: int, places: int, things: int, rivers: int) -> dict[str, list[str]]:
    """Made-up names by kind, all different; ``guests`` are the people of open-book questions."""
    rng = random.Random(f"names:{seed}")  # noqa: S311 (names, not secrets)
    taken: set[str] = set()
    kinds = {
        "people": (_PERSON_ENDS, people),
        "guests": (_PERSON_ENDS, guests),
        "places": (_PLACE_ENDS, places),
        "things": (_THING_ENDS, things),
        "rivers": (_RIVER_ENDS, rivers),
    }
    return {kind: _made_up(rng, ends, n, taken) for kind, (ends, n) in kinds.items()}


def plural(noun: str) -> str:
    """The regular plural of a noun."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def third_person(verb: str) -> str:
    """The regular third person singular of a verb."""
    return plural(verb)
