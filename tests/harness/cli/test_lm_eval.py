"""``memsplit lm-eval``: lm-eval's own command, with the model and the tasks known to it."""

import json
from pathlib import Path

from memsplit.tests.support.running import memsplit, refused


def test_lm_evals_own_command_scores_our_model_on_our_tasks(tmp_path: Path) -> None:
    extra = tmp_path / "extra"
    extra.mkdir()
    (extra / "again.yaml").write_text(
        "task: again\ncustom_dataset: !function memsplit.tasks.documents.generated\ndataset_kwargs: {family: chain, n: 4}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: prompt\ndoc_to_choice: choices\ndoc_to_target: gold\n"
        "metric_list: [{metric: acc}]\n"
    )
    done = memsplit(
        *(
            "lm-eval",
            "--model",
            "memsplit",
            "--model_args",
            '{"pretrained": "olmo-tiny", "edit": "svd-50:layers=2-3,proj=up"}',
        ),
        *(
            "--tasks",
            "memsplit_logic_chain,again",
            "--include_path",
            extra,
            "--limit",
            4,
            "--output_path",
            tmp_path / "out",
        ),
        cache=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = (tmp_path / "out").rglob("results_*.json")
    results = json.loads(path.read_text())
    assert set(results["results"]) == {"memsplit_logic_chain", "again"}
    assert "svd-50" in json.dumps(results["config"]["model_args"])


def test_mistakes_are_told(tmp_path: Path) -> None:
    done = memsplit("lm-eval", "run", "--tusks", "x", cache=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, "lm-eval: error: unrecognized arguments: --tusks x")
    refused(memsplit("lm-evil", cache=tmp_path), ["did you mean 'lm-eval'"])
