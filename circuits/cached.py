"""What is on this machine of the Hub: models and transcoder sets in its cache, with the bytes that they take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from circuits.choosing import choose_model_files, sets_among
from circuits.errors import UnknownModel


@dataclass(frozen=True)
class Cached:
    """A model or a set in the cache. name: as it is loaded. size: bytes there. whole: nothing of it is missing."""

    name: str
    size: int
    whole: bool


def cached_models() -> list[Cached]:
    """The models in the Hub's cache, by name."""
    found = []
    for repository, here, there in _snapshots():
        try:
            wanted = choose_model_files(there or here, repository)
        except UnknownModel:
            continue
        found.append(_held(repository, wanted, here))
    return found


def cached_sets() -> list[Cached]:
    """The transcoder sets in the Hub's cache, by name; those of which no file is there are left out."""
    return [
        _held(f"{repository}/{at}".rstrip("/"), wanted, here)
        for repository, here, there in _snapshots()
        for at, wanted in sets_among(there or here).items()
        if any(path in here for path in wanted)
    ]


def _held(name: str, wanted: list[str], here: dict[str, int]) -> Cached:
    there = [here[path] for path in wanted if path in here]
    return Cached(name, sum(there), len(there) == len(wanted))


def _snapshots() -> list[tuple[str, dict[str, int], dict[str, int]]]:
    """Every repository's newest snapshot: its id, the bytes of each file here, and of each on the Hub if known."""
    from huggingface_hub import get_cached_repo_tree, scan_cache_dir
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except (CacheNotFound, ValueError):
        return []
    found = []
    for each in sorted(repositories, key=lambda each: each.repo_id):
        if each.repo_type != "model" or not each.revisions:
            continue
        newest = each.refs.get("main") or max(each.revisions, key=lambda revision: revision.last_modified)
        here = {
            Path(file.file_path).relative_to(newest.snapshot_path).as_posix(): file.size_on_disk
            for file in newest.files
        }
        try:
            there = {file.path: file.size for file in get_cached_repo_tree(each.repo_id, revision=newest.commit_hash)}
        except CachedRepoTreeNotFoundError:
            there = {}
        found.append((each.repo_id, here, there))
    return found
