"""A study as one archive that another machine can check: pack, unpack, the cards inside.

    SHA256SUMS       of every other member, as `sha256sum -c` reads it
    DATA_CARD.md     what the images are, how they were made, from what, under which terms
    models/          card of each model that the study used (no weights but the study's adapters)
    sources/         parameter files, phrase banks and claims that the records name
    study/           the study's folder, without drafts and parts of unfinished arms

Invariants (tests/unit/test_archive.py): equal studies give equal archives, byte for byte; an
archive with a changed byte, a missing member or a name that would leave its folder unpacks to
nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ..core import storage
from ..data import registry
from ..workflow import plan, provenance

SUMS, STORED = "SHA256SUMS", (".png", ".jpg", ".parquet", ".safetensors", ".zip")
OWN_TERMS = "yours: state them before you pass this on"
LEFT_OUT = re.compile(r"(^|/)(\.[^/]*|parts|shards)(/|$)|\.failed\.ipynb$|(^|/)checkpoint\.")


class ArchiveError(ValueError):
    """An archive that cannot be made or trusted; the message says which member and why."""


def pack(params: dict[str, Any], target: Path | None = None) -> Path:
    """Check a study and write it as one zip file, by default runs/<study>.zip.

    Raises ArchiveError that lists what `verify` found wrong: a study with a fault is not packed.
    """
    study = storage.study_dir(params)
    target = Path(target or f"{study}.zip")
    if target.resolve().is_relative_to(study.resolve()):
        raise ArchiveError(f"{target} lies in the study itself; choose a place outside {study}")
    check = provenance.verify(study)
    if check.wrong:
        raise ArchiveError(
            "\n".join([f"{study}: not packed; it is not as recorded:", *check.wrong])
        )
    members: dict[str, Path | bytes] = {
        f"study/{p.relative_to(study).as_posix()}": p
        for p in study.rglob("*")
        if p.is_file()
        and not LEFT_OUT.search(p.relative_to(study).as_posix())
        and p.resolve() != target.resolve()
    }
    members |= {f"sources/{name}": Path(name) for name in _sources(study, params)}
    members |= model_cards(params)
    members["DATA_CARD.md"] = data_card(study, params).encode()
    sums = {
        name: storage.sha256_bytes(m) if isinstance(m, bytes) else storage.sha256_file(m)
        for name, m in sorted(members.items())
    }
    members[SUMS] = "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()
    with storage.atomic_path(target) as draft, zipfile.ZipFile(draft, "w") as archive:
        for name in sorted(members, key=lambda n: (n != SUMS, n)):
            entry = zipfile.ZipInfo(name)  # of 1980, so that equal studies give equal bytes
            entry.external_attr = 0o644 << 16
            packed = name.endswith(STORED)
            entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            content = members[name]
            with archive.open(entry, "w", force_zip64=True) as out:
                if isinstance(content, bytes):
                    out.write(content)
                else:
                    with open(content, "rb") as file:
                        shutil.copyfileobj(file, out)
    return target


def unpack(path: Path, target: Path | None = None) -> tuple[Path, provenance.Check]:
    """Unpack an archive into a folder that does not exist yet, check it, return (folder, check).

    Raises ArchiveError for anything but an unchanged archive of `pack`; nothing is left then.
    """
    path = Path(path)
    target = Path(target or path.with_suffix(""))
    if target.exists():
        raise ArchiveError(f"{target} exists already; name another folder to unpack into")
    if not path.is_file():
        raise ArchiveError(f"{path}: no such archive")
    with _damage(path), zipfile.ZipFile(path) as archive:
        wanted = _read_sums(path, archive)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".draft-"))
        try:
            for name, digest in wanted.items():
                place = draft / name
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as inside, open(place, "wb") as out:
                    shutil.copyfileobj(inside, out)
                if storage.sha256_file(place) != digest:
                    raise ArchiveError(f"{path}: {name} is not what {SUMS} says; fetch it again")
            (draft / SUMS).write_bytes(archive.read(SUMS))
            os.chmod(draft, 0o755)  # noqa: S103 - a folder like any other
            os.replace(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target, provenance.verify(target / "study")


@contextlib.contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        KeyError,
        NotImplementedError,
        OSError,
        UnicodeDecodeError,
        RuntimeError,
    ) as error:
        raise ArchiveError(
            f"{path}: not a whole archive of a study, or no room for it here "
            f"({type(error).__name__}: {error}); fetch or pack it again"
        ) from error


def _read_sums(path: Path, archive: zipfile.ZipFile) -> dict[str, str]:
    """Member -> sha256, every name inside the folder. Raises ArchiveError."""
    lines = archive.read(SUMS).decode().splitlines()
    wanted = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    present = {i.filename for i in archive.infolist()} - {SUMS}
    if odd := sorted(present ^ set(wanted)):
        where = (
            f"not in the archive and in {SUMS}"
            if odd[0] in wanted
            else f"in the archive and not in {SUMS}"
        )
        raise ArchiveError(f"{path}: {odd[0]} is {where}; fetch it again")
    for name in wanted:
        if (
            name.startswith("/")
            or "\\" in name
            or ":" in name.split("/")[0]
            or ".." in PurePosixPath(name).parts
        ):
            raise ArchiveError(
                f"{path}: {name!r} would leave the folder; this is no archive of "
                "ours, and nothing was unpacked"
            )
    return wanted


def _sources(study: Path, params: dict[str, Any]) -> list[str]:
    """Files outside the study that its records name, and the parameter file itself."""
    names = {params["_file"]}
    for path in study.rglob("run.json"):
        record = storage.read_json(path)
        names |= {
            n
            for kind in ("inputs", "outputs")
            for n in record.get(kind, {})
            if not (study / n).exists()
        }
    return sorted(
        n
        for n in names
        if Path(n).is_file() and not Path(n).is_absolute() and ".." not in Path(n).parts
    )


def model_cards(params: dict[str, Any]) -> dict[str, bytes]:
    """models/<role>.md: the model's own card where it is local, else name, revision, licence."""
    rows = plan.models(params)
    out = {}
    for role, name, revision, size, licence in rows[1:]:
        spec = params["models"].get(role, {})
        folder = Path(str(spec.get("path") or spec.get("name") or "").removeprefix("local-dir:"))
        card = folder / "README.md"
        own = card.read_text(encoding="utf-8") if folder.name and card.is_file() else ""
        out[f"models/{storage.slug(role)}.md"] = (
            f"# {role}: {name}\n\nrevision {revision}, {size} GB, licence {licence}\n\n{own}"
        ).encode()
    return out


def data_card(study: Path, params: dict[str, Any]) -> str:
    """Markdown: what the images are, how many, how they were made, terms, limits."""
    lines = [
        f"# Data card of the study {params['study']}",
        "",
        "Real photographs or renderings, and edits of them whose background, colour or "
        "texture a text-prompted diffusion model changed to something feasible or "
        "infeasible, each with its phrase, seed, verifier's scores and source.",
        "",
        "## Sources and terms",
        "",
        "| data set | source | terms as their owners state them |",
        "|---|---|---|",
    ]
    for name, spec in params["datasets"].items():
        source = str(spec.get("source", ""))
        known = registry.DATA_SETS.get(source)
        owner = known.owner if known and known.owner else source
        terms = known.terms if known and known.terms else OWN_TERMS
        lines.append(f"| {_cell(name)} | {_cell(owner)} | {terms} |")
    lines += [
        "",
        "Edits and generated images carry the terms of the photographs that they were "
        "made from, and of the models below `models/`.",
        "",
        "## Images",
        "",
        "| data set | kind | images | accepted by the verifier |",
        "|---|---|---|---|",
    ]
    for kind, pattern in (
        ("split", "data/*/images.parquet"),
        ("arm", "edits/*/*/*/edits.parquet"),
        ("generated", "datadream/*/*/samples.parquet"),
    ):
        for path in sorted(study.glob(pattern)):
            lines += _counts(kind, path, study)
    records = [storage.read_json(p) for p in sorted(study.rglob("run.json"))]
    if records:
        last = max(records, key=lambda r: r.get("started", ""))
        versions = ", ".join(f"{k} {v}" for k, v in last.get("versions", {}).items())
        lines += [
            "",
            "## How they were made",
            "",
            f"Commit {last.get('commit') or 'unknown'}"
            f"{', with changes' if last.get('dirty') else ''}; parameters "
            f"{last.get('parameter_file')} (sha256 {last.get('parameter_digest')}); "
            f"protocol {params['protocol']}; seed {params['seed']}; {versions}; "
            f"{last.get('machine')}.",
            "",
            "`python -m varireal_utils unpack` checked every byte against the records when "
            "this was unpacked; `verify` does so again.",
        ]
    return "\n".join(
        [
            *lines,
            "",
            "## Limits",
            "",
            "The phrases say what people, or a language model, hold to be feasible; the "
            "edits are a diffusion model's and not photographs of anything; the verifier "
            "errs at the rates that its calibration states.",
            "",
        ]
    )


def _counts(kind: str, path: Path, study: Path) -> list[str]:
    table = storage.read_table(path)
    dataset = _cell(path.relative_to(study).parts[1])
    if kind == "split":
        return [
            f"| {dataset} | {split} | {n} | |"
            for split, n in table["split"].value_counts(sort=False).items()
        ]
    what = " ".join(path.relative_to(study).parts[2:-1])
    share = f"{table['accepted'].mean():.2f}" if "accepted" in table and len(table) else ""
    return [f"| {dataset} | {kind} {what} | {len(table)} | {share} |"]


def _cell(text: Any) -> str:
    return re.sub(r"[|\r\n<>]+", " ", str(text))
