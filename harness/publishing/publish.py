"""Publish results: a store's leaderboard as a dataset of the hub, or a record's figures in a model card."""

from __future__ import annotations

import importlib.metadata
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import (
    CommitOperationAdd,
    DatasetCard,
    DatasetCardData,
    EvalResult,
    HfApi,
    ModelCard,
    constants,
    get_token,
)
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: the client's, httpx or its successor
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
)

from ...errors import UserError
from ...files import write_whole
from ...results.board import formats, page
from ...results.board.table import Board
from ...results.records.record import Record
from ...results.records.schema import RecordContent
from ..models import download

DATASET_TYPE = "memsplit"
"""``dataset_type`` of the eval results in a model card."""


def push(
    boards: Sequence[Board],
    repository: str,
    *,
    private: bool = False,
    message: str | None = None,
    with_answers: bool = False,
) -> str:
    """Publish tables, page and their records in one commit; other files of the dataset are kept.

    Args:
        boards: the tables.
        repository: name of the dataset on the hub, OWNER/NAME; it is made if it is not there.
        private: make a private dataset; one that is public already is refused.
        message: message of the commit.
        with_answers: publish the models' answers too, which are recited text.

    Returns:
        URL of the commit.

    Raises:
        UserError: requests are forbidden, there is no token, the hub refuses, or a record is damaged.
    """
    name = f"--push {repository!r}"
    if variable := download.offline():
        raise UserError(f"{name} asks the hub, which {variable} forbids: unset it")
    if not get_token():
        raise UserError(f"{name} needs a token of the hub: expected HF_TOKEN, or 'hf auth login' before")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    records = _records(boards, with_answers)
    api = HfApi()
    try:
        api.create_repo(repository, repo_type="dataset", private=private or None, exist_ok=True)
        if private and not api.dataset_info(repository).private:
            raise UserError(f"{name} is public already: expected another name, or no --private")
        done = api.create_commit(
            repository,
            [
                CommitOperationAdd(path, content)
                for path, content in {**_tables(boards, with_answers), **records}.items()
            ],
            commit_message=message or f"Leaderboard by memsplit {_version()}",
            repo_type="dataset",
        )
    except HFValidationError as error:
        raise UserError(f"{name} is no name of the hub ({error}): expected OWNER/NAME") from error
    except HfHubHTTPError as error:
        raise UserError(f"{name} could not be written: {_refusal(error)}") from error
    except HTTPError as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{name} could not be written: {constants.ENDPOINT} does not answer ({reason})") from error
    except (ValueError, RuntimeError) as error:  # the hub takes no such card; a large file did not get through
        raise UserError(f"{name} could not be written: {error}") from error
    return str(done.commit_url)


def write_card(path: Path, record: Record) -> Path:
    """Put a record's figures into a model card as eval results (``model-index``); the rest of the card is kept.

    Eval results of the same suite are replaced; those of other benchmarks are kept.

    Args:
        path: the card, or the folder of its ``README.md``.
        record: the record.

    Returns:
        Path of the card.

    Raises:
        UserError: there is no card, it cannot be read, or it says that it is of other weights.
    """
    file = path / "README.md" if path.is_dir() else path
    try:
        card = ModelCard(file.read_bytes().decode("utf-8"), ignore_metadata_errors=False)
    except OSError as error:
        raise UserError(
            f"--card {str(path)!r} cannot be read ({error.strerror}): expected a model's README.md, or its folder"
        ) from error
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"the metadata of the card {file} cannot be read ({error})") from error
    content = record.content
    if not card.content.startswith("---"):
        raise UserError(f"--card {str(file)!r} has no metadata: expected a model card, which begins with ---")
    if "edited weights: `" in card.text and content.edited_weights not in card.text:
        raise UserError(
            f"--record {record.id!r} is of the weights {content.edited_weights[:12]}, which the card {file} does "
            "not name: expected a record of its edit"
        )
    ours = eval_results(content)
    data: Any = card.data
    names = {(result.dataset_type, result.dataset_name) for result in ours}
    others = [result for result in data.eval_results or [] if (result.dataset_type, result.dataset_name) not in names]
    data.eval_results = [*others, *ours]
    data.model_name = data.model_name or file.resolve().parent.name
    write_whole(file, str(card))
    return file


def eval_results(content: RecordContent) -> list[EvalResult]:
    """The edited model's figures as eval results of a card: the dataset is the suite, its configuration the axis."""
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=DATASET_TYPE,
            dataset_name=f"memsplit {content.suite}",
            dataset_config=axis,
            dataset_split=content.arguments.split,
            dataset_revision=content.fingerprint,
            metric_type=metric,
            metric_value=value,
        )
        for axis, metrics in content.edited.items()
        for metric, value in metrics.items()
        if math.isfinite(value)
    ]


def _records(boards: Sequence[Board], with_answers: bool) -> dict[str, bytes]:
    """The files of the records by path in the dataset; each record is checked against its hashes."""
    files: dict[str, bytes] = {}
    for record in {record.id: record for board in boards for record in board.records}.values():
        record.verify()
        paths = [path for name, path in record.files().items() if name != "answers" or with_answers]
        files |= {f"records/{path.name}": path.read_bytes() for path in (record.path, *paths)}
    return files


def _tables(boards: Sequence[Board], with_answers: bool) -> dict[str, bytes]:
    """The card and the full tables, by path in the dataset."""
    texts = {
        "README.md": _dataset_card(boards, with_answers),
        "leaderboard.csv": formats.csv(boards),
        "leaderboard.json": formats.as_json(boards),
        "leaderboard.html": page.html(boards),
    }
    return {path: text.encode() for path, text in texts.items()}


def _dataset_card(boards: Sequence[Board], with_answers: bool) -> str:
    """The dataset card, which has the tables as Markdown."""
    configs = [{"config_name": "leaderboard", "data_files": "leaderboard.csv", "default": True}]
    configs.append({"config_name": "items", "data_files": "records/*.items.parquet"})
    data = DatasetCardData(pretty_name="memsplit leaderboard", tags=["memsplit", "leaderboard"], configs=configs)
    answers = "answers (recited text) beside them" if with_answers else "without the answers, which are recited text"
    text = f"""---
{data.to_yaml()}
---
# memsplit leaderboard

Weight edits against verbatim memorization: what they remove, and what they leave of everything else. Every edit is
scored on the same items as its base model.

{formats.markdown(boards, all_columns=False)}
Split score: the harmonic mean of stays erased (the share of memory that is gone after attacks, or 1 - scar if that is
less), reasoning kept (chance-corrected accuracy, edit / base) and fluency kept. Intervals are of the paired bootstrap.

- `leaderboard.html`: the same with charts, and every record's settings and command; one file that needs no network.
- `leaderboard.csv`, `leaderboard.json`: every figure in full.
- `records/`: the records, with the scores of every item on either side, {answers}. After
  `hf download --repo-type dataset --local-dir FOLDER REPOSITORY` they are a store:
  `memsplit leaderboard --store FOLDER/records`.

Made with memsplit {_version()}.
"""
    return str(DatasetCard(text, ignore_metadata_errors=False))


def _refusal(error: HfHubHTTPError) -> str:
    """The hub's refusal in words, with the remedy."""
    status = error.response.status_code if error.response is not None else None
    said = " ".join((error.server_message or "").split())
    if status == 401 and not isinstance(error, RepositoryNotFoundError):
        return f"the hub does not take the token ({said or 401}): expected HF_TOKEN, or 'hf auth login' before"
    if isinstance(error, RepositoryNotFoundError):
        return "the hub has no such dataset, or none that the token may see"
    if status == 403:
        return f"the token may not write there ({said or 403}): expected one with the right to write"
    return f"the hub answers {status or 'nothing'}{f' ({said})' if said else ''}"


def _version() -> str:
    return importlib.metadata.version("memsplit")
