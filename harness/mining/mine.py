"""Mining: what a model recites of a corpus, written as a pack.

The corpus is cut into shards of whole documents. What is found in a shard does not depend on any other, and is kept in
a file of its own under the pack's folder until the pack takes that folder's place: killed work goes on at its shard,
and several processes share the shards. What needs all of them, near-duplicates, parts and twins, is decided at the end.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import UserError
from ...files import replacing, replacing_folder
from ...model_edits.curvature.sums import rank_and_world
from ...tasks.windows import apart
from ..cli.mine import WORK
from ..common.progress import track
from ..lm.adapter import MemsplitLM
from ..models import corpus, loading, model_table
from ..models.documents import located
from .pack_writer import Kept, Part, Window, write_pack
from .search import Rule, Search

SHARD_DOCUMENTS = 32
SHARD_CHARACTERS = 1 << 16
SPARE = 64
"""Windows kept of each shard, beside two for each recited one, from which twins and clean text are chosen."""
PACKAGES = ("memsplit", "torch", "transformers", "tokenizers", "lm-eval", "rapidfuzz")


@dataclass(frozen=True, kw_only=True)
class MiningRequest:
    """What to mine, as the command line gives it."""

    model: str
    out: Path
    corpus: str | None = None
    prefix: int = 64
    suffix: int = 48
    stride: int | None = None
    min_distinct: float = 0.25
    jaccard: float = 0.7
    twins: int | None = None
    limit_documents: int | None = None
    max_passages: int | None = None
    batch_size: int = 32
    seed: int = 0
    device: str = "cpu"
    dtype: str | None = None
    parallelize: bool = False
    force: bool = False


@dataclass(frozen=True)
class Shard:
    """Documents that are worked on together: where each stands, with its text; ``first`` is the number of the first."""

    number: int
    first: int
    documents: list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class MiningReport:
    """What came of it.

    Attributes:
        model: its name.
        pack: the folder; ``None`` where nothing is recited.
        with_pack: the pack of the model's that makes up for what a mined one has not.
        counts: documents, windows and rows after each step.
        lacking: what the corpus gave too few of, a line each.
    """

    model: str
    pack: str | None
    with_pack: str
    counts: dict[str, int]
    lacking: list[str]


def mine(request: MiningRequest) -> MiningReport | None:
    """Write the pack; of several processes the first returns a report, the others ``None``.

    Raises:
        UserError: a window is longer than the model's context, or the folder holds work of other arguments.
    """
    entry = model_table.resolve(request.model, None, request.corpus)
    source = corpus.find(entry.corpus, entry.pack)
    loaded = loading.load(entry, device=request.device, dtype=request.dtype, parallelize=request.parallelize)
    rule = _rule(request, loaded)
    rank, world = rank_and_world()
    total = (request.limit_documents if source.address else _count(source, request.limit_documents)) or 0
    if not total:
        raise UserError(f"the corpus {source} holds no text")
    work = Work(request.out, _arguments(request, rule, loaded, source))
    if not request.force:
        work.check()
    _wait_for_all()
    if rank == 0:
        work.begin(anew=request.force)
    _wait_for_all()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it would prefer a model's name to a loaded one
    search = Search(MemsplitLM(loaded, batch_size=request.batch_size), rule)
    pending: Iterator[Shard]
    pending = (shard for shard in shards(source, request.limit_documents) if not work.has(shard.number))
    if rank == 0:
        pending = track(pending, "mining", total, work.documents_done(), size=lambda s: len(s.documents))
    kept = Kept(request.jaccard, request.max_passages)
    for shard in pending:
        if request.max_passages and work.fill(kept):
            break
        if shard.number % world == rank:
            work.write(shard.number, find(search, shard, request))
    _wait_for_all()
    return _finish(request, work, search, entry) if rank == 0 else None


def shards(source: corpus.Corpus, limit: int | None) -> Iterator[Shard]:
    """The corpus's documents, ``limit`` at most, in shards; what is in a shard depends on the corpus alone."""
    number, first, documents, characters = 0, 0, [], 0
    for where, text in itertools.islice(located(source), limit):
        documents.append((where, text))
        characters += len(text)
        if len(documents) == SHARD_DOCUMENTS or characters >= SHARD_CHARACTERS:
            yield Shard(number, first, documents)
            number, first, documents, characters = number + 1, first + len(documents), [], 0
    if documents:
        yield Shard(number, first, documents)


def find(search: Search, shard: Shard, request: MiningRequest) -> Part:
    """What a shard holds: recited windows, and windows far from any of which others may be made."""
    search.counts.clear()
    length = search.rule.length
    documents = search.lm.tokenizer([text for _, text in shard.documents], add_special_tokens=False)["input_ids"]
    asked = [search.askable(ids) for ids in documents]
    candidates = search.candidates(documents, asked)
    recited: list[Window] = []
    spare: list[Window] = []
    for i, offsets in enumerate(search.recited(documents, candidates)):
        where, text = shard.documents[i]
        sha = hashlib.sha256(text.encode()).hexdigest()

        def window(offset: int, i: int = i, where: str = where, sha: str = sha) -> Window:
            ids, clean = documents[i][offset : offset + length], not candidates[i]
            return Window(document=shard.first + i, source=where, sha256=sha, offset=offset, ids=ids, clean=clean)

        recited += map(window, offsets)
        free = asked[i].copy()
        for offset in candidates[i]:
            free[max(0, offset - length + 1) : offset + length] = False
        spare += map(window, apart(np.flatnonzero(free).tolist(), length))
    spare.sort(key=lambda w: w.key(request.seed))
    counts = Counter(
        documents=len(documents), tokens=sum(map(len, documents)), short=sum(not len(mask) for mask in asked)
    )
    return Part(
        counts=dict(counts + search.counts),
        recited=recited,
        spare=spare[: 2 * max(len(recited), request.twins or 0) + SPARE],
    )


class Work:
    """The folder of a pack that is not done: its arguments, and a file for each finished shard."""

    def __init__(self, out: Path, arguments: dict[str, Any]) -> None:
        self.out = out
        self.folder = out / WORK
        self.arguments = json.loads(json.dumps(arguments))

    def check(self) -> None:
        """Refuse unfinished work of other arguments.

        Raises:
            UserError: the first that differs.
        """
        path = self.folder / "arguments.json"
        if not path.exists():
            return
        there = _json(path)
        for name in sorted({*there, *self.arguments}):
            if there.get(name) != self.arguments.get(name):
                raise UserError(
                    f"the unfinished work in {str(self.out)!r} is of {name.replace('_is', ' with contents')} "
                    f"{there.get(name)!r}, not {self.arguments.get(name)!r}: "
                    "expected the same command, or --force to start again"
                )

    def begin(self, *, anew: bool) -> None:
        """Make the folder, where it is not there or ``anew``."""
        if anew:
            shutil.rmtree(self.folder, ignore_errors=True)
        with replacing(self.folder / "arguments.json") as path:
            path.write_text(json.dumps(self.arguments))

    def has(self, number: int) -> bool:
        """Whether a shard is done."""
        return self._path(number).exists()

    def write(self, number: int, part: Part) -> None:
        """Keep what a shard holds."""
        with replacing(self._path(number)) as path:
            path.write_text(json.dumps(asdict(part)))

    def parts(self, first: int = 0) -> Iterator[Part]:
        """What the shards from ``first`` on hold, up to the first that is not done."""
        for number in itertools.count(first):
            if not self.has(number):
                return
            content = _json(self._path(number))
            windows = {name: [Window(**w) for w in content[name]] for name in ("recited", "spare")}
            yield Part(counts=content["counts"], **windows)

    def documents_done(self) -> int:
        """How many documents the finished shards hold."""
        return sum(_json(path)["counts"]["documents"] for path in self.folder.glob("shard-*.json"))

    def fill(self, kept: Kept) -> bool:
        """Add the shards that ``kept`` has not seen, up to the first that is not done; whether it is full."""
        for part in self.parts(kept.shards):
            if kept.is_full:
                break
            kept.add(part)
        return kept.is_full

    def remove(self) -> None:
        """Leave nothing."""
        shutil.rmtree(self.folder)
        if not any(self.out.iterdir()):
            self.out.rmdir()

    def _path(self, number: int) -> Path:
        return self.folder / f"shard-{number:07}.json"


def _finish(request: MiningRequest, work: Work, search: Search, entry: model_table.ModelEntry) -> MiningReport:
    kept = Kept(request.jaccard, request.max_passages)
    work.fill(kept)
    if not kept.rows:
        work.remove()
        if not kept.summary()["windows"]:
            raise UserError(
                f"every document is shorter than {search.rule.length} tokens, --prefix and --suffix together"
            )
        return MiningReport(model=request.model, pack=None, with_pack="", counts=kept.summary(), lacking=[])
    spare = (window for part in itertools.islice(work.parts(), kept.shards) for window in part.spare)
    with replacing_folder(request.out) as folder:
        lacking = write_pack(folder, kept, spare, search, work.arguments)
    return MiningReport(
        model=request.model,
        pack=str(request.out),
        with_pack=entry.pack,
        counts=kept.summary(),
        lacking=lacking,
    )


def _rule(request: MiningRequest, loaded: loading.LoadedModel) -> Rule:
    """The windows, with a stride that fits the model's context where none is given."""
    length = request.prefix + request.suffix
    context = getattr(loaded.model.config, "max_position_embeddings", None) or 1 << 62
    if length > context:
        raise UserError(
            f"--prefix {request.prefix} and --suffix {request.suffix} make {length} tokens: expected {context} at "
            "most, the context of the model"
        )
    stride = request.stride or min(loaded.entry.mine_stride or request.suffix, context - length + 1)
    if length + stride - 1 > context:
        raise UserError(f"bad --stride {stride}: expected {context - length + 1} at most, by the context of the model")
    return Rule(prefix=request.prefix, suffix=request.suffix, stride=stride, min_distinct=request.min_distinct)


def _arguments(
    request: MiningRequest, rule: Rule, loaded: loading.LoadedModel, source: corpus.Corpus
) -> dict[str, Any]:
    """All that decides what is found."""
    given = {k: v for k, v in asdict(request).items() if k not in ("out", "force", "parallelize", "corpus")}
    return {
        **given,
        **asdict(rule),
        "corpus": loaded.entry.corpus,
        "corpus_is": source.name(),
        "device": torch.device(request.device).type,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "weights": loaded.weights,
        "revision": loaded.revision,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _count(source: corpus.Corpus, limit: int | None) -> int:
    return sum(1 for _ in itertools.islice(located(source), limit))


def _wait_for_all() -> None:
    if rank_and_world()[1] > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): expected it whole; --force starts again") from error
    return content
