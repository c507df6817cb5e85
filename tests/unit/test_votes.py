"""The vote page escapes and hides what it must; votes come back checked, with their agreement."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from varireal_utils.prompts import human_votes
from varireal_utils.prompts.human_votes import VoteError

NASTY = ["</span><script>alert(1)</script>", '" onclick="alert(1)', "\u202eevil", "a & b"]


def bank(feasible=("red", "blue", *NASTY), infeasible=("pink", "lime"), name="*") -> dict:
    return {
        "dataset": "mine <b>",
        "phrases": {"color": {name: {"feasible": list(feasible), "infeasible": list(infeasible)}}},
    }


class Page(HTMLParser):
    """Start tags with attributes, and the text in legends."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if "bdi" in self.open:
            self.texts.append(data)


def test_every_word_is_escaped_and_only_the_pages_own_script_may_run():
    table = human_votes.ballot(bank(), ["color"], 0)
    text = human_votes.page(table, "mine <b>", "<i>pets</i>")
    page = Page(text)
    assert sorted(page.texts) == sorted(table["phrase"])
    tags = [t for t, _ in page.tags]
    assert tags.count("script") == tags.count("style") == 1 and "i" not in tags and "b" not in tags
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on") or a == "style"]
    assert not re.search(r"https?://|src=|@import|url\(", text)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    for name in ("script", "style"):
        inner = re.search(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_every_control_has_a_label():
    page = Page(human_votes.page(human_votes.ballot(bank(), ["color"], 0), "mine", "pets"))
    tags = page.tags
    labelled = {a.get("for") for t, a in tags if t == "label"}
    for i, (tag, attrs) in enumerate(tags):
        if tag == "input" and attrs["type"] == "radio":
            assert tags[i - 1][0] == "label"
        elif tag in ("input", "progress"):
            assert attrs["id"] in labelled
    assert sum(t == "fieldset" for t, _ in tags) == sum(t == "legend" for t, _ in tags) == 8
    assert ("html", {"lang": "en"}) in tags and any(a.get("role") == "status" for _, a in tags)


def test_the_page_does_not_know_the_arms():
    lists = ["red", "blue", "grey"], ["pink", "lime", "gold"]
    pages = [
        human_votes.page(human_votes.ballot(bank(*arms), ["color"], 3), "mine", "pets")
        for arms in (lists, lists[::-1])
    ]
    assert pages[0] == pages[1]


def test_a_long_bank_is_drawn_from_evenly():
    phrases = {
        a: {
            c: {arm: [f"{a} {c} {arm} {i}" for i in range(9)] for arm in human_votes.ARMS}
            for c in ("x", "y")
        }
        for a in ("color", "texture")
    }
    many = {"dataset": "mine", "phrases": phrases}
    table = human_votes.ballot(many, ["color", "texture"], 1, limit=20)
    assert len(table) == 20 == table["item"].nunique()
    assert set(table.groupby(["attribute", "arm"]).size()) == {5}
    assert table.equals(human_votes.ballot(many, ["color", "texture"], 1, limit=20))
    other = human_votes.ballot(many, ["color", "texture"], 2, limit=20)
    assert human_votes.ballot_id(other) != human_votes.ballot_id(table)
    assert len(human_votes.ballot(many, ["color"], 1)) == 36


@pytest.fixture
def table() -> pd.DataFrame:
    return human_votes.ballot(bank(["red", "blue"], ["pink", "lime"]), ["color"], 0)


def cast(folder: Path, table: pd.DataFrame, voter: str, said: dict[str, str], kind="json") -> Path:
    """A file as the page writes it; said: phrase -> vote."""
    items = dict(zip(table["phrase"], table["item"]))
    made, path = {items.get(p, p): v for p, v in said.items()}, folder / f"votes-{voter}.{kind}"
    folder.mkdir(exist_ok=True)
    if kind == "json":
        path.write_text(
            json.dumps(
                {
                    "format": human_votes.FORMAT,
                    "ballot": human_votes.ballot_id(table),
                    "dataset": "mine",
                    "voter": voter,
                    "votes": made,
                }
            )
        )
    else:
        path.write_text(
            "ballot,voter,item,vote\n"
            + "".join(f"{human_votes.ballot_id(table)},{voter},{i},{v}\n" for i, v in made.items())
        )
    return path


F, N, U = human_votes.CHOICES


def test_votes_come_back_with_majority_and_agreement(tmp_path, table):
    cast(tmp_path, table, "ann", {"red": F, "blue": F, "pink": N, "lime": F})
    cast(tmp_path, table, "J\u00f6rg 2", {"red": F, "blue": N, "pink": N, "lime": F}, "csv")
    cast(tmp_path, table, "cy", {"red": F, "blue": U, "pink": F, "lime": F})
    (tmp_path / "notes.txt").write_text("not votes")
    read = human_votes.read(human_votes.files(tmp_path), table)
    assert len(read) == 12 and set(read["voter"]) == {"ann", "J\u00f6rg 2", "cy"}
    tally = human_votes.tally(table, read).set_index("phrase")
    assert tally["majority"].to_dict() == {"red": F, "blue": "tie", "pink": N, "lime": F}
    assert tally["agrees"].to_dict() == {"red": True, "blue": None, "pink": True, "lime": False}
    assert tally.loc["blue", list(human_votes.CHOICES)].tolist() == [1, 1, 1]
    got = human_votes.agreement(table, read)
    # by hand: P_i = 1, 0, 1/3, 1; shares 8/12, 3/12, 1/12
    mean, chance = (1 + 0 + 1 / 3 + 1) / 4, (64 + 9 + 1) / 144
    assert got["percent"] == pytest.approx(100 * mean)
    assert got["kappa"] == pytest.approx((mean - chance) / (1 - chance))
    assert got["bank_percent"] == pytest.approx(100 * 2 / 3)
    assert (got["voters"], got["votes"], got["ballot"], got["voted_on_by_all"]) == (3, 12, 4, 4)


def test_kappa_is_of_phrases_that_all_voted_on(tmp_path, table):
    cast(tmp_path, table, "ann", {"red": F, "blue": F, "pink": N, "lime": N})
    cast(tmp_path, table, "bo", {"red": F, "pink": N})
    got = human_votes.agreement(table, human_votes.read(human_votes.files(tmp_path), table))
    assert (got["kappa"], got["percent"], got["voted_on_by_all"]) == (1.0, 100.0, 2)


@pytest.mark.parametrize(
    "said", [{}, {"ann": {"red": F}}, {"ann": {"red": F, "blue": F}, "bo": {"red": F, "blue": F}}]
)
def test_where_kappa_means_nothing_there_is_none(tmp_path, table, said):
    for voter, made in said.items():
        cast(tmp_path, table, voter, made)
    got = human_votes.agreement(table, human_votes.read(human_votes.files(tmp_path), table))
    assert got["kappa"] is None and got["voters"] == len(said)
    assert (got["percent"] is None) == (len(said) < 2)
    assert human_votes.files(tmp_path / "none") == []


@pytest.mark.parametrize(
    "change, words",
    [
        ({"ballot": "0" * 16}, "votes for ballot '0000.*phrases have changed since"),
        ({"voter": "<b>"}, "voter '<b>': wanted 1 to 40 letters"),
        ({"voter": 3}, "voter 3"),
        ({"voter": "a/../b"}, "voter"),
        ({"votes": {"ffffffffffff": "feasible"}}, "not on the ballot"),
        ({"format": "other"}, "not votes as the page writes them"),
        ({"votes": [1]}, "not votes"),
    ],
)
def test_votes_that_cannot_be_used_are_named(tmp_path, table, change, words):
    path = cast(tmp_path, table, "ann", {"red": F})
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(VoteError, match=rf"votes-ann\.json: .*{words}"):
        human_votes.read([path], table)


@pytest.mark.parametrize("vote", ["yes", "", "<script>", ["feasible"], None])
def test_a_vote_is_one_of_three(tmp_path, table, vote):
    with pytest.raises(VoteError, match="wanted one of"):
        human_votes.read([cast(tmp_path, table, "ann", {"red": vote})], table)


def test_one_voter_votes_once(tmp_path, table):
    cast(tmp_path, table, "ann", {"red": F})
    cast(tmp_path, table, "ann", {"red": N}, "csv")
    with pytest.raises(VoteError, match=r"ann\.json: 'ann' voted .* already, in .*ann\.csv"):
        human_votes.read(human_votes.files(tmp_path), table)


@pytest.mark.parametrize(
    "name, data, words",
    [
        ("v.json", b"{", "not votes"),
        ("v.json", b"\xff\xfe", "not UTF-8"),
        ("v.json", b"[" * 100_000, "not votes"),
        ("v.csv", b"", "not a CSV"),
        ("v.csv", b"a,b\n1,2\n", "has no columns"),
        ("v.json", b" " * 2_000_001, "2,000,001 bytes"),
    ],
)
def test_files_that_are_no_votes(tmp_path, table, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(VoteError, match=rf"{name}: .*{words}"):
        human_votes.read([tmp_path / name], table)


DRIVE = """<script>
const texts = [];
HTMLAnchorElement.prototype.click = function () { texts.push(this.download); };
URL.createObjectURL = blob => { blob.text().then(text => { texts.push(text);
  document.body.textContent = JSON.stringify(texts); }); return "#"; };
document.getElementById("json").click();
texts.push(document.getElementById("status").textContent);
for (const group of document.querySelectorAll("fieldset"))
  if (!group.textContent.includes("lime")) group.querySelectorAll("input")[1].click();
const box = document.getElementById("voter");
box.value = " J\\u00f6rg 2 ";
document.getElementById("json").click();
document.getElementById("csv").click();
texts.push(document.getElementById("count").textContent);
</script></body>"""


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs a chromium to run the page in")
def test_what_a_browser_downloads_is_what_we_read(tmp_path, table):
    text = human_votes.page(table, "mine", "pets").replace("http-equiv", "data-off")
    (tmp_path / "page.html").write_text(text.replace("</body>", DRIVE))
    done = subprocess.run(
        [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=2000",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            f"file://{tmp_path}/page.html",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    shown = json.loads(html.unescape(re.search(r"<body>(.*)</body>", done.stdout, re.DOTALL)[1]))
    asked, first, second, count, *files = shown
    assert asked.startswith("Enter a name") and count == "3"
    assert (first, second) == ("votes-mine-J_rg_2.json", "votes-mine-J_rg_2.csv")
    for name, said in zip((first, second), files):
        (tmp_path / name).write_text(said)
        read = human_votes.read([tmp_path / name], table)
        assert set(read["voter"]) == {"J\u00f6rg 2"} and set(read["vote"]) == {"infeasible"}
        assert set(read["item"]) == set(table.loc[table["phrase"] != "lime", "item"])


@pytest.mark.parametrize("twin", ["Ann ", "ANN", "ann\u00a0", "\uff41nn"])
def test_one_voter_in_other_letters_votes_once(tmp_path, table, twin):
    cast(tmp_path, table, "ann", {"red": F})
    path = cast(tmp_path, table, "other", {"red": N})
    path.write_text(json.dumps(json.loads(path.read_text()) | {"voter": twin}))
    with pytest.raises(VoteError, match="voted .* already|wanted 1 to 40 letters"):
        human_votes.read(human_votes.files(tmp_path), table)
