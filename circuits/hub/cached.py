"""What is on this machine of the Hub: models and transcoder sets in its cache, with the bytes that they take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from circuits.errors import UnknownModel
from circuits.hub.choosing import choose_model_files, sets_among, split_address
from circuits.hub.fetching import cache_folder, cached_file


@dataclass(frozen=True)
class Cached:
    """A model or a set in the cache. name: as it is loaded. size: bytes there. whole: nothing of it is missing."""

    name: str
    size: int
    whole: bool


@dataclass(frozen=True)
class _Snapshot:
    """A repository's newest. here: the bytes of each file; there: those on the Hub, nothing where nobody knows."""

    repository: str
    folder: Path
    here: dict[str, int]
    there: dict[str, int]


def cached_models() -> list[Cached]:
    """The models in the Hub's cache, by name."""
    found = []
    for each in _snapshots():
        try:
            wanted = choose_model_files(each.there or each.here, each.repository)
        except UnknownModel:
            continue
        found.append(_held(each.repository, wanted, each.here))
    return found


def cached_sets() -> list[Cached]:
    """The transcoder sets in the Hub's cache, by name; those of which no file is there are left out."""
    found = []
    for each in _snapshots():
        for at, wanted in sets_among(each.there or each.here).items():
            if any(path in each.here for path in wanted):
                held: Cached | None = _held(f"{each.repository}/{at}".rstrip("/"), wanted, each.here)
                if all(Path(path).name == "config.yaml" for path in wanted):
                    held = _with_listed(held, each.folder / at / "config.yaml")
                found.append(held)
    return [each for each in found if each is not None]


def _with_listed(held: Cached, config: Path) -> Cached | None:
    """A set that is a list of files elsewhere, these counted; None where the file lists none."""
    import yaml

    try:
        listed = yaml.safe_load(config.read_text(encoding="utf-8"))["transcoders"]
        addresses = [split_address(each["filepath"] if isinstance(each, dict) else each) for each in listed]
        files = [None if each is None else cached_file(*each) for each in addresses]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return None
    size = sum(each[0].stat().st_size for each in files if each is not None)
    return Cached(held.name, held.size + size, held.whole and None not in files)


def _held(name: str, wanted: list[str], here: dict[str, int]) -> Cached:
    there = [here[path] for path in wanted if path in here]
    return Cached(name, sum(there), len(there) == len(wanted))


def _snapshots() -> list[_Snapshot]:
    from huggingface_hub import get_cached_repo_tree, scan_cache_dir
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, CacheNotFound

    try:
        repositories = scan_cache_dir(cache_folder()).repos
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
        found.append(_Snapshot(each.repo_id, Path(newest.snapshot_path), here, there))
    return found
