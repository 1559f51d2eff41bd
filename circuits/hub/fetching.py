"""From an address on the Hugging Face Hub to files on this machine: what is needed and no more, if there is room."""

from __future__ import annotations

import difflib
import errno
import glob
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from circuits.errors import NotFetched
from circuits.hub.choosing import choose_model_files, choose_set_files
from circuits.hub.published import MODELS, SETS
from circuits.progress import Progress
from circuits.sizes import size_in_words

MARGIN = 2**20  # bytes kept free beside what is fetched: listings, links

_ADDRESS = re.compile(
    r"(?P<repository>[\w-][\w.-]*(/[\w-][\w.-]*)?)(?P<folder>(/[\w-][\w.-]*)*)(@(?P<revision>[\w./-]+))?"
)


@dataclass(frozen=True)
class Address:
    """ORG/NAME/FOLDER@REVISION. folder: "" for all of it. revision: a branch, tag or commit; None for the newest."""

    repository: str
    folder: str
    revision: str | None

    def __str__(self) -> str:
        return "/".join(filter(None, [self.repository, self.folder])) + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Fetched:
    """What is on this machine now. size: bytes of its files in all; new: those that were fetched just now."""

    folder: Path
    files: int
    size: int
    new: int


@dataclass(frozen=True)
class _Part:
    """Files of one repository. at: the folder of its snapshot. missing: bytes that are not here. [bytes by path]

    listed: the cache knows what the repository holds, so that the Hub need not be asked again.
    """

    address: Address
    at: Path
    files: Mapping[str, int]
    missing: Mapping[str, int] = field(default_factory=dict)
    listed: bool = True


def read_address(name: str) -> Address | None:
    """The address that a name is, None where it can be none: a path of this machine, or a word with a space."""
    found = _ADDRESS.fullmatch(name)
    if found is None or ".." in name or "--" in found["repository"]:
        return None
    return Address(found["repository"], found["folder"].lstrip("/"), found["revision"])


def fetch_model(name: str, *, newest: bool = False, progress: Progress | None = None) -> Fetched:
    """The folder of a model, fetched where it is not in the cache: NAME or ORG/NAME, and @REVISION.

    newest: ask the Hub whether there is a newer one, though one is in the cache.
    progress: told the bytes that are done.

    Raises:
        NotFetched: the Hub does not give it, or the disk is too small. UnknownModel: there is no model in it.
    """
    address = _address(name)
    if address.folder:
        raise NotFetched(f"{name} is a folder in a repository: a model has one of its own, ORG/NAME.")
    part = _find(address, lambda files: choose_model_files(files, address.repository), newest)
    return _fetch([part], part.at, progress)


def fetch_transcoders(name: str, *, newest: bool = False, progress: Progress | None = None) -> Fetched:
    """The folder of a transcoder set, fetched where it is not in the cache: ORG/NAME, /FOLDER and @REVISION.

    Of Gemma Scope 2 the folder is FOLDER/VARIANT, as `circuits.formats` takes it. Where the set is circuit-tracer's
    list of files kept elsewhere, these are fetched too. newest, progress: as for `fetch_model`.

    Raises:
        NotFetched: the Hub does not give it, or the disk is too small. UnknownTranscoders: no set, or several.
    """
    address = _address(name)
    place = ""

    def choose(files: Mapping[str, int]) -> list[str]:
        nonlocal place
        place, chosen = choose_set_files(files, address.folder, address.repository)
        return chosen

    part = _find(address, choose, newest)
    folder = part.at / place
    if [Path(path).name for path in part.files] != ["config.yaml"]:
        return _fetch([part], folder, progress)
    _fetch([part], folder, None)
    kept = _find_listed(folder, newest)
    whole = _fetch(kept, folder, progress)
    return Fetched(folder, whole.files + 1, whole.size + sum(part.files.values()), whole.new)


def _address(name: str) -> Address:
    found = read_address(name)
    if found is None:
        raise NotFetched(f"{name!r} is no address of the Hub: ORG/NAME is wanted, as in openai-community/gpt2.")
    return found


def _find_listed(folder: Path, newest: bool) -> list[_Part]:
    """The files elsewhere that a config.yaml lists, one part a repository and revision."""
    from circuits.formats.circuit_tracer_list import read_addresses

    wanted: dict[tuple[str, str | None], list[str]] = {}
    for repository, file, revision in read_addresses(folder):
        wanted.setdefault((repository, revision), []).append(file)

    def find(repository: str, revision: str | None, files: list[str]) -> _Part:
        def choose(there: Mapping[str, int]) -> list[str]:
            if absent := sorted(set(files) - set(there)):
                raise NotFetched(f"{folder} lists {absent[0]}, which {repository} does not hold.")
            return files

        return _find(Address(repository, "", revision), choose, newest)

    return [find(repository, revision, files) for (repository, revision), files in wanted.items()]


# -- what is where ----------------------------------------------------------------------------------------------------


def _find(address: Address, choose: Callable[[Mapping[str, int]], Sequence[str]], newest: bool) -> _Part:
    """The files wanted of a repository, by the listing of the cache where all are there, else by the Hub's."""
    from huggingface_hub import is_offline_mode

    at, listing = _cached_listing(address)
    held = _files_in(at) if at is not None else {}
    offline = is_offline_mode()
    if at is not None and held and (not newest or offline):
        # Without a listing it cannot be told whether a file is missing: the Hub is asked, if it can be.
        if listing is not None or offline:
            chosen = choose(listing or held)
            files = {path: (listing or held)[path] for path in chosen}
            missing = {path: size for path, size in files.items() if path not in held}
            if not missing:
                return _Part(address, at, files)
            if offline:
                raise NotFetched(
                    f"{len(missing)} of the {len(files)} files of {address} are not in the cache "
                    f"({size_in_words(sum(missing.values()))}). {_switched_off(address)}"
                )
    if offline:
        raise NotFetched(f"{address} is not in the cache on this machine ({cache_folder()}). {_switched_off(address)}")
    if at is not None and not newest:
        address = replace(address, revision=at.name)  # what is here is filled up, not replaced
    try:
        with _told(address):
            commit, there, blobs = _hub_listing(address)
    except NotFetched:
        if at is None or not held or newest or listing is not None:
            raise
        return _Part(address, at, {path: held[path] for path in choose(held)})  # out of reach, and perhaps whole
    files = {path: there[path] for path in choose(there)}
    at, kept = _storage(address) / "snapshots" / commit, _storage(address) / "blobs"
    missing = {
        path: 0 if (kept / blobs[path]).exists() else size for path, size in files.items() if not (at / path).exists()
    }
    return _Part(address, at, files, missing, listed=listing is not None)


def _cached_listing(address: Address) -> tuple[Path | None, dict[str, int] | None]:
    """The snapshot of a repository in the cache, and what it would hold if it were whole; None where nobody knows."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, HFValidationError

    revision = address.revision or "main"
    reference = _storage(address) / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    at = _storage(address) / "snapshots" / commit
    if not at.is_dir():
        return None, None
    try:
        return at, {each.path: each.size for each in get_cached_repo_tree(address.repository, revision=commit)}
    except (CachedRepoTreeNotFoundError, HFValidationError):
        return at, None


def _hub_listing(address: Address) -> tuple[str, dict[str, int], dict[str, str]]:
    """The commit, its files with their bytes, and the name that each has among the cache's blobs."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    hub = HfApi()
    commit = hub.repo_info(address.repository, revision=address.revision).sha
    listed = hub.list_repo_tree(address.repository, recursive=True, revision=commit)
    files = [each for each in listed if isinstance(each, RepoFile)]
    blobs = {each.path: each.lfs.sha256 if each.lfs is not None else each.blob_id for each in files}
    return str(commit), {each.path: each.size for each in files}, blobs


def _files_in(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def cache_folder() -> Path:
    """Where what comes from the Hub is kept."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def _storage(address: Address) -> Path:
    return cache_folder() / f"models--{address.repository.replace('/', '--')}"


def _switched_off(address: Address) -> str:
    return (
        "The Hub is switched off (HF_HUB_OFFLINE): unset it where there is a network, or fetch "
        f"{address.repository} on another machine and copy {_storage(address).name} from its cache."
    )


def cached_file(repository: str, file: str, revision: str | None) -> tuple[Path, Path] | None:
    """A file of a repository in the cache, and the snapshot it is in; None where it is not there.

    Raises:
        ValueError: there can be no such repository.
    """
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, file, revision=revision)
    return (Path(found), Path(found).parents[file.count("/")]) if isinstance(found, str) else None


# -- fetching ---------------------------------------------------------------------------------------------------------


def _fetch(parts: Sequence[_Part], folder: Path, progress: Progress | None) -> Fetched:
    """Fetch what is missing of some parts, if there is room for all of it."""
    new = sum(sum(part.missing.values()) for part in parts)
    _check_room(parts[0].address, new)
    done = 0
    for part in parts:
        if part.missing or not part.listed:
            count = _counter(f"fetching {part.address.repository}", done, new, progress)
            with _told(part.address):
                _download(part, count)
        done += sum(part.missing.values())
    return Fetched(folder, sum(len(part.files) for part in parts), sum(sum(p.files.values()) for p in parts), new)


def _check_room(address: Address, size: int) -> None:
    """Complain before anything is fetched where the disk of the cache is too small for it."""
    place = next(each for each in (cache_folder(), *cache_folder().absolute().parents) if each.is_dir())
    free = shutil.disk_usage(place).free
    if size and size + MARGIN > free:
        raise NotFetched(
            f"{address} needs {size_in_words(size)} of disk, and {place} has {size_in_words(free)} free. Make room "
            "(`hf cache ls`, `hf cache rm`), or keep the cache on another disk: HF_HUB_CACHE=/other/disk."
        )


def _download(part: _Part, count: type) -> None:
    """Through huggingface_hub: a cut connection goes on where it was; what is whole stays, whatever comes after."""
    from huggingface_hub import snapshot_download

    snapshot_download(
        part.address.repository,
        revision=part.address.revision,
        allow_patterns=[glob.escape(path) for path in part.files],
        tqdm_class=count,
    )


def _counter(name: str, before: int, total: int, progress: Progress | None) -> type:
    """A bar that shows nothing and tells `progress` of bytes: huggingface_hub moves one for all files, or two."""
    from tqdm import tqdm

    lock = threading.Lock()

    class Counter(tqdm):
        def __init__(self, *args: Any, **settings: Any) -> None:
            self._bytes = settings.get("unit") == "B"
            super().__init__(*args, **{**settings, "disable": True})

        def update(self, n: float | None = 1) -> None:
            with lock:
                self.n += n or 0
                if self._bytes and progress is not None:
                    progress(name, min(total, before + int(self.n)), total)

    return Counter


@contextmanager
def _told(address: Address) -> Iterator[None]:
    """Whatever the Hub or the network answers, in a sentence that says what to do."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{address.repository}"
    try:
        yield
    except errors.GatedRepoError as reason:
        raise NotFetched(
            f"{address.repository} is gated: its owners ask for consent. Accept the licence at {page}, log in with "
            "`hf auth login` (or set HF_TOKEN), and try again."
        ) from reason
    except errors.RevisionNotFoundError as reason:
        raise NotFetched(
            f"{address.repository} has no revision {address.revision!r}: see {page}/tree/main."
        ) from reason
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as reason:
        raise _unknown(address) from reason
    except errors.HfHubHTTPError as reason:
        unknown = reason.response.status_code in (401, 404)
        raise (_unknown(address) if unknown else _out_of_reach(address, reason)) from reason
    except OSError as reason:
        if reason.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NotFetched(
                f"the disk of {cache_folder()} is full: make room (`hf cache ls`, `hf cache rm`), and run it again; "
                "what was fetched whole is kept."
            ) from reason
        if reason.filename is not None:
            raise
        raise _out_of_reach(address, reason) from reason
    except Exception as reason:  # of the HTTP client, which is another one with every few versions
        raise _out_of_reach(address, reason) from reason


def _out_of_reach(address: Address, reason: Exception) -> NotFetched:
    from huggingface_hub import constants

    said = (str(reason).strip() or type(reason).__name__).splitlines()[0].rstrip(".")
    return NotFetched(
        f"{address.repository} did not come from {constants.ENDPOINT} ({said[:200]}). Is there a network? "
        "Run it again: what was fetched whole is kept."
    )


def _unknown(address: Address) -> NotFetched:
    known = {"/".join(each.name.split("/")[:2]) for each in (*MODELS, *SETS)}
    near = difflib.get_close_matches(address.repository, sorted(known), n=2, cutoff=0.75)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    return NotFetched(
        f"the Hub has no {address.repository}, or it is private: see that it is spelt as on its page; for a private "
        f"one, `hf auth login`.{meant}"
    )
