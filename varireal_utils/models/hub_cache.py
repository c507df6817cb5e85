"""What the hub's cache on this machine holds; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path


def cached(repository: str, revision: str) -> Path | None:
    """The folder of a repository in the hub's cache, though it may lack files that nothing loads;
    None where it is not on this machine."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, IncompleteSnapshotError

    try:
        return Path(snapshot_download(repository, revision=revision or None, local_files_only=True))
    except IncompleteSnapshotError as error:
        return Path(error.snapshot_path)
    except (HFValidationError, OSError):
        return None


def cached_commits(repository: str) -> list[str]:
    """The commits of a repository that the hub's cache has, sorted."""
    from huggingface_hub import constants, file_download

    name = file_download.repo_folder_name(repo_id=repository, repo_type="model")
    return sorted(p.name for p in Path(constants.HF_HUB_CACHE, name, "snapshots").glob("*"))
