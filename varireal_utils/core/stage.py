"""What the results of a stage depend on, and a run of a stage.

    StageSettings   a stage's slice of the configuration; each stage has its own subclass
    Key             everything that makes a stage run again, with the digests of its sources
    Run             one run of a stage: its slice, folders, seed, device

symbols   slice    the settings that a stage reads, and no others
          source   a file outside the study's folder that a stage reads: photograph, mask, CSV,
                   local weights, phrase file
          target   what one run is of: data set, attribute, feasibility, recipe, seed, ...

Invariants (tests/unit/test_stage.py): a key changes with every setting of its slice that is not
marked EXECUTION, with every byte of a source and with a notebook's cells, and with nothing else;
`changes` names what changed.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from . import storage, walk
from .code import CodeDigests
from .config_base import Settings, content, flattened
from .device import device_name, precision_name

if TYPE_CHECKING:
    import torch

    from .config import StudyConfig
    from .study_paths import StudyPaths

SETTLED = 2.0  # seconds after which a file's time tells a later change from an earlier one
CACHE, CODE_CACHE = ".digests.json", ".code.json"


class SourceChanged(RuntimeError):
    """A source, a cell or a module that changed while a stage ran; the message names it."""


class StageSettings(Settings, ABC):
    """What the results of one stage depend on; a stage subclasses it with its own fields."""

    computes: ClassVar[bool] = True  # False: neither precision nor device changes a result

    @property
    def fetches(self) -> bool:
        """Whether a run may bring sources that were not there when it began."""
        return False

    @classmethod
    @abstractmethod
    def of(cls, config: StudyConfig, **target: str) -> Self:
        """The stage's slice of a configuration, for one target."""


class SourceDigests:
    """sha256 of files, kept in a cache by path, size, time, and inode; asking twice is fast.

    file: the cache, `<runs_dir>/.digests.json`; several processes may use it at once.
    """

    def __init__(self, file: Path):
        self.file, self._new = Path(file), False
        self._known: dict[str, list] = self._read()
        self.code = CodeDigests(self.file.with_name(CODE_CACHE))

    def _read(self) -> dict[str, list]:
        try:
            found = storage.read_json(self.file)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def of(self, paths: Iterable[Path]) -> dict[str, str]:
        """Path -> sha256, sorted; a path that is no file is left out."""
        found = {Path(p).as_posix(): self._one(Path(p)) for p in paths if Path(p).is_file()}
        if self._new:
            with contextlib.suppress(OSError):  # a disk that cannot be written costs time alone
                storage.write_json(self.file, self._read() | self._known)
            self._new = False
        return dict(sorted(found.items()))

    def _one(self, path: Path) -> str:
        name, stat = str(path.resolve()), path.stat()
        state = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._known.get(name)
        if isinstance(known, list) and known[:-1] == state:
            return str(known[-1])
        digest = storage.sha256_file(path)
        if time.time() - stat.st_mtime > SETTLED:
            self._known[name], self._new = [*state, digest], True
        return digest


@dataclass(frozen=True)
class Key:
    """What makes a stage run again. settings: dotted key -> value; sources: path -> sha256, a path
    below the study as seen from there; notebook: sha256 of its cells; precision and device: as
    resolved, "" where a stage does not compute with them; code: module -> digest (code.py)."""

    settings: dict[str, Any]
    sources: dict[str, str]
    notebook: str
    precision: str
    device: str
    code: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, settings: StageSettings, config: StudyConfig, notebook: Path, digests: SourceDigests
    ) -> Key:
        """The key of a slice on this machine."""
        computes = settings.computes
        return cls(
            settings=flattened(content(settings)),
            sources=named(digests.of(settings.source_files()), config.paths.root),
            notebook=storage.notebook_digest(notebook) if notebook.is_file() else "",
            precision=precision_name(config.precision, config.device) if computes else "",
            device=device_name(config.device) if computes else "",
            code=digests.code.of(notebook, type(settings).__module__),
        )

    @classmethod
    def from_record(cls, value: Any) -> Key | None:
        """The key that a record holds (`record`); None where it holds none."""
        try:
            return cls(**value)
        except TypeError:
            return None

    @property
    def digest(self) -> str:
        """sha256 of the whole key."""
        return storage.sha256_json(self.record())

    def record(self) -> dict[str, Any]:
        """As plain values, for a record."""
        return asdict(self)

    def changes(self, old: Key) -> list[str]:
        """What differs from an older key, a line each: key or file, old and new."""
        out = []
        for name in sorted({*self.settings, *old.settings}):
            before, after = (k.settings.get(name, "(none)") for k in (old, self))
            if before != after:
                out.append(f"{name}: {before} -> {after}")
        for name in sorted({*self.sources, *old.sources}):
            before, after = old.sources.get(name), self.sources.get(name)
            if before != after:
                out.append(f"source {name}: {_how(before, after)}")
        if self.notebook != old.notebook:
            out.append("notebook changed")
        out += self.code_changes(old)
        for name in ("precision", "device"):
            before, after = getattr(old, name), getattr(self, name)
            if before != after:
                out.append(f"{name}: {before} -> {after}")
        return out

    def code_changes(self, old: Key) -> list[str]:
        """The modules that differ from an older key, a line each."""
        if self.code and not old.code:
            return ["code: not recorded, made by an earlier version"]
        return [
            f"code {name}: {_how(old.code.get(name), self.code.get(name))}"
            for name in sorted({*self.code, *old.code})
            if self.code.get(name) != old.code.get(name)
        ]


def _how(before: str | None, after: str | None) -> str:
    return "removed" if after is None else "added" if before is None else "changed"


def named(sources: dict[str, str], root: Path) -> dict[str, str]:
    """The sources, with those below a study's folder named as seen from there, so that a copied
    study has the keys of the first."""
    return {
        (walk.inside(Path(name), root) or name): value for name, value in sorted(sources.items())
    }


S = TypeVar("S", bound=StageSettings)


@dataclass(frozen=True)
class Run(Generic[S]):
    """One run of a stage. out: the folder where run.json will be written; seed: of this
    run, for what has no seed of its own; key: as it was when the run began."""

    stage: str
    settings: S
    paths: StudyPaths
    out: Path
    seed: int
    device: torch.device
    dtype: torch.dtype
    target: dict[str, Any]
    started: float = field(default_factory=time.time)
    key: Key | None = None  # None: a notebook that is no stage

    @property
    def study(self) -> Path:
        """The study's folder."""
        return self.paths.root

    def rests_on(self, settings: Settings | None = None) -> dict[str, Any]:
        """What files of this run depend on beside those of the study: settings, the bytes of the
        sources that they name, precision and device. A file made earlier under the same is kept.

        settings: those that the files depend on; None for the whole slice. Raises SourceChanged
        where a source is not as it was when the run began: call it once they have been loaded.
        """
        used = self.settings if settings is None else settings
        digests = SourceDigests(self.paths.root.parent / CACHE)
        sources = named(digests.of(used.source_files()), self.paths.root)
        begun = self.key.sources if self.key else sources
        other = [name for name, value in sources.items() if begun.get(name, value) != value]
        if other:
            raise SourceChanged(f"{other[0]} changed while {self.stage} ran; run it again")
        return {
            "settings": content(used),
            "code": self.key.code if self.key else {},
            "sources": sources,
            "precision": str(self.dtype).removeprefix("torch."),
            "device": self.device.type,
        }
