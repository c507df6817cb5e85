"""Phrases from an endpoint: what a server or a model gets wrong is named, nothing leaks."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml

from tests.wordserver import COLORS, KEY, PLACES, answer, spec
from varireal_utils.core import storage
from varireal_utils.core.config_prompts import Endpoint, LlmPrompts
from varireal_utils.prompts import chat, llm_phrases, openai_client, phrase_bank, phrase_checks
from varireal_utils.prompts.openai_client import LanguageError
from varireal_utils.prompts.stage import AttributesStage


@pytest.fixture
def waits(monkeypatch):
    out: list[float] = []
    monkeypatch.setattr(openai_client, "_pause", out.append)
    return out


def params(server, **more) -> dict:
    return {
        "seed": 7,
        "device": "cpu",
        "datasets": {"mine": {}},
        "attributes": ["background", "color"],
        "prompts": {
            "source": "llm",
            "base": "params/prompts/custom.yaml",
            "subject": "pets",
            "counts": {"background": 2, "color": 2},
            "model": spec(server),
        }
        | more,
    }


def prepared(values: dict, names: list[str], out: Path) -> llm_phrases.Phrases:
    """The phrases of data set "mine" by the keys and values of a parameter file."""
    prompts = values["prompts"]
    settings = AttributesStage(
        dataset="mine",
        family=values["datasets"]["mine"].get("family", "mine"),
        attributes=values["attributes"],
        prompts=prompts if isinstance(prompts, str) else LlmPrompts.model_validate(prompts),
        protocol="controlled",
        seed=values["seed"],
    )
    return llm_phrases.prepare_phrases(settings, names, out, torch.device("cpu"))


def endpoint(server, **more) -> Endpoint:
    return Endpoint.model_validate(spec(server, **more))


def proposal(server, folder: Path, attempts: int = 2, count: int = 2, attribute="background"):
    about = {
        "subject": "pets",
        "classes": '["pug"]',
        "attribute": attribute,
        "what": "place",
        "sentence": "a photo of a CLASS ____",
    }
    model = chat.open_model(endpoint(server), 7, torch.device("cpu"))
    return llm_phrases.propose(model, about, count, folder, attempts)


def dialogue(folder: Path) -> dict:
    (path,) = folder.glob("*.json")
    return storage.read_json(path)


def test_a_bank_is_asked_for_judged_and_read_like_any_other(server, tmp_path):
    got = prepared(params(server), ["pug", "{class}"], tmp_path)
    bank = phrase_bank.load_bank(got.path, "mine", ["pug", "{class}"])
    phrase_bank.check_bank(bank)
    assert phrase_bank.lists(bank, "background", "pug") == PLACES
    assert phrase_bank.rgb(bank, "rust") == (150, 75, 40)
    assert phrase_bank.rgb(bank, "white") == (240, 240, 236) and "black" not in bank["colors"]
    assert got.disagreements[["phrase", "proposed", "judged", "reason"]].values.tolist() == [
        ["in lava", "infeasible", "feasible", "seen there"]
    ]
    assert got.metrics == {
        "answers": 4,
        "asked_now": 4,
        "refused": 0,
        "prompt_tokens": 400,
        "completion_tokens": 40,
        "uncounted": 0,
        "judged": 8,
        "disagreements": 1,
        "cost": pytest.approx(400e-6 + 160e-6),
    }
    assert all(p.is_file() for p in got.files) and len(got.files) == 6
    assert [path for path, *_ in server.seen] == ["/v1/chat/completions"] * 4
    body = server.seen[0][2]
    assert body["model"] == "some-model" and "seed" not in body and "temperature" not in body
    assert "maxItems" not in json.dumps(body["response_format"])
    assert '["pug", "{class}"]' in body["messages"][1]["content"]


def test_the_judge_sees_neither_arm_nor_order(server, tmp_path):
    swapped = {"feasible": PLACES["infeasible"], "infeasible": PLACES["feasible"]}
    about = {
        "subject": "pets",
        "classes": '["pug"]',
        "attribute": "background",
        "what": "place",
        "sentence": "____",
    }
    model = chat.open_model(endpoint(server), 7, torch.device("cpu"))
    for number, lists in enumerate((PLACES, swapped)):
        rows, _ = llm_phrases.judge(model, about, lists, tmp_path / str(number), 7, 1)
        assert [r["proposed"] for r in rows] == ["feasible"] * 2 + ["infeasible"] * 2
        assert {r["phrase"]: r["judged"] for r in rows} == {
            "in a park": "feasible",
            "on a beach": "feasible",
            "on the moon": "infeasible",
            "in lava": "feasible",
        }
    shown = [
        json.loads(re.search(r"^\{.*\}$", body["messages"][1]["content"], re.MULTILINE)[0])
        for *_, body in server.seen
    ]
    assert list(shown[0].values()) != PLACES["feasible"] + PLACES["infeasible"]
    strip = [
        server.seen[i][2]["messages"][1]["content"].replace(json.dumps(shown[i]), "")
        for i in (0, 1)
    ]
    assert strip[0] == strip[1]


def test_disagreements_can_be_dropped(server, tmp_path):
    got = prepared(params(server, disagreements="drop"), ["pug"], tmp_path)
    bank = phrase_bank.load_bank(got.path, "mine", ["pug"])
    assert phrase_bank.lists(bank, "background", "pug")["infeasible"] == ["on the moon"]
    phrase_bank.check_bank(phrase_bank.balance(bank, 0))
    server.answer = lambda body: answer(body).replace('"infeasible", "rea', '"feasible", "rea')
    with pytest.raises(LanguageError, match="leaves no infeasible phrase of background"):
        prepared(params(server, disagreements="drop"), ["pug"], tmp_path / "b")


def test_lists_of_each_class_whatever_its_name(server, tmp_path):
    names = ["groups", "feasible", "F-16A/B"]
    got = prepared(params(server, per_class=True), names, tmp_path)
    bank = phrase_bank.load_bank(got.path, "mine", names)
    assert len(phrase_bank.check_bank(bank)) == 12 and len(server.seen) == 12
    assert list(got.judgements["class"].unique()) == names


def places(**change) -> str:
    return json.dumps(PLACES | change)


@pytest.mark.parametrize(
    "bad, fault",
    [
        ("Sure! Here they are", "not one JSON object"),
        ("[1, 2]", r"is not of type 'object'|not of type"),
        (places(feasible=["in a park"]), "feasible: 1 items, wanted 2"),
        (places(feasible=["in a park", "on a beach", "at sea"]), "feasible: 3 items, wanted 2"),
        (places(feasible=["in a park", "In A Park"]), r"feasible\[1\]: 'In A Park' is repeated"),
        (places(infeasible=["on the moon", "in a park"]), r"infeasible\[1\].*in both arms"),
        (places(note="hi"), "Additional properties"),
        (places(feasible=["in a park", 3]), r"feasible\[1\]: 3 is not of type"),
        ('{"feasible": [], "feasible": []}', "a key is given twice"),
        ('{"feasible": NaN}', "NaN is no number"),
        ("[" * 100_000, "nested too deep"),
        (places(feasible=["in a park", "../../x"]), r"path separator \(U\+002F\)"),
        (places(feasible=["in a park", "a\\b"]), r"path separator \(U\+005C\)"),
        (places(feasible=["in a park", "<script>alert(1)</script>"]), r"markup \(U\+003C\)"),
        (places(feasible=["in a park", "by\nnight"]), r"line break \(U\+000A\)"),
        (places(feasible=["in a park", "by\u202enight"]), r"invisible character \(U\+202E\)"),
        (places(feasible=["in a park", "\u05d0\u05d1"]), r"right-to-left character \(U\+05D0\)"),
        (places(feasible=["in a park", "\ud800"]), r"invisible character \(U\+D800\)"),
        (places(feasible=["in a park", "x" * 300]), "has 300 characters, at most 80"),
        (places(feasible=["in a park", "on {class}"]), r"placeholder \(U\+007B\)"),
        (places(feasible=["in a park", "(on mars)1.5"]), r"holds U\+0028"),
        (places(feasible=["in a park", "on mars++"]), r"holds U\+002B"),
        (places(feasible=["in a park", "--on mars"]), "is not words"),
        (places(feasible=["in a park", "  "]), "is not words"),
    ],
)
def test_a_bad_answer_is_refused_by_name_and_asked_for_again(server, tmp_path, bad, fault):
    server.answers = [bad, places()]
    lists, _, row = proposal(server, tmp_path)
    assert lists == PLACES and row["answers"] == 2 and row["refused"] == 1
    kept = dialogue(tmp_path)
    first, second = kept["exchanges"]
    assert re.search(fault, "; ".join(first["faults"])) and second["faults"] == []
    assert json.dumps(first["faults"]).isascii() and first["text"] == bad
    again = server.seen[1][2]["messages"]
    assert again[-2] == {"role": "assistant", "content": bad}
    assert again[-1]["content"] == first["correction"] and first["faults"][0] in first["correction"]
    (tmp_path / "b").mkdir()
    server.answers = [bad] * 2
    with pytest.raises(
        LanguageError,
        match=rf"(?s)no usable answer in 2 attempts.*({fault}).*"
        r"dialogue is in .*json.*prompts\.attempts",
    ):
        proposal(server, tmp_path / "b")


@pytest.mark.parametrize(
    "change, fault",
    [
        ({"rgb": [0, 0, 256]}, "256 is greater than the maximum"),
        ({"rgb": [0, 0]}, "2 items"),
        ({"rgb": [0, 0, True]}, "True is not of type"),
        ({"rgb": [242, 120, 182]}, r"same red, green and blue as feasible\[0\]"),
    ],
)
def test_colours_come_with_colours(server, tmp_path, change, fault):
    server.answers = [
        json.dumps(COLORS | {"feasible": [COLORS["feasible"][1] | change, COLORS["feasible"][0]]})
    ]
    _, colors, _ = proposal(server, tmp_path, attribute="color")
    assert re.search(fault, "; ".join(dialogue(tmp_path)["exchanges"][0]["faults"]))
    assert colors["lime"] == [120, 250, 40]


@pytest.mark.parametrize("form", ["```json\n{}\n```", "<think>hm {{}} </think>\n{}", " {}\n"])
def test_fences_and_thoughts_are_no_fault(server, tmp_path, form):
    server.answers = [form.replace("{{}}", "{?").replace("{}", places())]
    assert proposal(server, tmp_path)[2]["refused"] == 0


def test_every_phrase_is_judged(server, tmp_path):
    verdict = {"verdict": "feasible", "reason": "x"}
    server.answers = [places(), json.dumps({"1": verdict, "2": verdict, "4": {"verdict": "maybe"}})]
    got = prepared(params(server) | {"attributes": ["background"]}, ["pug"], tmp_path)
    assert got.metrics["refused"] == 1 and len(got.judgements) == 4
    kept = [storage.read_json(p) for p in (tmp_path / "dialogue").glob("*.json")]
    said = " ".join(f for d in kept for e in d["exchanges"] for f in e["faults"])
    assert "'3' is a required property" in said and "'maybe' is not one of" in said


def test_a_busy_server_is_waited_for_as_long_as_it_asks(server, tmp_path, waits):
    server.answers = [(429, {"Retry-After": "3"}, "slow down"), (500, {}, "oops"), places()]
    assert proposal(server, tmp_path)[0] == PLACES
    assert waits == [3.0, 2.0] and dialogue(tmp_path)["exchanges"][0]["tries"] == 3
    server.answers = [(500, {}, "oops")] * 3
    with pytest.raises(LanguageError, match=r"HTTP 500: 'oops'; given up after 3 tries"):
        proposal(server, tmp_path / "b")
    assert dialogue(tmp_path / "b")["exchanges"][0]["error"].endswith("of the model")
    server.answers, before = [(429, {"Retry-After": "7200"}, "")], len(server.seen)
    with pytest.raises(LanguageError, match="asks to wait 7,200 seconds"):
        proposal(server, tmp_path / "c")
    assert len(server.seen) == before + 1


def test_time_outs_and_cut_lines_are_tried_again(server, waits):
    short = endpoint(server, timeout=0.3, retries=1)
    server.answers = [1.0, (200, {"Content-Length": "999"}, "{")]
    with pytest.raises(LanguageError, match="given up after 2 tries"):
        openai_client.ask(short, [], {})
    server.answers = [1.0, "at last"]
    assert openai_client.ask(short, [], {}).text == "at last"


def test_a_server_that_drips_is_cut_off(server):
    """The time limit is one for the whole answer, not for each byte."""
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        line.listen()
        ended = threading.Event()

        def drip():
            peer, _ = line.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while not ended.wait(0.1):
                    try:
                        peer.sendall(b"x")
                    except OSError:
                        return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{line.getsockname()[1]}/v1"
        with pytest.raises(LanguageError, match="took longer than 0.5 seconds"):
            openai_client.ask(endpoint(server, url=url, timeout=0.5, retries=0), [], {})
        ended.set()
        thread.join(5)


def test_a_server_that_drips_its_headers_is_cut_off(server):
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        line.listen()
        ended = threading.Event()

        def drip():
            peer, _ = line.accept()
            with peer:
                while not ended.wait(0.1):
                    try:
                        peer.sendall(b"H")
                    except OSError:
                        return

        threading.Thread(target=drip, daemon=True).start()
        url = f"http://127.0.0.1:{line.getsockname()[1]}/v1"
        began = time.monotonic()
        with pytest.raises(LanguageError, match="took longer than 0.3 seconds"):
            openai_client.ask(endpoint(server, url=url, timeout=0.3, retries=0), [], {})
        ended.set()
        assert time.monotonic() - began < 5


def test_a_colour_of_whole_real_numbers_is_one_of_integers(server, tmp_path):
    def colours(*values):
        return [{"phrase": p, "rgb": v} for p, v in values]

    server.answers = [
        json.dumps(
            {
                "feasible": colours(("rust", [150.0, 75.0, 40.0]), ("white", [240, 240, 236])),
                "infeasible": colours(("lime", [80, 250, 60]), ("pink", [242, 120, 182])),
            }
        )
    ]
    _, found, _ = proposal(server, tmp_path, attribute="color")
    assert found["rust"] == [150, 75, 40] and all(type(v) is int for v in found["rust"])


@pytest.mark.parametrize(
    "said, words",
    [
        (
            (404, {}, "no such model"),
            r"HTTP 404: 'no such model'; check `url` and the model's `name`",
        ),
        ((400, {}, "response_format?"), "set structured: json_object or none"),
        ((200, {}, "<html>"), "not as chat completions do: '<html>'"),
        ((200, {}, '{"choices": []}'), "not as chat completions do"),
        ((200, {}, "x" * 4_000_001), "more than 4,000,000 bytes"),
        ((401, {}, ""), "HTTP 401; it wants a key: name its environment variable"),
    ],
)
def test_what_no_patience_helps_ends_at_once(server, waits, said, words):
    server.answers = [said]
    with pytest.raises(LanguageError, match=words):
        openai_client.ask(endpoint(server), [], {})
    assert len(server.seen) == 1 and waits == []


def test_answers_cut_off_or_refused_say_so(server, tmp_path):
    def body(message, finish):
        return 200, {}, json.dumps({"choices": [{"message": message, "finish_reason": finish}]})

    server.answers = [
        body({"content": places()}, "length"),
        body({"content": None, "refusal": "I cannot"}, "stop"),
    ]
    with pytest.raises(LanguageError, match=r"\(no text\) I cannot"):
        proposal(server, tmp_path)
    first, _ = dialogue(tmp_path)["exchanges"]
    assert "raise max_tokens" in first["faults"][0]


@pytest.mark.parametrize("kind", ["json_object", "none"])
def test_other_kinds_of_structure(server, kind):
    server.answers = ["x"]
    openai_client.ask(
        endpoint(
            server,
            structured=kind,
            max_tokens_field="max_completion_tokens",
            max_tokens=9,
            seed=3,
            temperature=0.5,
        ),
        [],
        {"type": "object"},
    )
    body = server.seen[0][2]
    assert body.get("response_format") == ({"type": kind} if kind != "none" else None)
    assert body["max_completion_tokens"] == 9 and "max_tokens" not in body
    assert (body["seed"], body["temperature"]) == (3, 0.5)


def test_the_key_is_sent_and_kept_nowhere(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORDS_KEY", f"{KEY}\n")
    p = params(server, model=spec(server, api_key_env="WORDS_KEY"))
    good = answer

    def echo(body):
        said = json.loads(good(body))
        for verdict in (v for v in said.values() if isinstance(v, dict)):
            verdict["reason"] = f"your key is {KEY}"
        return json.dumps(said)

    server.answer = echo
    server.answers = [f"Is it {KEY}?"]
    got = prepared(p, ["pug"], tmp_path)
    assert all(h["Authorization"] == f"Bearer {KEY}" for _, h, _ in server.seen)
    for said in (
        (401, {}, f"bad key {KEY}"),
        (500, {}, json.dumps(KEY).replace("/", "\\/")),
        (200, {}, KEY),
    ):
        server.answers = [said]
        with pytest.raises(LanguageError) as error:
            openai_client.ask(endpoint(server, api_key_env="WORDS_KEY", retries=0), [], {})
        assert "secret" not in str(error.value)
        assert error.value.__cause__ is None and "[key]" in str(error.value)
    print(got)
    texts = [f.read_text() for f in tmp_path.rglob("*") if f.is_file()]
    assert len(texts) == 6 and any("[key]" in t for t in texts)
    assert not any("secret" in t for t in [*texts, capsys.readouterr().out])


def test_no_key_no_question(server, monkeypatch):
    asked = endpoint(server, api_key_env="WORDS_KEY")
    monkeypatch.delenv("WORDS_KEY", raising=False)
    with pytest.raises(LanguageError, match="WORDS_KEY .* is not set; .*export WORDS_KEY="):
        openai_client.ask(asked, [], {})
    monkeypatch.setenv("WORDS_KEY", "two words secret")
    with pytest.raises(LanguageError, match="WORDS_KEY") as error:
        openai_client.ask(asked, [], {})
    assert "secret" not in str(error.value) and server.seen == []


def test_redirects_do_not_take_the_key_elsewhere(server, monkeypatch):
    monkeypatch.setenv("WORDS_KEY", KEY)
    server.answers = [(307, {"Location": f"{server.url}/elsewhere"}, "")]
    with pytest.raises(LanguageError, match="HTTP 307; redirects are not followed"):
        openai_client.ask(endpoint(server, api_key_env="WORDS_KEY"), [], {})
    assert len(server.seen) == 1


def test_what_was_answered_is_not_asked_again(server, tmp_path):
    first = prepared(params(server), ["pug"], tmp_path)
    files = {p: p.read_bytes() for p in first.files}
    cheap = params(server)
    cheap["prompts"]["model"] |= {"price_input": 0.0, "retries": 0}
    again = prepared(cheap, ["pug"], tmp_path)
    assert len(server.seen) == 4 and again.metrics["asked_now"] == 0
    assert again.metrics["prompt_tokens"] == 400
    assert {p: p.read_bytes() for p in again.files} == files
    prepared(params(server) | {"seed": 8}, ["pug"], tmp_path)
    assert len(server.seen) == 6  # the judge's order is another one
    more = params(server)
    more["prompts"]["model"]["temperature"] = 1.0
    prepared(more, ["pug"], tmp_path)
    assert len(server.seen) == 10


def test_a_kept_answer_is_checked_again(server, tmp_path):
    proposal(server, tmp_path)
    (path,) = tmp_path.glob("*.json")
    kept = storage.read_json(path)
    kept["answer"]["feasible"][0] = "<b>"
    storage.write_json(path, kept)
    assert proposal(server, tmp_path)[0] == PLACES and len(server.seen) == 2
    path.write_text("{")
    with pytest.raises(ValueError, match="not valid JSON.*delete it"):
        proposal(server, tmp_path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="not a dialogue; delete it"):
        proposal(server, tmp_path)


def test_a_failed_dialogue_is_kept_and_asked_anew(server, tmp_path):
    server.answers = ["no", "no"]
    with pytest.raises(LanguageError):
        proposal(server, tmp_path)
    lists, _, row = proposal(server, tmp_path)
    assert lists == PLACES and (row["answers"], row["asked_now"], row["refused"]) == (3, 1, 2)
    assert [e["text"] for e in dialogue(tmp_path)["exchanges"][:2]] == ["no", "no"]
    assert row["prompt_tokens"] == 300


def test_uncounted_tokens_make_the_cost_unknown(server, tmp_path):
    server.answers = [(200, {}, json.dumps({"choices": [{"message": {"content": places()}}]}))]
    row = proposal(server, tmp_path)[2]
    assert row["uncounted"] == 1 and row["cost"] is None and row["prompt_tokens"] == 0


@pytest.mark.parametrize(
    "phrase",
    [
        "on a rocky beach",
        "at the artist's caf\u00e9",
        "red, white and blue",
        "16th-century stone",
        "yes",
        "null",
    ],
)
def test_good_phrases_pass_and_come_back_from_the_file(phrase):
    assert phrase_checks.fault(phrase) == ""
    assert yaml.safe_load(yaml.safe_dump([phrase], allow_unicode=True)) == [phrase]


def test_a_phrase_file_asks_nobody(tmp_path):
    p = {
        "prompts": "params/prompts/micro.yaml",
        "datasets": {"mine": {"family": "cars"}},
        "attributes": ["color"],
        "seed": 7,
    }
    got = prepared(p, ["x"], tmp_path)
    assert got.path.as_posix() == p["prompts"] and got.files == [] and got.metrics == {}
    assert got.disagreements.empty and got.subject == "cars" and not list(tmp_path.iterdir())


def test_a_base_without_the_sentence_is_named(server, tmp_path):
    base = tmp_path / "base.yaml"
    base.write_text("{families: {}, templates: {}, verify: {}}")
    with pytest.raises(phrase_bank.PhraseError, match=r"base\.yaml: templates\.background\.edit"):
        prepared(params(server, base=str(base)), ["pug"], tmp_path)
