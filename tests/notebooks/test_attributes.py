"""02_attributes with a language model, through the real runner: asked, judged, voted on, kept."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.notebooks.test_study import call
from tests.wordserver import KEY, spec
from varireal_utils.core import storage
from varireal_utils.prompts import human_votes, phrase_bank


@pytest.fixture
def study(tmp_path, server):
    """A parameter file whose phrases the local server writes; 01_data's table is there."""
    words = {
        "source": "llm",
        "base": "params/prompts/custom.yaml",
        "subject": "<i>cars</i>",
        "counts": {"background": 2, "color": 2},
        "model": spec(server, api_key_env="WORDS_KEY"),
    }
    root = Path(__file__).resolve().parents[2]
    path = tmp_path / "words.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "include": f"{root}/tests/tiny.yaml",
                "study": "words",
                "runs_dir": str(tmp_path / "runs"),
                "attributes": ["background", "color"],
                "prompts": words,
            }
        )
    )
    storage.write_table(
        tmp_path / "runs/words/data/micro_pets/images.parquet",
        pd.DataFrame({"class_name": ["pug", "<b>"]}),
    )
    return path, tmp_path / "runs/words/attributes/micro_pets"


def test_attributes_of_a_language_model(study, server, monkeypatch):
    monkeypatch.setenv("WORDS_KEY", KEY)
    params, out = study
    words = ["run", "02_attributes", "--params", str(params), "--set", "dataset=micro_pets"]
    done = call(*words)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    record, bank = storage.read_json(out / "run.json"), storage.read_json(out / "bank.json")
    assert record["metrics"]["disagreements"] == 1 and record["metrics"]["answers"] == 4
    assert {Path(p).name for p in record["outputs"]} >= {
        "bank.json",
        "vote.html",
        "phrases.yaml",
        "judgements.csv",
    }
    assert len(server.seen) == 4 and bank["source"].endswith("phrases.yaml")
    phrase_bank.check_bank(bank)
    assert "<i>" not in (out / "vote.html").read_text()
    ballot = human_votes.ballot(bank, ["background", "color"], record["parameters"]["seed"])
    for voter in ("ann", "bo"):
        storage.write_json(
            out / f"votes/votes-{voter}.json",
            {
                "format": human_votes.FORMAT,
                "ballot": human_votes.ballot_id(ballot),
                "voter": voter,
                "votes": dict(zip(ballot["item"], ballot["arm"])),
            },
        )
    done = call(*words)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    record = storage.read_json(out / "run.json")
    assert len(server.seen) == 4 and record["metrics"]["asked_now"] == 0
    assert (record["metrics"]["kappa"], record["metrics"]["bank_percent"]) == (1.0, 100.0)
    assert sum("votes-" in name for name in record["inputs"]) == 2
    notebooks = list(params.parent.rglob("*.ipynb"))
    assert notebooks and "in lava" in json.dumps([p.read_text() for p in notebooks])
    for path in params.parent.rglob("*"):
        assert not path.is_file() or b"secret" not in path.read_bytes(), path
