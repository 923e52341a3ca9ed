"""The errors that taskgate raises on purpose.

`UsageError`: a mistake in the manifest or the options (exit status 4). `ImageError`: the image is at fault.
`InfraError`: nothing is known about the image; it is retried, and never held against the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class TaskgateError(Exception):
    """Base class of all of them."""


class UsageError(TaskgateError):
    """A mistake of the user. `str()` names the file, line and field as far as they are known."""

    def __init__(
        self,
        problem: str,
        *,
        file: str | None = None,
        line: int | None = None,
        field: str | None = None,
        others: Sequence[str] = (),
    ) -> None:
        """`others`: further mistakes, one line each."""
        self.problem, self.file, self.line, self.field = problem, file, line, field
        place = ":".join(str(part) for part in (file, line) if part is not None)
        first = ": ".join(part for part in (place, field, problem) if part)
        super().__init__("\n".join((first, *others)))


class ManifestError(UsageError):
    """The manifest can't be read, or breaks a rule of its format."""


class SkipListError(UsageError):
    """The skip list (file or database) can't be read or written."""


class ImageError(TaskgateError):
    """The image is at fault, and another try would fail the same way."""


class ImageNotFound(ImageError):
    """The registry answered that there is no such image, or its name is not valid."""


class ImageChanged(TaskgateError):
    """The image's name now points to another build than the one that was judged."""


class PlatformUnavailable(TaskgateError):
    """This host can't run the image: the verdict is `incompatible`."""


class StartFailed(ImageError):
    """The engine created the container but couldn't start it. `cause`: user, shell, platform or image.

    `needs_confirmation`: a busy host may be the cause as well.
    """

    def __init__(self, reason: str, *, cause: str, output: str = "", needs_confirmation: bool = False) -> None:
        super().__init__(reason)
        self.cause, self.output, self.needs_confirmation = cause, output, needs_confirmation


class InfraError(TaskgateError):
    """Engine, registry, network, disk or this program failed.

    `transient`: worth another try. `patience`: give up so many seconds after the first try; None: the usual limit.
    """

    transient = True
    patience: float | None = None

    def __init__(self, *args: object, transient: bool | None = None, patience: float | None = None) -> None:
        super().__init__(*args)
        if transient is not None:
            self.transient = transient
        if patience is not None:
            self.patience = patience


class EngineUnavailable(InfraError):
    """No engine answers (absent, stopped, restarted)."""


class EngineTooOld(EngineUnavailable):
    """The engine answers with an API version that is no longer supported."""

    transient = False


class EngineTimeout(InfraError):
    """The engine did not answer in time."""


class NotOnHost(InfraError):
    """The engine does not have the image, and `pull: never` forbids pulling it."""

    transient = False


class ImageRefused(InfraError):
    """The engine refused to load an image."""

    transient = False


class RegistryError(InfraError):
    """The registry refused or failed: 401, 403, 429, 5xx, or a broken transfer."""


class RegistryRefused(RegistryError):
    """The registry answered 400, 401, 403, 405 or the like, and will answer so again."""

    transient = False


class Unresolved(RegistryError):
    """The engine reports that there is no such image, but not whether the registry itself answered so."""


class NoSpace(InfraError):
    """A disk of the host is full."""

    transient = False


class CheckFailed(InfraError):
    """A check raised an exception of its own. `trace`: the traceback from the check's file on."""

    transient = False

    def __init__(self, problem: str, *, trace: str) -> None:
        super().__init__(problem)
        self.trace = trace


class BundleError(InfraError):
    """A runtime can't be built, or can't be delivered to an image."""

    transient = False


class RuntimeGone(InfraError):
    """A runtime was removed from the engine while it was in use. It is delivered again."""


class IsolationError(InfraError):
    """A container without a network has one, or its isolation can't be proven. `evidence`: what was observed."""

    def __init__(self, problem: str, *, evidence: dict[str, Any] | None = None) -> None:
        super().__init__(problem)
        self.evidence = evidence


class CommandError(TaskgateError):
    """A command in a container failed. `exit_code`: its exit status; `output`: what it printed."""

    def __init__(self, message: str, *, exit_code: int, output: str = "") -> None:
        super().__init__(message)
        self.exit_code, self.output = exit_code, output


class ScriptFailed(CommandError):
    """A command in a container ended with a status other than 0."""

    def __init__(self, exit_code: int, output: str) -> None:
        super().__init__(f"Script failed with exit code {exit_code}", exit_code=exit_code, output=output)


class CommandStopped(CommandError):
    """A command in a container was stopped: it printed too much, or was cancelled."""


class CommandTimeout(CommandStopped, TimeoutError):
    """A command in a container was stopped at its deadline."""


class CommandNotStarted(CommandError):
    """The engine could not start a command in a container. The message is the engine's."""


class CommandNotFound(CommandNotStarted, FileNotFoundError):
    """The container has no such program."""


class CommandNotPermitted(CommandNotStarted, PermissionError):
    """The file is not an executable program, or the user may not run it."""


class UserNotFound(CommandNotStarted, LookupError):
    """The container has no such user or group."""


class WorkdirNotFound(CommandNotStarted, FileNotFoundError):
    """The container has no such working directory."""


class NotCollected(InfraError):
    """The files of an ended agent could not be fetched. `later`: its container is kept; the next start tries again."""

    transient = False

    def __init__(self, problem: str, *, later: bool = False) -> None:
        super().__init__(problem)
        self.later = later


class AgentFailed(TaskgateError):
    """The agent produced no result, and is at fault itself."""


class Interrupted(TaskgateError):
    """The user asked to stop."""


class TransferError(TaskgateError):
    """A copy into or out of a container was refused: a conflict of file types, or a hostile or damaged archive."""


class PathNotFound(TransferError, FileNotFoundError):
    """There is no such file or directory."""


class PathIsDirectory(TransferError, IsADirectoryError):
    """A directory is where a file is needed."""


class PathNotDirectory(TransferError, NotADirectoryError):
    """Something other than a directory is where one is needed."""


class PathNotPermitted(TransferError, PermissionError):
    """The user may not read or write there."""


class PathTooLarge(TransferError):
    """There is more data than the caller allows."""


class BuildFailed(TaskgateError):
    """An image could not be built; `output` is what the build printed."""

    def __init__(self, problem: str, output: str) -> None:
        super().__init__(problem)
        self.output = output


class ContainerError(TaskgateError):
    """The engine refused to create or start a container; the message is the engine's."""
