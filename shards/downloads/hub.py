"""Repositories of the Hugging Face Hub, read and written through ``huggingface_hub``, which the extra ``hub`` installs.

Endpoint, token and offline mode are its own: ``HF_ENDPOINT``, ``HF_TOKEN`` or ``hf auth login``, ``HF_HUB_OFFLINE``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from shards.base.errors import UserError
from shards.base.hub_address import HubAddress

Kind = Literal["model", "dataset"]
_LOGIN = "run hf auth login, or set HF_TOKEN"


def download(address: HubAddress, kind: Kind, patterns: Sequence[str]) -> Path:
    """Downloads files of a repository into the cache of ``huggingface_hub``.

    What is there of the same commit is not downloaded again; offline, what is there is used.

    Args:
        address: The repository and its revision.
        kind: What it holds.
        patterns: Names of the files, with ``*``; no others are read.

    Returns:
        The folder with these files.

    Raises:
        UserError: No package, no such repository or revision, no permission, or no answer.
    """
    hub = _library()
    with _explained(str(address), "read"):
        return Path(
            hub.snapshot_download(
                address.repository, repo_type=kind, revision=address.revision, allow_patterns=list(patterns)
            )
        )


def upload(
    repository: str, kind: Kind, files: Mapping[str, Path], *, private: bool, message: str, replaced: Sequence[str]
) -> HubAddress:
    """Makes one commit of files, in a repository that is made if there is none.

    An interrupted upload leaves the repository as it was; large files that arrived are not sent again.

    Args:
        repository: ``USER/NAME``.
        kind: What it holds.
        files: The files, by their names in the repository.
        private: Whether a new repository is private.
        message: Title of the commit.
        replaced: Names, with ``*``, of files of earlier commits that are deleted if they are not among ``files``.

    Returns:
        The commit's address.

    Raises:
        UserError: No package, no token, no permission, or no answer.
    """
    hub = _library()
    with _explained(f"hub:{repository}", "written"):
        if hub.get_token() is None:
            raise UserError(f"hub:{repository} cannot be written without a token; {_LOGIN}.")
        api = hub.HfApi()
        api.create_repo(repository, repo_type=kind, private=private or None, exist_ok=True)
        there = api.list_repo_files(repository, repo_type=kind)
        stale = [name for name in there if name not in files and any(fnmatch(name, pattern) for pattern in replaced)]
        operations: list[Any] = [hub.CommitOperationDelete(name) for name in stale]
        operations += [hub.CommitOperationAdd(name, str(path)) for name, path in files.items()]
        commit = api.create_commit(repository, operations, commit_message=message, repo_type=kind)
    return HubAddress(repository, commit.oid)


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise UserError("the Hub needs the package huggingface_hub: pip install 'facegen[hub]'") from None
    return huggingface_hub


@contextmanager
def _explained(place: str, verb: str) -> Iterator[None]:
    """Turns the errors of the package into sentences."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise UserError(f"{place} is gated; accept its terms on its page, then {_LOGIN}.") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"there is no {place}, or it is private; check the name; if it is private, {_LOGIN}.") from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{place}: there is no such revision; give a branch, a tag or a commit of it.") from None
    except errors.LocalEntryNotFoundError as error:
        reason = _reason(error.__cause__ or error)
        raise UserError(f"{place} is not in the cache, and the Hub does not answer ({reason}); rerun online.") from None
    except errors.HFValidationError as error:
        raise UserError(f"{place} is not a name that the Hub takes ({_reason(error)}).") from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise UserError(f"{place} may not be {verb} with this token ({_reason(error)}); {_LOGIN}.") from None
        raise UserError(f"{place} could not be {verb} ({_reason(error)}); rerun the command.") from None
    except UserError:
        raise
    except Exception as error:  # Its transports raise errors of their own.
        raise UserError(f"{place} could not be {verb} ({_reason(error)}); rerun the command.") from None


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]
