"""Replicates a run's directory; a `Change` holds what to apply on the other side."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gluon_rnn.common.files import append, write_atomically
from gluon_rnn.runs.job import BEST, CHECKPOINT, VOCABULARY

_STATE = f"{CHECKPOINT}/state.json"
#: Besides the checkpoint and the log; a run without the last is not done.
_OTHERS = (VOCABULARY, "epochs.csv", "progress.json", "record.json")
#: What a run that has ended has no more.
_PASSING = (CHECKPOINT, "progress.json")


@dataclass(frozen=True)
class Change:
    """Changes in a run's directory.

    Attributes:
        log: what was appended to log.txt.
        files: complete contents by path, in the order in which they must be written.
        gone: paths that were removed.
    """

    log: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)
    gone: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.log or self.files or self.gone)

    def apply(self, directory: Path) -> None:
        """Apply the changes to `directory`; a kill at any moment leaves a complete checkpoint."""
        if self.log:
            append(directory / "log.txt", self.log)
        for name, content in self.files.items():
            path = directory / name
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, content)
        if _STATE in self.files:
            for path in (directory / CHECKPOINT).iterdir():
                if f"{CHECKPOINT}/{path.name}" not in self.files:
                    path.unlink()
        for name in self.gone:
            path = directory / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


class Mirror:
    """Watches a run's directory for changes.

    Args:
        directory: of the run; it exists.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: dict[str, tuple[int, int]] = {}
        self._log_read = 0

    def changes(self, *, ended: bool = False) -> Change:
        """The changes since the last call; all content on the first call.

        Args:
            ended: whether the run has ended; only then its record and removed files are included.
        """
        files = self._checkpoint() if self._is_new(_STATE) else {}
        if (files or ended) and self._is_new(BEST):
            # Before the checkpoint that counts on it.
            files = self._read(BEST) | files
        for name in _OTHERS if ended else _OTHERS[:-1]:
            if self._is_new(name):
                files |= self._read(name)
        gone = tuple(name for name in _PASSING if ended and not (self._directory / name).exists())
        return Change(self._new_log(), files, gone)

    def checkpoint(self) -> Change:
        """The files that another machine needs to resume the run."""
        files = self._checkpoint()
        return Change(files=self._read(BEST) | files) if files else Change()

    def _checkpoint(self) -> dict[str, bytes]:
        """The checkpoint, ``state.json`` last; empty if there is none or the next one is being written."""
        files = {}
        with suppress(FileNotFoundError):
            stamp = self._stamp(_STATE)
            paths = [path for path in (self._directory / CHECKPOINT).iterdir() if not path.name.startswith(".")]
            for path in sorted(paths, key=lambda path: path.name == Path(_STATE).name):
                files[f"{CHECKPOINT}/{path.name}"] = path.read_bytes()
            if self._stamp(_STATE) == stamp:
                self._seen[_STATE] = stamp
                return files
        return {}

    def _read(self, name: str) -> dict[str, bytes]:
        with suppress(FileNotFoundError):
            stamp = self._stamp(name)
            content = (self._directory / name).read_bytes()
            self._seen[name] = stamp
            return {name: content}
        return {}

    def _is_new(self, name: str) -> bool:
        try:
            return self._stamp(name) != self._seen.get(name)
        except FileNotFoundError:
            return False

    def _stamp(self, name: str) -> tuple[int, int]:
        """A value that changes when a file is replaced."""
        status = (self._directory / name).stat()
        return status.st_ino, status.st_mtime_ns

    def _new_log(self) -> bytes:
        with suppress(FileNotFoundError), (self._directory / "log.txt").open("rb") as log:
            log.seek(self._log_read)
            content = log.read()
            self._log_read += len(content)
            return content
        return b""
