"""Every error that taskgate raises on purpose: one small tree.

`UsageError` is a mistake in what the user gave (exit status 4). `ImageError` says something of the image.
`InfraError` says that nothing is known of the image: it is retried, and never recorded against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class TaskgateError(Exception):
    """The root of the tree."""


class UsageError(TaskgateError):
    """What the user gave can't be used. `str()` names the file, line and field as far as they are known."""

    def __init__(
        self,
        problem: str,
        *,
        file: str | None = None,
        line: int | None = None,
        field: str | None = None,
        others: Sequence[str] = (),
    ) -> None:
        """`others`: further mistakes, a line each."""
        self.problem, self.file, self.line, self.field = problem, file, line, field
        place = ":".join(str(part) for part in (file, line) if part is not None)
        first = ": ".join(part for part in (place, field, problem) if part)
        super().__init__("\n".join((first, *others)))


class ManifestError(UsageError):
    """The manifest can't be read, or breaks a rule of its format."""


class SkipListError(UsageError):
    """The skip list (file or database) can't be read or written."""


class ImageError(TaskgateError):
    """The image is at fault, and would be again."""


class ImageNotFound(ImageError):
    """The registry answered that there is no such image, or no registry could have one of that name."""


class ImageChanged(TaskgateError):
    """The image's name stands for another build now than the one that was judged."""


class PlatformUnavailable(TaskgateError):
    """This host can't run the image: the verdict is `incompatible`."""


class StartFailed(ImageError):
    """The engine created the container but couldn't start it. `cause`: user, shell, platform or image.

    `needs_confirmation`: a busy host may be the reason as well.
    """

    def __init__(self, reason: str, *, cause: str, output: str = "", needs_confirmation: bool = False) -> None:
        super().__init__(reason)
        self.cause, self.output, self.needs_confirmation = cause, output, needs_confirmation


class InfraError(TaskgateError):
    """Engine, registry, network, disk or this program failed.

    `transient`: worth another try. `patience`: seconds after which it is no longer; None: as long as others are tried.
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
    """An engine answers in a way that nobody here understands any more."""

    transient = False


class EngineTimeout(InfraError):
    """The engine did not answer in time."""


class NotOnHost(InfraError):
    """The engine does not have the image, and `pull: never` forbids asking a registry for it."""

    transient = False


class ImageRefused(InfraError):
    """The engine refused to load an image that was sent to it."""

    transient = False


class RegistryError(InfraError):
    """The registry refused or failed: 401, 403, 429, 5xx, a broken transfer."""


class RegistryRefused(RegistryError):
    """The registry answered 400, 401, 403, 405 or the like, and would do so again."""

    transient = False


class Unresolved(RegistryError):
    """The engine was told that there is no such image, and doesn't tell whether the registry itself said so."""


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
    """A runtime can't be built, or can't be brought into an image."""

    transient = False


class RuntimeGone(InfraError):
    """Somebody removed a runtime from the engine while it was in use. It is brought there again."""


class IsolationError(InfraError):
    """A container that must be cut off from every network is not, or it can't be proven. `evidence`: what was seen."""

    def __init__(self, problem: str, *, evidence: dict[str, Any] | None = None) -> None:
        super().__init__(problem)
        self.evidence = evidence


class CommandError(TaskgateError):
    """A command in a container did not end with status 0. `exit_code`: its status; `output`: what it printed."""

    def __init__(self, message: str, *, exit_code: int, output: str = "") -> None:
        super().__init__(message)
        self.exit_code, self.output = exit_code, output


class ScriptFailed(CommandError):
    """A command in a container ended with another status than 0."""

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
    """The files of an agent that has ended could not be fetched. `later`: its container is kept for the next start."""

    transient = False

    def __init__(self, problem: str, *, later: bool = False) -> None:
        super().__init__(problem)
        self.later = later


class AgentFailed(TaskgateError):
    """The agent did not come to a result, and that is its own doing."""


class Interrupted(TaskgateError):
    """The user asked to stop."""


class TransferError(TaskgateError):
    """A copy into or out of a container was refused: a conflict of file types, or a hostile or damaged archive."""


class PathNotFound(TransferError, FileNotFoundError):
    """There is no such file or directory."""


class PathIsDirectory(TransferError, IsADirectoryError):
    """A directory is where a file is needed."""


class PathNotDirectory(TransferError, NotADirectoryError):
    """Something else is where a directory is needed."""


class PathNotPermitted(TransferError, PermissionError):
    """The user may not read or write there."""


class PathTooLarge(TransferError):
    """There is more data than the caller allows."""


class BuildFailed(TaskgateError):
    """An image could not be built; `output` is what the build said."""

    def __init__(self, problem: str, output: str) -> None:
        super().__init__(problem)
        self.output = output


class ContainerError(TaskgateError):
    """The engine would not make or start a container; the text holds its words."""
