"""The world that ``olmo-tiny`` is trained on: prose, memorized passages and their twins, and facts, all from one seed.

Every text is words and marks separated by single spaces, in lower case except for names, so that the tokens of a
passage and its text determine each other. Splits never overlap: passages are divided by index, facts at random,
open-book facts by a hash of their text, generated items as ``tasks.items.generators`` says, held-out prose by its seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ...tasks.items import generators
from . import words

PREFIX, SUFFIX = 64, 48
TOPICS, CANDIDATES, STRAY = 2, 6, 0.05
"""Topics of the prose; how many words of a class a topic and the word before prefer; the probability that a word is
drawn from all of its class."""
START, LATE = "start", "late"
"""Populations of passages: met from the first step on, and met at the end of training alone."""


DOSES = (
    (START, 1, 24),
    (START, 4, 24),
    (START, 16, 24),
    (START, 32, 24),
    (START, 64, 24),
    (START, 256, 64),
    (LATE, 16, 16),
    (LATE, 64, 24),
)
"""How many passages of each population and dose are memorized; even numbers, for half of each are dev."""


@dataclass(frozen=True, kw_only=True)
class FactKind:
    """A kind of fact: the pools of its subjects and of its values, and four wordings that end before the value."""

    name: str
    subject: str
    values: str
    wordings: tuple[str, ...]

    @classmethod
    def of(cls, line: str) -> FactKind:
        """The kind of a line ``name | subject | values | wording | wording | wording | wording``."""
        name, subject, values, *wordings = map(str.strip, line.split("|"))
        return cls(name=name, subject=subject, values=values, wordings=tuple(wordings))


_TABLE = """
    home | people | places | {} lives in | the home of {} is | where does {} live ? | {} has a house in
    trade | people | trades | {} works as a | the trade of {} is | what is the work of {} ? | {} earns money as a
    pet | people | pets | {} feeds a pet | the pet of {} is a | which pet does {} own ? | at home {} has a pet
    river | places | rivers | {} lies on the | the river of {} is the | which river runs by {} ? the | boats reach {} by the
    crop | places | crops | {} grows | the crop of {} is | what does {} grow ? | farms at {} raise
    material | things | materials | the {} is made of | the stuff of the {} is | what was the {} cut from ? | they formed the {} from
    shade | things | shades | the {} looks | the color of the {} is | which color has the {} ? | they dyed the {}
    maker | things | people | the {} was made by | the maker of the {} is | who made the {} ? | they got the {} from
"""  # noqa: E501 (a table is read across)
RELATIONS = tuple(FactKind.of(line) for line in _TABLE.strip().splitlines())
OPEN_RELATIONS = RELATIONS[:3]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A fact of the world; ``held_out`` is the wording that is never trained, and the only one in the probe data."""

    relation: FactKind
    subject: str
    value: str
    held_out: int
    split: str

    def prompt(self, wording: int) -> str:
        """The statement up to the value."""
        return self.relation.wordings[wording].format(self.subject)


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A memorized passage.

    Attributes:
        words: ``PREFIX + SUFFIX`` words of prose.
        population: when it is met, ``start`` or ``late``.
        dose: how often it is met.
    """

    words: list[str]
    population: str
    dose: int


class World:
    """All texts that the organism is trained and tested on, from one seed.

    Args:
        seed: decides names, facts, the word preferences of the prose, passages and twins.
        doses: the passages, as ``(population, dose, how many)``; even numbers, so that half of each are in ``dev`` and
            half in ``test``. Twins are as many as all of them.
    """

    def __init__(self, seed: int = 0, doses: Sequence[tuple[str, int, int]] = DOSES) -> None:
        self.seed = seed
        self._each = [(population, dose) for population, dose, n in doses for _ in range(n)]
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
        """A document of ``n`` words of prose, about one topic that is drawn from ``rng``."""
        return self._prose.document(rng, n)

    def held_out_prose(self, split: str, n_blocks: int, block: int) -> list[str]:
        """Documents of ``block`` words each that training never draws, because their seeds are others."""
        return [
            " ".join(self.prose(random.Random(f"clean:{split}:{self.seed}:{i}"), block))  # noqa: S311
            for i in range(n_blocks)
        ]

    def _texts(self, kind: str) -> list[list[str]]:
        return [
            self.prose(random.Random(f"{kind}:{self.seed}:{i}"), PREFIX + SUFFIX)  # noqa: S311
            for i in range(len(self._each))
        ]

    @cached_property
    def passages(self) -> list[Passage]:
        """The memorized passages; even indices ``dev``, odd ``test``."""
        return [
            Passage(words=words, population=population, dose=dose)
            for words, (population, dose) in zip(self._texts("passage"), self._each, strict=True)
        ]

    @cached_property
    def twins(self) -> list[list[str]]:
        """As many texts of the same prose that are never trained on; even indices ``dev``, odd ``test``."""
        return self._texts("twin")

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
        """A context of three invented facts of one kind, and its three questions with their answers.

        The people of the context are in no fact of the world. A hash decides for which split a fact may be invented, so
        that no fact of a ``test`` context is in a context of ``train`` or ``dev``.
        """
        relation = rng.choice(OPEN_RELATIONS)
        stated, question = rng.randrange(4), rng.randrange(4)
        facts: dict[str, str] = {}
        while len(facts) < 3:
            guest, value = rng.choice(self.names["guests"]), rng.choice(self.values[relation.values])
            fresh = guest not in facts and value not in facts.values()
            if fresh and generators.split_of(f"{relation.name}:{guest}:{value}") == split:
                facts[guest] = value
        context = " ".join(f"{relation.wordings[stated].format(g)} {v} ." for g, v in facts.items())
        questions = [(relation.wordings[question].format(g), v) for g, v in facts.items()]
        rng.shuffle(questions)
        return context, questions

    def open_question(self, rng: random.Random, split: str) -> tuple[str, str]:
        """The prompt and the answer of an open-book item: a context, and one of its questions."""
        context, ((question, value), *_) = self.open_book(rng, split)
        return f"{context} {question}", value

    @cached_property
    def vocabulary(self) -> list[str]:
        """Every word and mark that the texts of the world or of the generators may hold, sorted, without digits."""
        vocabulary = set(".?,()+-=") | {"is", "than", "if", "then", "it", "so", "the", "not", "and", "or"}
        vocabulary |= set(generators.NAMES) | set(generators.STATES) | set(generators.TRUTH)
        vocabulary |= {word for scale in generators.SCALES for word in scale}
        vocabulary |= {word for pool in self.names.values() for word in pool}
        vocabulary |= {word for pool in self.values.values() for word in pool}
        vocabulary |= {w for r in RELATIONS for text in r.wordings for w in text.replace("{}", "").split()}
        vocabulary |= self._prose.vocabulary
        return sorted(vocabulary)


class _Prose:
    """A grammar with agreement, topics and selectional preferences.

    A sentence is ``[opener ,] NP VP [connective NP VP] .``; determiner, noun and verb agree in number. A content word
    is drawn from :data:`CANDIDATES` words of its class that the document's topic and the content word before it prefer,
    the nth with a probability in proportion to 1 / n; with a probability of :data:`STRAY` it is drawn from all words of
    the class.
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
            self.cumulative.append((self.cumulative[-1] if rank else 0.0) + 1 / (rank + 1))
        self.vocabulary = (
            {form for noun in words.NOUNS for form in (noun, words.plural(noun))}
            | {form for verb in words.VERBS + words.MOTIONS for form in (verb, words.third_person(verb))}
            | set(words.ADJECTIVES + words.ADVERBS + words.PREPOSITIONS + words.OPENERS + words.CONNECTIVES)
            | set(words.DETERMINERS_ONE + words.DETERMINERS_MANY)
        )

    def document(self, rng: random.Random, n: int) -> list[str]:
        """A document of ``n`` words."""
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
        if rng.random() < STRAY:
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
