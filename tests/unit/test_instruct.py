"""The local path on a tiny random instruct model: form can be forced, sense cannot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from varireal_utils.core import storage
from varireal_utils.core.config_prompts import LocalModel
from varireal_utils.prompts import chat, llm_phrases, local_llm
from varireal_utils.prompts.openai_client import LanguageError

TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
ABOUT = {
    "subject": "pets",
    "classes": '["pug"]',
    "attribute": "color",
    "what": "colour",
    "sentence": "a photo of a ____ CLASS",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A random Qwen2 of 2 layers with a byte-level tokenizer, as save_pretrained writes it."""
    place = tmp_path_factory.mktemp("instruct")
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    text = [
        llm_phrases.PROPOSE,
        llm_phrases.JUDGE,
        json.dumps({"feasible": [{"phrase": "red", "rgb": [1, 2]}]}),
    ]
    words.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<|start|>", "<|end|>"],
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<|end|>", pad_token="<|end|>", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(place)
    torch.manual_seed(0)
    Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=4096,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    ).save_pretrained(place)
    return place


def opened(folder: Path, **more) -> chat.Model:
    return chat.open_model(
        LocalModel(**{"kind": "local", "path": str(folder), "max_tokens": 400} | more),
        7,
        torch.device("cpu"),
    )


def test_constrained_generation_has_the_form_whatever_the_model(folder, tmp_path):
    before = torch.random.get_rng_state()
    model = opened(folder, temperature=1.0)
    lists, colors, row = llm_phrases.propose(model, ABOUT, 2, tmp_path, 4)
    assert [len(v) for v in lists.values()] == [2, 2] and len(colors) == 4
    assert all(0 <= v <= 255 for rgb in colors.values() for v in rgb)
    assert row["cost"] == 0 and row["prompt_tokens"] > 100 and row["completion_tokens"] > 20
    assert torch.equal(before, torch.random.get_rng_state())
    again = llm_phrases.propose(opened(folder, temperature=1.0), ABOUT, 2, tmp_path / "b", 4)
    assert again[:2] == (lists, colors)
    other = llm_phrases.propose(
        opened(folder, temperature=1.0, seed=8), ABOUT, 2, tmp_path / "c", 4
    )
    assert other[0] != lists
    rows, _ = llm_phrases.judge(model, ABOUT, lists, tmp_path / "d", 7, 4)
    assert {r["judged"] for r in rows} <= {"feasible", "infeasible"} and len(rows) == 4


def test_free_generation_of_rubbish_ends_in_an_error_that_keeps_the_dialogue(folder, tmp_path):
    model = opened(folder, structured="none", max_tokens=40, temperature=1.0)
    with pytest.raises(LanguageError, match="no usable answer in 2 attempts.*name a stronger"):
        llm_phrases.propose(model, ABOUT, 2, tmp_path, 2)
    (path,) = tmp_path.glob("*.json")
    kept = storage.read_json(path)
    assert len(kept["exchanges"]) == 2 and "answer" not in kept
    assert all(e["text"] and e["faults"] and e["completion_tokens"] for e in kept["exchanges"])
    assert kept["messages"][1]["content"].startswith("The photographs show: pets")


@pytest.mark.parametrize(
    "text, fits",
    [
        ('{"a": ["in a park", "x"], "n": 12, "v": "yes"}', True),
        ('{"a":["in a park","x"],"n":0,"v":"no"}', True),
        ('{"a": ["x"], "n": 12, "v": "yes"}', False),
        ('{"a": ["x", "y", "z"], "n": 12, "v": "yes"}', False),
        ('{"a": ["<b>", "y"], "n": 12, "v": "yes"}', False),
        ('{"a": ["x", "y"], "n": 13, "v": "yes"}', False),
        ('{"a": ["x", "y"], "n": 1, "v": "maybe"}', False),
    ],
)
def test_the_pattern_of_a_schema(text, fits):
    import regex

    schema = {
        "type": "object",
        "properties": {
            "a": {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "items": {"type": "string", "x-pattern": "[a-z]+(?: [a-z]+)*"},
            },
            "n": {"type": "integer", "minimum": 0, "maximum": 12},
            "v": {"type": "string", "enum": ["yes", "no"]},
        },
    }
    assert bool(regex.fullmatch(local_llm.pattern(schema), text)) is fits
    if fits:
        json.loads(text)
        assert all(
            regex.fullmatch(local_llm.pattern(schema), text[:i], partial=True)
            for i in range(len(text))
        )


def test_a_dialogue_longer_than_the_model_reads(folder, tmp_path):
    with pytest.raises(LanguageError, match=r"max_tokens asks for 4000 more, .* reads 4096; lower"):
        llm_phrases.propose(opened(folder, max_tokens=4000), ABOUT, 2, tmp_path, 1)


def test_what_is_no_instruct_model_is_refused(folder, tmp_path):
    plain = shutil.copytree(folder, tmp_path / "plain")
    (plain / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((plain / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (plain / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(LanguageError, match="no chat template"):
        llm_phrases.propose(opened(plain), ABOUT, 2, tmp_path / "d", 1)
    with pytest.raises(FileNotFoundError, match="'/nowhere/model' is no folder here"):
        llm_phrases.propose(opened(Path("/nowhere/model")), ABOUT, 2, tmp_path / "d", 1)


def test_nothing_is_unpickled_and_no_code_of_the_model_runs(folder, tmp_path):
    pickled = shutil.copytree(folder, tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(ValueError, match="weights as safetensors"):
        llm_phrases.propose(opened(pickled), ABOUT, 2, tmp_path / "d", 1)
    coded = shutil.copytree(folder, tmp_path / "coded")
    config = json.loads((coded / "config.json").read_text())
    config |= {
        "model_type": "mine",
        "auto_map": {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"},
    }
    (coded / "config.json").write_text(json.dumps(config))
    (coded / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nC = M = None\n")
    with pytest.raises(ValueError, match="a class that transformers knows"):
        llm_phrases.propose(opened(coded), ABOUT, 2, tmp_path / "d", 1)
    assert not (tmp_path / "ran").exists()
