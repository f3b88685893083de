"""The Hugging Face Hub: what a repository holds, and a client that keeps the user's token to the Hub alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import httpx

from advisor import __version__
from advisor.errors import DownloadFailed
from advisor.files import download, remote
from advisor.machine import Record


class Upload(Record, frozen=True, kw_only=True):
    """One file of a repository. `size` in bytes."""

    name: str
    size: int
    sha256: str


class Listing(Record, frozen=True, kw_only=True):
    """What a repository holds now."""

    repo: str
    commit: str
    uploads: tuple[Upload, ...]


def token() -> str | None:
    """The user's token: HF_TOKEN, or what `hf auth login` keeps."""
    from huggingface_hub import get_token  # noqa: PLC0415 - half a second, for those who download

    return get_token()


def listing(repo: str) -> Listing:
    """What the Hub (HF_ENDPOINT) says that a repository holds.

    Raises:
        DownloadFailed: offline, not allowed, not there, or the Hub fails.
    """
    if remote.offline():
        raise DownloadFailed(
            f"{repo} cannot be looked up: HF_HUB_OFFLINE is set", hint="unset it, or give a local file instead"
        )
    from huggingface_hub import HfApi  # noqa: PLC0415

    try:
        info = HfApi(endpoint=remote.hub(), token=token() or False).model_info(repo, files_metadata=True, timeout=30)
    except Exception as error:  # the client's errors are of three libraries
        raise explained(error, repo) from error
    uploads = [
        Upload(name=one.rfilename, size=one.size or 0, sha256=one.lfs.sha256 if one.lfs else "")
        for one in info.siblings or ()
    ]
    return Listing(repo=repo, commit=info.sha or "main", uploads=tuple(uploads))


def explained(error: Exception, repo: str) -> DownloadFailed:
    """What a failure of huggingface_hub means."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        wait = error.response.headers.get("Retry-After", "")  # type: ignore[attr-defined]
        if status == download.BUSY and wait:
            return DownloadFailed(f"the Hub is busy for another {wait} seconds", hint="try again then")
        return download.refused(status, repo, page=f"{remote.hub()}/{repo}")
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DownloadFailed(
        f"{remote.hub()} cannot be reached: {text}",
        hint="check the network; with HF_HUB_OFFLINE=1 only files that are here are used",
    )


@contextlib.contextmanager
def client() -> Iterator[httpx.Client]:
    """For the Hub and where it redirects to; the token goes to the Hub alone."""
    headers = {"User-Agent": f"gemma-advisor/{__version__}", "Accept-Encoding": "identity"}
    if key := token():
        headers["Authorization"] = f"Bearer {key}"
    timeout = httpx.Timeout(download.STALL_S, connect=remote.TIMEOUT_S)
    with httpx.Client(follow_redirects=True, timeout=timeout, headers=headers) as made:
        yield made
