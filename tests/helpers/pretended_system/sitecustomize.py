"""Shows the project's modules Windows or macOS (``PRETENDED_SYSTEM``), in this process and in those that it starts.

Python imports this file at its start where its folder is on PYTHONPATH. Only the project's own modules see the change:
the libraries lack nothing, as their builds for those systems do not. What the modules import lacks what it lacks there
(typeshed's stubs say so). On Windows the disk also refuses to open folders, to flush files that are open for reading
only, to replace or delete open files, and names with a colon.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from types import FrameType, ModuleType, SimpleNamespace
from typing import Any

_ROOT = Path(__file__).resolve().parents[3]
_OWN = tuple(f"{_ROOT / room}{os.sep}" for room in ("shards", "facegen", "eval", "tuning"))
_BETWEEN = ("os.py", "pathlib.py", "_local.py", "shutil.py", "tempfile.py", "contextlib.py", "weakref.py")
"""Files of the standard library through which a module of the project reaches the disk."""

_NOT_ON_MACOS = {
    "os": "posix_fallocate posix_fadvise sched_getaffinity sched_setaffinity memfd_create O_TMPFILE O_DIRECT O_PATH",
    "signal": "sigtimedwait sigwaitinfo SIGPWR SIGPOLL",
    "mmap": "",
    "sys": "",
    "socket": "",
}
_NOT_ON_WINDOWS = {
    "os": f"{_NOT_ON_MACOS['os']} pread preadv pwrite pwritev readv writev fork forkpty wait killpg getpgid getpgrp "
    "setpgid setsid getsid getuid geteuid getgid getegid getgroups setuid setgid chown lchown fchown fchmod statvfs "
    "fstatvfs getloadavg nice getpriority uname mkfifo mknod sync fdatasync sendfile openpty ttyname sysconf pathconf "
    "chroot lockf O_NOFOLLOW O_NONBLOCK O_CLOEXEC O_DIRECTORY O_SYNC O_DSYNC O_NOCTTY WNOHANG",
    "signal": "SIGUSR1 SIGUSR2 SIGHUP SIGQUIT SIGKILL SIGALRM SIGCHLD SIGPIPE alarm pause setitimer siginterrupt "
    "pthread_sigmask pthread_kill sigwait sigpending",
    "mmap": "MADV_DONTNEED MADV_RANDOM MADV_SEQUENTIAL MADV_WILLNEED PROT_READ PROT_WRITE MAP_SHARED MAP_PRIVATE",
    "sys": "",
    "socket": "AF_UNIX socketpair",
}
_UNKNOWN_ON_WINDOWS = ("fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "syslog")
_F_FULLFSYNC = 51
_O_BINARY = 0x8000


class _Pretended(ModuleType):
    """A module with some names replaced and others taken away; what is set goes to the real module."""

    def __init__(self, real: ModuleType, missing: str, **replaced: Any) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(_real=real, _missing=frozenset(missing.split()), **replaced)

    def __getattr__(self, name: str) -> Any:
        if name in self._missing:
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}' on this system", name=name)
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)


def _lock(descriptor: int, mode: int, num_bytes: int) -> None:
    assert (mode, num_bytes) == (2, 1)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PermissionError(errno.EACCES, "Permission denied") from None


def _flush(descriptor: int) -> None:
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    os.fsync(descriptor)


def _set_times(path: Any, *arguments: Any, **options: Any) -> None:
    if isinstance(path, int):
        raise TypeError("utime: path should be string, bytes or os.PathLike, not int")
    os.utime(path, *arguments, **options)


def _control(descriptor: int, command: int) -> None:
    assert command == _F_FULLFSYNC
    os.fsync(descriptor)


def _usage(who: int) -> SimpleNamespace:
    return SimpleNamespace(ru_maxrss=1024 * resource.getrusage(who).ru_maxrss)


def _windows() -> dict[str, Any]:
    import mmap
    import signal
    import socket

    memory = SimpleNamespace(peak_wset=300 * 2**20)
    pretended = {
        "os": dict(name="nt", supports_fd=set(), utime=_set_times, fsync=_flush, O_BINARY=_O_BINARY),
        "sys": dict(platform="win32"),
        "signal": dict(SIGBREAK=signal.SIGUSR2),
    }
    real = {"os": os, "sys": sys, "signal": signal, "mmap": mmap, "socket": socket}
    modules: dict[str, Any] = {
        name: _Pretended(module, _NOT_ON_WINDOWS[name], **pretended.get(name, {})) for name, module in real.items()
    }
    modules |= dict.fromkeys(_UNKNOWN_ON_WINDOWS)
    modules["msvcrt"] = SimpleNamespace(locking=_lock, LK_NBLCK=2)
    modules["psutil"] = SimpleNamespace(Process=lambda: SimpleNamespace(memory_info=lambda: memory))
    return modules


def _macos() -> dict[str, Any]:
    import signal

    return {
        "os": _Pretended(os, _NOT_ON_MACOS["os"]),
        "signal": _Pretended(signal, _NOT_ON_MACOS["signal"]),
        "sys": _Pretended(sys, "", platform="darwin"),
        "fcntl": _Pretended(fcntl, "", F_FULLFSYNC=_F_FULLFSYNC, fcntl=_control),
        "resource": _Pretended(resource, "", getrusage=_usage),
    }


def _install(modules: dict[str, Any]) -> None:
    """Gives the modules of the project other ones than they ask for; None is one that is not there."""
    real_import = builtins.__import__

    def imported(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if level or name.partition(".")[0] not in modules or not _is_own((globals or {}).get("__file__")):
            return real_import(name, globals, locals, fromlist, level)
        if modules[name.partition(".")[0]] is None:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return modules[name] if name in modules else real_import(name, globals, locals, fromlist, level)

    builtins.__import__ = imported


def _is_own(file: Any) -> bool:
    return isinstance(file, str) and file.startswith(_OWN)


def _asked_by_project(frame: FrameType | None) -> bool:
    """Whether a module of the project reaches the disk here, itself or through the standard library."""
    while frame is not None and os.path.basename(frame.f_code.co_filename) in _BETWEEN:
        if frame.f_code.co_name == "TemporaryFile":  # On Windows such a file has a name, and is deleted when it closes.
            return False
        frame = frame.f_back
    return frame is not None and _is_own(frame.f_code.co_filename)


def _check(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuses what Windows refuses."""
    if event not in _EVENTS or not _asked_by_project(sys._getframe().f_back):
        return
    paths = [os.fsdecode(path) for path in arguments[:2] if isinstance(path, str | bytes | os.PathLike)]
    if event == "open":
        paths = paths[:1] if isinstance(arguments[0], str | bytes | os.PathLike) else []
        for path in paths:
            if path.startswith("/proc/"):
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
            if os.path.isdir(path):
                raise PermissionError(errno.EACCES, "Permission denied", path)
    elif event in ("os.rename", "os.remove"):
        in_use = _open_files()
        for path in map(os.path.realpath, paths):
            if any(file == path or file.startswith(f"{path}/") for file in in_use):
                raise PermissionError(errno.EACCES, "The process cannot access the file, as it is being used", path)
    for path in paths:
        if set('<>:"|?*') & set(path):
            raise OSError(errno.EINVAL, "Invalid argument", path)


def _open_files() -> set[str]:
    """Files that this process has open or mapped."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:  # That of the list itself.
            continue
    descriptor = os.open("/proc/self/maps", os.O_RDONLY)
    with open(descriptor, "rb") as file:
        found |= {os.fsdecode(line.split(maxsplit=5)[5].strip()) for line in file if line.count(b"/")}
    return found


_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir")
_SYSTEM = os.environ.get("PRETENDED_SYSTEM")
if _SYSTEM == "Windows":
    shutil._use_fd_functions = False  # type: ignore[attr-defined] - it opens folders
    tempfile._O_TMPFILE_WORKS = False  # type: ignore[attr-defined]
    _install(_windows())
    sys.addaudithook(_check)
elif _SYSTEM == "Darwin":
    _install(_macos())
elif _SYSTEM:
    raise SystemExit(f"PRETENDED_SYSTEM is Windows or Darwin, not {_SYSTEM}")
