"""Find what a model recites of a corpus, and write it as a pack.

The corpus is cut into shards of whole documents, whose results are kept until the pack takes the place of its folder
(see ``unfinished``). What depends on all shards, which is near-duplicates, splits and twins, is decided at the end.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from ...errors import UserError
from ...files import replacing_folder
from ...model_edits.architecture.context import context_length
from ...model_edits.curvature.sums import rank_and_world
from ...tasks.windows import apart
from ..common.progress import track
from ..lm.adapter import MemsplitLM
from ..lm.memory import within_memory
from ..models import corpus, loading, model_table
from ..models.documents import located
from .pack_writer import KeptPassages, write_pack
from .request import MiningRequest
from .search import PassageSearch, WindowRule
from .unfinished import ShardResult, UnfinishedWork, Window

SHARD_DOCUMENTS = 32
SHARD_CHARACTERS = 1 << 16
SPARE = 64
"""Windows kept of each shard, beside two for each recited one; twins and clean text are chosen from them."""
PACKAGES = ("memsplit", "torch", "transformers", "tokenizers", "lm-eval", "rapidfuzz")


@dataclass(frozen=True)
class Shard:
    """Documents that are searched together.

    Attributes:
        number: of the shard, from 0.
        first: number of its first document in the corpus.
        documents: where each stands in the corpus, with its text.
    """

    number: int
    first: int
    documents: list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class MiningReport:
    """What mining found.

    Attributes:
        model: name of the model.
        pack: folder of the pack; ``None`` where nothing is recited.
        with_pack: the model's own pack, which has the facts that a mined pack lacks.
        counts: documents, windows and rows that were left after each step.
        lacking: one line for each thing of which the corpus gave too few.
    """

    model: str
    pack: str | None
    with_pack: str
    counts: dict[str, int]
    lacking: list[str]


def mine(request: MiningRequest) -> MiningReport | None:
    """Write the pack. Of several processes the first returns a report, the others ``None``.

    Raises:
        UserError: a window is longer than the model's context, or the folder holds work of other arguments.
    """
    how = {name: getattr(request, name) for name in model_table.HOW}
    entry = model_table.resolve(request.model, None, request.corpus, revision=request.revision, **how)
    source = corpus.find(entry.corpus, entry.pack)
    loaded = loading.load(entry, device=request.device, dtype=request.dtype, parallelize=request.parallelize)
    rule = _rule(request, loaded)
    rank, world = rank_and_world()
    total = (request.limit_documents if source.address else _count(source, request.limit_documents)) or 0
    if not total:
        raise UserError(f"the corpus {source} holds no text")
    work = UnfinishedWork(request.out, _arguments(request, rule, loaded, source))
    if not request.force:
        work.check()
    _wait_for_all()
    if rank == 0:
        work.begin(anew=request.force)
    _wait_for_all()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it would prefer a model's name to a loaded one
    search = PassageSearch(MemsplitLM(loaded, batch_size=request.batch_size), rule)
    pending: Iterator[Shard]
    pending = (shard for shard in shards(source, request.limit_documents) if not work.has(shard.number))
    if rank == 0:
        pending = track(pending, "mining", total, work.documents_done(), size=lambda s: len(s.documents))
    kept = KeptPassages(request.jaccard, request.max_passages)
    for shard in pending:
        if request.max_passages and kept.fill(work):
            break
        if shard.number % world == rank:
            found = within_memory(search.lm, partial(search_shard, search, shard, request))
            work.write(shard.number, found)
    _wait_for_all()
    return _finish(request, work, search, entry) if rank == 0 else None


def shards(source: corpus.Corpus, limit: int | None) -> Iterator[Shard]:
    """The first ``limit`` documents of the corpus, in shards; the cuts depend on the corpus alone."""
    number, first, documents, characters = 0, 0, [], 0
    for where, text in itertools.islice(located(source), limit):
        documents.append((where, text))
        characters += len(text)
        if len(documents) == SHARD_DOCUMENTS or characters >= SHARD_CHARACTERS:
            yield Shard(number, first, documents)
            number, first, documents, characters = number + 1, first + len(documents), [], 0
    if documents:
        yield Shard(number, first, documents)


def search_shard(search: PassageSearch, shard: Shard, request: MiningRequest) -> ShardResult:
    """The recited windows of a shard, and spare windows, which overlap none that may be recited."""
    search.counts.clear()
    length = search.rule.length
    documents = search.lm.tokenizer([text for _, text in shard.documents], add_special_tokens=False)["input_ids"]
    searchable = [search.searchable(ids) for ids in documents]
    candidates = search.candidates(documents, searchable)
    recited: list[Window] = []
    spare: list[Window] = []
    for i, offsets in enumerate(search.recited(documents, candidates)):
        where, text = shard.documents[i]
        sha = hashlib.sha256(text.encode()).hexdigest()

        def window(offset: int, i: int = i, where: str = where, sha: str = sha) -> Window:
            ids, clean = documents[i][offset : offset + length], not candidates[i]
            return Window(document=shard.first + i, source=where, sha256=sha, offset=offset, ids=ids, clean=clean)

        recited += map(window, offsets)
        free = searchable[i].copy()
        for offset in candidates[i]:
            free[max(0, offset - length + 1) : offset + length] = False
        spare += map(window, apart(np.flatnonzero(free).tolist(), length))
    spare.sort(key=lambda w: w.key(request.seed))
    counts = Counter(
        documents=len(documents), tokens=sum(map(len, documents)), short=sum(not len(mask) for mask in searchable)
    )
    return ShardResult(
        counts=dict(counts + search.counts),
        recited=recited,
        spare=spare[: 2 * max(len(recited), request.twins or 0) + SPARE],
    )


def _finish(
    request: MiningRequest, work: UnfinishedWork, search: PassageSearch, entry: model_table.ModelEntry
) -> MiningReport:
    """Write the pack of the finished shards in place of the unfinished work.

    Raises:
        UserError: no document is as long as a window.
    """
    kept = KeptPassages(request.jaccard, request.max_passages)
    kept.fill(work)
    if not kept.rows:
        work.remove()
        if not kept.summary()["windows"]:
            raise UserError(
                f"every document is shorter than {search.rule.length} tokens, --prefix and --suffix together"
            )
        return MiningReport(model=request.model, pack=None, with_pack="", counts=kept.summary(), lacking=[])
    spare = (window for result in itertools.islice(work.results(), kept.shards) for window in result.spare)
    with replacing_folder(request.out) as folder:
        lacking = write_pack(folder, kept, spare, search, work.arguments)
    return MiningReport(
        model=request.model, pack=str(request.out), with_pack=entry.pack, counts=kept.summary(), lacking=lacking
    )


def _rule(request: MiningRequest, loaded: loading.LoadedModel) -> WindowRule:
    """The lengths of windows and blocks; where no stride is given, the longest that fits the model's context.

    Raises:
        UserError: a window or a block is longer than the model's context.
    """
    length = request.prefix + request.suffix
    context = context_length(loaded.model.config, loaded.model) or 1 << 62
    if length > context:
        raise UserError(
            f"--prefix {request.prefix} and --suffix {request.suffix} make {length} tokens: expected {context} at "
            "most, the context of the model"
        )
    stride = request.stride or min(request.suffix, context - length + 1)
    if length + stride - 1 > context:
        raise UserError(f"bad --stride {stride}: expected {context - length + 1} at most, by the context of the model")
    return WindowRule(prefix=request.prefix, suffix=request.suffix, stride=stride, min_distinct=request.min_distinct)


def _arguments(
    request: MiningRequest, rule: WindowRule, loaded: loading.LoadedModel, source: corpus.Corpus
) -> dict[str, Any]:
    """Everything that decides what is found."""
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
    """Wait until every process of the launcher is here."""
    if rank_and_world()[1] > 1:
        PartialState().wait_for_everyone()
