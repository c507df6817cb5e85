"""Downloads every weight of a study from the hub and pins it in the study's lock.

    offers(config)       what would be downloaded: licence, gate, size; nothing is
    fetch(config, ...)   download, and write each repository's commit as soon as it is whole

huggingface_hub does the transfer: files that are there are not fetched again, a broken one goes on
where it stopped; HF_ENDPOINT names a mirror, HF_HOME the cache, HF_HUB_OFFLINE=1 the cache alone.

Invariant (tests/unit/test_fetch_models.py): a repository that fails loses none of the others, and
one that the lock has is fetched at the lock's commit.
"""

from __future__ import annotations

import errno
import glob
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core import model_lock, storage
from ..core.config import StudyConfig
from ..core.model_lock import Lock, Locked
from .hub_cache import cached
from .hub_parts import Part, parts

HEADER = ("repository", "for", "revision", "licence", "gated", "GB")
ASK = (
    "nothing was downloaded. Read the licences, accept the terms of gated repositories on their "
    "pages, and run the same command with --yes"
)


@dataclass
class Offer:
    """A repository at a revision. files: name -> bytes of what the study loads, empty where
    nobody could tell; gated: yes, no or unknown; fault: why it cannot be had, with a remedy."""

    parts: list[Part]
    commit: str = ""
    files: dict[str, int] = field(default_factory=dict)
    licence: str = ""
    gated: str = "unknown"
    fault: str = ""

    @property
    def repository(self) -> str:
        """Its id on the hub."""
        return self.parts[0].repository

    @property
    def asked(self) -> str:
        """The revision that the parameters ask for."""
        return self.parts[0].revision or model_lock.MAIN

    @property
    def key(self) -> str:
        """Its name in the lock."""
        return model_lock.key_of(self.repository, self.asked)

    @property
    def size_gb(self) -> float | None:
        """1e9 bytes of its files; where nobody told them, what the parameter file states."""
        stated = [p.size_gb for p in self.parts if p.size_gb is not None]
        return sum(self.files.values()) / 1e9 if self.files else max(stated, default=None)

    def row(self) -> tuple[str, ...]:
        """Its line of the table."""
        same = self.commit in ("", self.asked)
        revision = self.asked if same else f"{self.asked} = {self.commit[:12]}"
        roles = ", ".join(p.part for p in self.parts)
        told = "not stated" if self.size_gb is None else f"{self.size_gb:.3f}"
        return self.repository, roles, revision, self.licence or "not stated", self.gated, told

    def chosen(self, names: Iterable[str]) -> set[str]:
        """The files that the study loads, of those that there are. Raises ValueError."""
        there = sorted(names)
        return set().union(*(p.files(there) for p in self.parts))


def offers(config: StudyConfig, lock: Lock) -> list[Offer]:
    """What a study loads from the hub, a repository each. config: read with locked=False."""
    groups: dict[str, list[Part]] = {}
    for part in parts(config):
        groups.setdefault(model_lock.key_of(part.repository, part.revision), []).append(part)
    return [_looked_up(Offer(group), lock) for group in groups.values()]


def _looked_up(offer: Offer, lock: Lock) -> Offer:
    """Ask the hub for commit, files and terms; without a network, the cache."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    entry = lock.get(offer.key)
    revision = entry.commit if entry else offer.asked
    offer.licence = next((p.licence for p in offer.parts if p.licence), "")
    try:
        info = HfApi().model_info(offer.repository, revision=revision, files_metadata=True)
        sizes = {s.rfilename: s.size or 0 for s in info.siblings or []}
        offer.commit, offer.gated = info.sha or "", "yes" if info.gated else "no"
        offer.licence = _licence(info.card_data) or offer.licence
        offer.files = {name: sizes[name] for name in sorted(offer.chosen(sizes))}
    except Exception as error:  # the hub's own errors, and those of its library for the network
        answered = isinstance(error, HfHubHTTPError) and error.response.status_code < 500
        if answered or isinstance(error, ValueError):
            offer.fault = explained(error, offer)
        else:
            _look_in_cache(offer, revision, entry, error)
    return offer


def _licence(card: Any) -> str:
    """The licence that a repository's card states, by its own name where the hub knows none."""
    stated = getattr(card, "license", "") or ""
    return str((getattr(card, "license_name", "") or "") if stated == "other" else stated)


def _look_in_cache(offer: Offer, revision: str, entry: Locked | None, cause: Exception) -> None:
    """The offer as the cache has it, since the hub gives no answer."""
    folder = cached(offer.repository, revision)
    if folder is None:
        offer.fault = explained(cause, offer)
        return
    files = (p for p in folder.rglob("*") if p.is_file())
    there = {p.relative_to(folder).as_posix(): p.stat().st_size for p in files}
    try:
        wanted = offer.chosen(there) | set(entry.files if entry else [])
    except ValueError as error:
        offer.fault = f"incomplete in the cache: {error}; fetch it where there is a network"
        return
    if missing := sorted(wanted - set(there)):
        offer.fault = f"incomplete in the cache: {', '.join(missing)}; fetch it with a network"
        return
    offer.commit, offer.files = folder.name, {name: there[name] for name in sorted(wanted)}


def explained(error: Exception, offer: Offer) -> str:
    """Why a repository could not be had, and what to do about it."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{offer.repository}"
    status = getattr(getattr(error, "response", None), "status_code", 0)
    login = "log in with `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"has no revision {offer.asked!r}; name one of {page}/commits"
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return f"gated ({status or 403}): accept its terms on {page}, then {login}"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        return f"not found, or private ({status}): look at {page}; where it is private, {login}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"the disk is full: {sum(offer.files.values()) / 1e9:.2f} GB wanted, {_free_gb():.2f} "
            f"GB free at {constants.HF_HUB_CACHE}; make room, or name another place by HF_HOME"
        )
    text = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    if isinstance(error, ValueError):
        return text
    if cached(offer.repository, offer.commit or offer.asked) is not None:
        return f"cut off ({text}); run the same command again, which goes on from there"
    return (
        f"not in the cache {constants.HF_HUB_CACHE}, and {constants.ENDPOINT} gives no answer "
        f"({text}): fetch where there is a network and copy the cache here (HF_HOME names its "
        "place), or name a mirror (HF_ENDPOINT)"
    )


def _free_gb() -> float:
    """Free space at the hub's cache, in 1e9 bytes."""
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE)
    there = next(p for p in (place, *place.absolute().parents) if p.is_dir())
    return shutil.disk_usage(there).free / 1e9


def table(found: list[Offer]) -> list[str]:
    """The repositories as lines, and their sum with the free disk."""
    rows = [HEADER, *(offer.row() for offer in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    lines = ["  ".join(t.ljust(w) for t, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    total = sum(offer.size_gb or 0 for offer in found)
    faults = [f"{o.repository}: {o.fault}" for o in found if o.fault]
    return [*lines, f"{total:.2f} GB in all, {_free_gb():.2f} GB free", *faults]


def fetch(config: StudyConfig, yes: bool, say: Callable[[str], Any]) -> list[str]:
    """Print what a study loads from the hub; with `yes`, download and pin it.

    config: read with locked=False. Returns a line for each repository that failed.
    """
    path = config.whole.models_lock
    lock = model_lock.read(path)
    found = offers(config, lock)
    if not found:
        say("every model of the study lies in a local folder; there is nothing to fetch")
        return []
    say("\n".join(table(found)))
    if not yes:
        say(ASK)
        return []
    for offer in found:
        if not offer.fault:
            offer.fault = _downloaded(offer)
        if not offer.fault:
            lock[offer.key] = _entry(offer)
            storage.write_json(path, {k: dict(lock[k]) for k in sorted(lock)})
        say(f"{offer.repository}: {offer.fault or f'{offer.commit}, {len(offer.files)} files'}")
    failed = [f"{o.repository}: {o.fault}" for o in found if o.fault]
    if len(failed) < len(found):
        say(f"{path}: {len(found) - len(failed)} of {len(found)} repositories pinned")
    return failed


def _downloaded(offer: Offer) -> str:
    """Download the files of an offer; what went wrong, "" for nothing."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(
                offer.repository,
                revision=offer.commit,
                allow_patterns=[glob.escape(name) for name in offer.files],
            )
        )
    except Exception as error:  # the hub's own errors, httpx's and the operating system's
        return explained(error, offer)
    missing = [name for name in offer.files if not (folder / name).is_file()]
    return f"incomplete: {', '.join(missing)}; run the same command again" if missing else ""


def _entry(offer: Offer) -> Locked:
    return Locked(
        revision_asked=offer.asked,
        commit=offer.commit,
        licence=offer.licence,
        bytes=sum(offer.files.values()),
        files=list(offer.files),
        named=sorted({p.named for p in offer.parts if p.named}),
    )
