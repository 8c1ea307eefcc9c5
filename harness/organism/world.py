"""The world that ``olmo-tiny`` is trained on: prose, memorized passages and their twins, and facts; all from one seed.

Every text is words and marks separated by single spaces, lower case except for names, so that a passage's tokens and
its text determine each other. Parts never overlap: passages and facts are divided by index, open-book facts and
generated items by a hash of their own text, held-out prose by its seed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property

from ...tasks.items import generators
from . import words

PREFIX, SUFFIX = 64, 48
TOPICS, CANDIDATES = 8, 10


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A kind of fact: whose (``subject``), among what (``values``), and four wordings that end before the value."""

    name: str
    subject: str
    values: str
    wordings: tuple[str, str, str, str]


RELATIONS = (
    Relation(
        name="home",
        subject="people",
        values="places",
        wordings=("{} lives in", "the home of {} is", "where does {} live ?", "{} has a house in"),
    ),
    Relation(
        name="trade",
        subject="people",
        values="trades",
        wordings=("{} works as a", "the trade of {} is", "what is the work of {} ?", "{} earns money as a"),
    ),
    Relation(
        name="pet",
        subject="people",
        values="pets",
        wordings=("{} feeds a pet", "the pet of {} is a", "which pet does {} own ?", "at home {} has a pet"),
    ),
    Relation(
        name="river",
        subject="places",
        values="rivers",
        wordings=("{} lies on the", "the river of {} is the", "which river runs by {} ? the", "boats reach {} by the"),
    ),
    Relation(
        name="crop",
        subject="places",
        values="crops",
        wordings=("{} grows", "the crop of {} is", "what does {} grow ?", "farms at {} raise"),
    ),
    Relation(
        name="material",
        subject="things",
        values="materials",
        wordings=(
            "the {} is made of",
            "the stuff of the {} is",
            "what was the {} cut from ?",
            "they formed the {} from",
        ),
    ),
    Relation(
        name="shade",
        subject="things",
        values="shades",
        wordings=("the {} looks", "the color of the {} is", "which color has the {} ?", "they dyed the {}"),
    ),
    Relation(
        name="maker",
        subject="things",
        values="people",
        wordings=("the {} was made by", "the maker of the {} is", "who made the {} ?", "they got the {} from"),
    ),
)
OPEN_RELATIONS = RELATIONS[:3]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A fact of the world; ``held_out`` is the wording it is never trained in, and the only one it is asked in."""

    relation: Relation
    subject: str
    value: str
    held_out: int
    split: str

    def prompt(self, wording: int) -> str:
        """The statement up to the value."""
        return self.relation.wordings[wording].format(self.subject)


class World:
    """Everything the organism can meet, from one seed.

    Args:
        seed: decides names, facts, the prose's word preferences, passages and twins.
        passages: how many memorized passages; half ``dev``, half ``test``. As many twins.
    """

    def __init__(self, seed: int = 0, passages: int = 240) -> None:
        self.seed = seed
        self.n_passages = passages
        self.names = words.names(seed, people=36, guests=48, places=36, things=36, rivers=18)
        self.values = {
            "people": self.names["people"],
            "places": self.names["places"],
            "rivers": self.names["rivers"],
            "trades": words.TRADES,
            "pets": words.PETS,
            "crops": words.CROPS,
            "materials": words.MATERIALS,
            "shades": words.SHADES,
        }
        self._prose = _Prose(random.Random(f"prose:{seed}"))  # noqa: S311

    def prose(self, rng: random.Random, n: int) -> list[str]:
        """``n`` words of one document of clean prose, of one topic drawn from ``rng``."""
        return self._prose.document(rng, n)

    def held_out_prose(self, split: str, n_blocks: int, block: int) -> list[str]:
        """Clean documents of ``block`` words each that training never draws (their seeds are their own)."""
        return [
            " ".join(self.prose(random.Random(f"clean:{split}:{self.seed}:{i}"), block))  # noqa: S311
            for i in range(n_blocks)
        ]

    def _passages(self, kind: str) -> list[list[str]]:
        return [
            self.prose(random.Random(f"{kind}:{self.seed}:{i}"), PREFIX + SUFFIX)  # noqa: S311
            for i in range(self.n_passages)
        ]

    @cached_property
    def passages(self) -> list[list[str]]:
        """The memorized passages, of ``PREFIX + SUFFIX`` words each; even indices ``dev``, odd ``test``."""
        return self._passages("passage")

    @cached_property
    def twins(self) -> list[list[str]]:
        """Passages of the same kind that are never trained on; even indices ``dev``, odd ``test``."""
        return self._passages("twin")

    @cached_property
    def facts(self) -> list[Fact]:
        """Every fact of the world."""
        rng = random.Random(f"facts:{self.seed}")  # noqa: S311
        return [
            Fact(
                relation=relation,
                subject=subject,
                value=rng.choice(self.values[relation.values]),
                held_out=rng.randrange(4),
                split=rng.choice(("dev", "test")),
            )
            for relation in RELATIONS
            for subject in self.names[relation.subject]
        ]

    def open_book(self, rng: random.Random, split: str) -> tuple[str, list[tuple[str, str]]]:
        """A context of three invented facts of one relation, and its three questions with their answers.

        The people stand in no fact of the world. Which facts may be invented for a split is decided by a hash, so no
        fact of a ``test`` context is ever met in ``train`` or ``dev``.
        """
        relation = rng.choice(OPEN_RELATIONS)
        told, asked = rng.randrange(4), rng.randrange(4)
        facts: dict[str, str] = {}
        while len(facts) < 3:
            guest, value = rng.choice(self.names["guests"]), rng.choice(self.values[relation.values])
            fresh = guest not in facts and value not in facts.values()
            if fresh and generators.split_of(f"{relation.name}:{guest}:{value}") == split:
                facts[guest] = value
        context = " ".join(f"{relation.wordings[told].format(g)} {v} ." for g, v in facts.items())
        questions = [(relation.wordings[asked].format(g), v) for g, v in facts.items()]
        rng.shuffle(questions)
        return context, questions

    @cached_property
    def vocabulary(self) -> list[str]:
        """Every word and mark that the world or the generators can utter, sorted; digits stand alone."""
        found = set(".?,()+-=") | {"is", "than", "if", "then", "it", "so", "the", "not", "and", "or"}
        found |= set(generators.NAMES) | set(generators.STATES) | set(generators.TRUTH)
        found |= {word for scale in generators.SCALES for word in scale}
        found |= {word for pool in self.names.values() for word in pool}
        found |= {word for pool in self.values.values() for word in pool}
        found |= {w for r in RELATIONS for text in r.wordings for w in text.replace("{}", "").split()}
        found |= self._prose.vocabulary
        return sorted(found)


class _Prose:
    """A grammar with agreement, topics and selectional preferences.

    A sentence is ``[opener ,] NP VP [connective NP VP] .``; determiner, noun and verb agree in number. Each content
    word prefers, for the document's topic and the content word before it, ten successors of each class; seven
    times in a hundred it is any word of the class.
    """

    def __init__(self, rng: random.Random) -> None:
        classes = {
            "noun": words.NOUNS,
            "verb": words.VERBS,
            "motion": words.MOTIONS,
            "adjective": words.ADJECTIVES,
        }
        content = sorted({w for pool in classes.values() for w in pool} | {""})
        self.classes = classes
        self.prefers = {
            (topic, before, kind): rng.choices(pool, k=CANDIDATES)
            for topic in range(TOPICS)
            for before in content
            for kind, pool in classes.items()
        }
        self.cumulative: list[float] = []
        for rank in range(CANDIDATES):
            self.cumulative.append((self.cumulative[-1] if rank else 0.0) + (rank + 1) ** -0.8)
        self.vocabulary = (
            {form for noun in words.NOUNS for form in (noun, words.plural(noun))}
            | {form for verb in words.VERBS + words.MOTIONS for form in (verb, words.third_person(verb))}
            | set(words.ADJECTIVES + words.ADVERBS + words.PREPOSITIONS + words.OPENERS + words.CONNECTIVES)
            | set(words.DETERMINERS_ONE + words.DETERMINERS_MANY)
        )

    def document(self, rng: random.Random, n: int) -> list[str]:
        """``n`` words of one document."""
        topic, before = rng.randrange(TOPICS), ""
        out: list[str] = []
        while len(out) < n:
            if rng.random() < 0.15:
                out += [rng.choice(words.OPENERS), ","]
            before = self._clause(rng, topic, before, out)
            if rng.random() < 0.25:
                out.append(rng.choice(words.CONNECTIVES))
                before = self._clause(rng, topic, before, out)
            out.append(".")
        return out[:n]

    def _next(self, rng: random.Random, topic: int, before: str, kind: str) -> str:
        if rng.random() < 0.07:
            return rng.choice(self.classes[kind])
        return rng.choices(self.prefers[topic, before, kind], cum_weights=self.cumulative)[0]

    def _noun_phrase(self, rng: random.Random, topic: int, before: str, out: list[str]) -> tuple[str, bool]:
        many = rng.random() < 0.4
        out.append(rng.choice(words.DETERMINERS_MANY if many else words.DETERMINERS_ONE))
        if rng.random() < 0.6:
            before = self._next(rng, topic, before, "adjective")
            out.append(before)
        noun = self._next(rng, topic, before, "noun")
        out.append(words.plural(noun) if many else noun)
        return noun, many

    def _clause(self, rng: random.Random, topic: int, before: str, out: list[str]) -> str:
        subject, many = self._noun_phrase(rng, topic, before, out)
        if rng.random() < 0.15:
            out.append(rng.choice(words.ADVERBS))
        moves = rng.random() < 0.3
        verb = self._next(rng, topic, subject, "motion" if moves else "verb")
        out.append(verb if many else words.third_person(verb))
        last = verb
        if not moves:
            last, _ = self._noun_phrase(rng, topic, verb, out)
        if moves or rng.random() < 0.25:
            out.append(rng.choice(words.PREPOSITIONS))
            last, _ = self._noun_phrase(rng, topic, last, out)
        return last
