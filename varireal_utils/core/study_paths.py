"""Every path of a study's folder, spelled once.

    <study>/
      data/<dataset>/images.parquet, images/*.png, masks/*.png
      attributes/<dataset>/bank.json, vote.html, votes/
      guidance/<dataset>/guidance.parquet, mask/*.png, canny/*.png
      edits/<dataset>/<attribute>/<feasibility>/edits.parquet, images/, priors/, parts/, shards/
      datadream/<dataset>/<variant>/samples.parquet, images/
      classify/<dataset>/<recipe>/seed<k>/predictions.parquet, metrics.json, adapter_*
      quality/<dataset>/*.csv
      results/*.csv, answers.parquet     figures/*.png     report/index.html
      notebooks/<stage>*.ipynb           executed notebooks
      replicates/<index>/                the same for each replicate, where there are replicates

Data set and recipe names become file names by `storage.slug`; attributes and feasibilities are
file names already. Invariant (tests/unit/test_study_paths.py): two targets never share a folder,
and a name is found again from its folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from . import walk
from .storage import slug, unslug


@dataclass(frozen=True)
class StudyPaths:
    """The folder of a study and all that lies in it. Paths are made up, not read: any may lack."""

    root: Path

    def replicate(self, index: int) -> StudyPaths:
        """The folder of one replicate: a study in itself, but for results and figures."""
        return StudyPaths(self.root / "replicates" / f"{index:02d}")

    def replicate_of(self, name: str) -> StudyPaths:
        """The folder that names in a job's record are relative to: its replicate's, else the
        study's. name: of the job, below the study's folder."""
        parts = PurePosixPath(name).parts
        inside = len(parts) > 1 and parts[0] == "replicates"
        return StudyPaths(self.root.joinpath(*parts[:2])) if inside else self

    def roots(self) -> list[StudyPaths]:
        """The study and each of its replicates that is there."""
        found = sorted(p for p in self.root.glob("replicates/*") if p.name.isdigit())
        return [self, *map(StudyPaths, found)]

    @property
    def pixel_maps(self) -> Path:
        """Decoded pictures, which all studies of a folder share: `<runs_dir>/.pixels`."""
        above = self.root.parent
        return (above.parent.parent if above.name == "replicates" else above) / ".pixels"

    # one data set
    def data(self, dataset: str) -> Path:
        """Folder of a data set's table and stored photographs."""
        return self.root / "data" / slug(dataset)

    def images_table(self, dataset: str) -> Path:
        """images.parquet: one row a photograph."""
        return self.data(dataset) / "images.parquet"

    def attributes(self, dataset: str) -> Path:
        """Folder of a data set's phrases and votes."""
        return self.root / "attributes" / slug(dataset)

    def votes(self, dataset: str) -> Path:
        """Folder of the votes that people sent back."""
        return self.attributes(dataset) / "votes"

    def phrase_bank(self, dataset: str) -> Path:
        """bank.json: the phrases that its edits ask for."""
        return self.attributes(dataset) / "bank.json"

    def guidance(self, dataset: str) -> Path:
        """Folder of a data set's masks and canny lines."""
        return self.root / "guidance" / slug(dataset)

    def guidance_table(self, dataset: str) -> Path:
        """guidance.parquet: one row a photograph, with the paths of its maps."""
        return self.guidance(dataset) / "guidance.parquet"

    def quality(self, dataset: str) -> Path:
        """Folder of the measures of a data set's edits."""
        return self.root / "quality" / slug(dataset)

    # edits
    def edits(self, dataset: str, attribute: str, feasibility: str, shard: str = "") -> Path:
        """Folder of one arm, or of one shard of it ("3/16")."""
        folder = self.root / "edits" / slug(dataset) / attribute / feasibility
        return folder / "shards" / shard.replace("/", "of") if shard else folder

    def edits_table(self, dataset: str, attribute: str, feasibility: str) -> Path:
        """edits.parquet: one row an edit."""
        return self.edits(dataset, attribute, feasibility) / "edits.parquet"

    def thresholds(self, digest: str) -> Path:
        """Thresholds of a verifier, by the digest of what they rest on; made again where absent."""
        return self.root / ".thresholds" / f"{digest}.json"

    def fits(self, digest: str) -> Path:
        """Batch sizes that fitted into memory, by the digest of the work and the device."""
        return self.root / ".fits" / f"{digest}.json"

    # generated images
    def datadream(self, dataset: str, variant: str) -> Path:
        """Folder of one variant of DataDream."""
        return self.root / "datadream" / slug(dataset) / variant

    def samples_table(self, dataset: str, variant: str) -> Path:
        """samples.parquet: one row a generated image."""
        return self.datadream(dataset, variant) / "samples.parquet"

    # classifiers
    def classify(self, dataset: str, recipe: str = "", seed: int | None = None) -> Path:
        """Folder of a data set's trainings, of one recipe's, or of one training."""
        folder = self.root / "classify" / slug(dataset)
        folder = folder / slug(recipe) if recipe else folder
        return folder if seed is None else folder / f"seed{seed}"

    def predictions(self, dataset: str, recipe: str, seed: int) -> Path:
        """predictions.parquet: one row a test photograph."""
        return self.classify(dataset, recipe, seed) / "predictions.parquet"

    @property
    def trainings(self) -> Path:
        """Folder of every data set's trainings."""
        return self.root / "classify"

    def metrics(self, dataset: str, recipe: str, seed: int) -> Path:
        """metrics.json of one training."""
        return self.classify(dataset, recipe, seed) / "metrics.json"

    # the whole study
    @property
    def results(self) -> Path:
        """Folder of the tables of 07_claims."""
        return self.root / "results"

    @property
    def models_lock(self) -> Path:
        """models.lock.json: the commits of the models that `fetch-models` fetched."""
        return self.root / "models.lock.json"

    @property
    def pictures(self) -> Path:
        """Folder of the images that the figures show, with their index.json."""
        return self.results / "pictures"

    @property
    def figures(self) -> Path:
        """Folder of the figures of 08_figures."""
        return self.root / "figures"

    @property
    def recomputed(self) -> Path:
        """Folder of tables that 07_claims makes from published predictions."""
        return self.root / "recomputed"

    @property
    def redrawn(self) -> Path:
        """Folder of figures that 08_figures draws from published results."""
        return self.root / "redrawn"

    @property
    def notebooks(self) -> Path:
        """Folder of the executed notebooks."""
        return self.root / "notebooks"

    @property
    def report(self) -> Path:
        """Folder of the HTML report."""
        return self.root / "report"

    # what is there
    def images_tables(self) -> list[Path]:
        """images.parquet of every data set that was read, sorted."""
        return sorted(self.root.glob("data/*/images.parquet"))

    def edits_tables(self) -> list[Path]:
        """edits.parquet of every finished arm, sorted."""
        return sorted(self.root.glob("edits/*/*/*/edits.parquet"))

    def samples_tables(self) -> list[Path]:
        """samples.parquet of every generated set, sorted."""
        return sorted(self.root.glob("datadream/*/*/samples.parquet"))

    def adapters(self) -> list[Path]:
        """adapter_config.json of every trained classifier, sorted."""
        return sorted(self.root.glob("classify/*/*/*/adapter_config.json"))

    def traces(self) -> list[Path]:
        """about.json of every arm whose first edit was kept step by step, sorted."""
        return sorted(self.root.glob("edits/*/*/*/strip/about.json"))

    def dataset_of(self, path: Path) -> str:
        """The data set whose folder a path lies in; a shortened slug stays as it is."""
        text = path.relative_to(self.root).parts[1]
        try:
            return unslug(text)
        except ValueError:
            return text

    def other_studies(self, against: dict[str, list[str]]) -> dict[str, Path]:
        """name -> answers of each other study that `claims.against` names and that was run.

        against: name -> folders of that study, as its runs and its published results, of which
        the first that is there counts. The study itself is left out, and so is what was published
        of it, a folder of its name.
        """
        own, out = self.root.resolve(), {}
        for name, folders in against.items():
            found = [
                p
                for p in answers_files(folders)
                if not p.resolve().is_relative_to(own) and p.parent.name != own.name
            ]
            if found:
                out[name] = found[0]
        return out

    def records(self) -> list[Path]:
        """Every run.json below the study, sorted; folders whose name starts with a dot left out."""
        found = (p for p in walk.files(self.root) if p.name == "run.json")
        return sorted(p for p in found if not walk.hidden(p, self.root))


def answers_files(folders: str | list[str]) -> list[Path]:
    """answers.parquet of studies, of those that are there; a folder is a study's own or a
    published one."""
    names = [folders] if isinstance(folders, str) else folders
    places = [[Path(f, n) for n in ("results/answers.parquet", "answers.parquet")] for f in names]
    return [
        next(p for p in pair if p.is_file()) for pair in places if any(p.is_file() for p in pair)
    ]
