"""Files that a person names: read whole and bounded, and written whole or not at all.

A second-hand file may be anything: missing, a folder, endless, without end of line. A target may be a link, a device,
a pipe, a file with mode bits of its own. Every error says which.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

from planner.errors import InputError, Mistake, Place
from planner.inputs.pipes import is_pipe, read_pipe

OUT = "--out"
"""Option that names the file, unless another one does."""
STANDARD_INPUT = "<stdin>"
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)


def read_bytes(path: str | os.PathLike[str], where: Place | None = None, *, most_bytes: int) -> bytes:
    """The content of a file; `-` is standard input. `where` is what names it: by default the file itself.

    Raises InputError where it cannot be read, is a folder or a pipe that nobody writes into, or holds more than
    `most_bytes`.
    """
    name = os.fspath(path)
    shown = STANDARD_INPUT if name == "-" else name
    place = where or Place(shown)
    try:
        if name == "-":
            raw = _standard_input(most_bytes + 1)
        elif is_pipe(name):
            raw = read_pipe(name, most_bytes + 1)
        else:
            with open(name, "rb") as stream:
                raw = stream.read(most_bytes + 1)
    except FileNotFoundError:
        raise InputError(Mistake(f"{shown}: no such file", place)) from None
    except IsADirectoryError:
        raise InputError(Mistake(f"{shown} is a folder, not a file", place)) from None
    except (OSError, ValueError) as error:
        raise InputError(Mistake(f"cannot read {shown}", place, _reason(error))) from None
    if len(raw) > most_bytes:
        size = f"{most_bytes // 1024} KiB" if most_bytes < 1024**2 else f"{most_bytes // 1024**2} MiB"
        raise InputError(Mistake(f"{shown} is larger than {size}", place, "no such file needs more"))
    return raw


def beginning(path: str, count: int) -> bytes:
    """The first bytes of a file; none where it cannot be read. Raises InputError for a pipe that cannot be."""
    piped = is_pipe(path)
    try:
        if piped:
            return read_pipe(path, count)
        with open(path, "rb") as stream:
            return stream.read(count)
    except (OSError, ValueError) as error:
        if piped:
            raise InputError(Mistake(f"cannot read {path}", Place(path), _reason(error))) from None
        return b""


def _standard_input(most_bytes: int) -> bytes:
    """Raises OSError where it is closed."""
    if sys.stdin is None:
        raise OSError(errno.EBADF, "standard input is closed")
    return sys.stdin.buffer.read(most_bytes)


def read_lenient(path: str | os.PathLike[str], where: Place | None = None, *, most_bytes: int) -> str:
    """The text of a log, in which single bytes may be damaged. Raises InputError like `read_bytes`."""
    return read_bytes(path, where, most_bytes=most_bytes).decode("utf-8-sig", errors="replace")


def refuse_target(
    path: str, force: bool, *, folder: bool = False, attempt: str = "without --out: ... > {}", option: str = OUT
) -> None:
    """Raise InputError where `write_text` would, before any work is done: the file exists, or is no file.

    `folder` says that several files may be written into a folder of that name. `attempt` is what to try in place of a
    device or a pipe. `option` is the one that names the file.
    """
    if not path:
        raise InputError(_cannot("a file without a name", f"{option} names none", option=option))
    try:
        kind = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        kind = None
    except (OSError, ValueError) as error:
        raise InputError(_cannot(path, _reason(error), option=option)) from None
    if kind is not None and stat.S_ISDIR(kind):
        if not folder:
            raise InputError(_cannot(path, "it is a folder", "the name of a file", option=option))
        return
    if kind is not None and not stat.S_ISREG(kind):
        raise InputError(_cannot(path, "it is a device or a pipe, not a file", attempt.format(path), option=option))
    if not force and os.path.lexists(path):
        raise InputError(exists_already(path, option))
    if kind is not None and not os.access(path, os.W_OK):
        raise InputError(_cannot(path, os.strerror(errno.EACCES), option=option))
    parent = Path(_real(path, option)).parent
    if not folder and not parent.is_dir():
        raise InputError(_cannot(path, f"{parent} is no folder", option=option))


def exists_already(path: str, option: str = OUT) -> Mistake:
    """What to say of a file that the option would replace."""
    because = f"{option} never overwrites a file"
    return Mistake(f"{path} exists already", Place(option), because, "--force, or another file name")


def write_text(path: str, text: str, *, force: bool = False, option: str = OUT) -> None:
    """Write a text file; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"), force=force, option=option)


def write_bytes(path: str, content: bytes, *, force: bool = False, option: str = OUT) -> None:
    """Write a file whole or not at all: beside it first, then in its place.

    A link is written through, an existing file keeps its mode bits. Raises InputError where the file exists and `force`
    is off, where it is a folder, a device or a pipe, or where it cannot be written.
    """
    import tempfile

    refuse_target(path, force, option=option)
    target = _real(path, option)
    scratch: str | None = None
    try:
        handle, scratch = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".planner.")
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.chmod(scratch, _mode(target))
        if force or not _linked(scratch, target):
            os.replace(scratch, target)
            scratch = None
    except FileExistsError:
        raise InputError(exists_already(path, option)) from None
    except (OSError, ValueError) as error:
        raise InputError(_cannot(path, _reason(error), option=option)) from None
    finally:
        if scratch is not None:
            os.unlink(scratch)


def write_folder(folder: str, texts: dict[str, str], *, force: bool = False) -> None:
    """Write files into a folder that is made where it is missing; nothing is written where one of them exists.

    Raises InputError like `write_text`.
    """
    paths = {name: os.path.join(folder, name) for name in texts}
    for path in paths.values():
        refuse_target(path, force, folder=True)
    for name, path in paths.items():
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        except OSError as error:
            raise InputError(_cannot(folder, _reason(error))) from None
        write_text(path, texts[name], force=force)


def _real(path: str, option: str) -> str:
    """Where a file truly stands. Raises InputError where the working folder is no more."""
    try:
        return os.path.realpath(path)
    except OSError as error:
        raise InputError(_cannot(path, f"the working folder: {_reason(error)}", option=option)) from None


def _linked(scratch: str, target: str) -> bool:
    """Give the file its name unless another has it; False where the file system has no links.

    Raises FileExistsError.
    """
    try:
        os.link(scratch, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        return False
    return True


def _mode(target: str) -> int:
    """Mode bits of the file, or of a new one."""
    try:
        return stat.S_IMODE(os.stat(target).st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _cannot(path: str, because: str, attempt: str | None = None, *, option: str = OUT) -> Mistake:
    return Mistake(f"cannot write {path}", Place(option), because, attempt)


def yaml_files(folder: Path) -> dict[str, Path]:
    """Files of entries by name, sorted; none where there is no such folder, or it cannot be read."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return {}
    return {name.removesuffix(".yaml"): folder / name for name in names if name.endswith(".yaml")}
