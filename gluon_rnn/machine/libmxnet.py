"""The GPUs that the installed ``libmxnet.so`` has code for, read from the file itself without loading it.

A CUDA program holds its kernels in the ELF section ``.nv_fatbin``: one fat binary for each compiled source file, and in
it an entry for each architecture, either machine code (SASS) or PTX, which a driver compiles when it loads it.
"""

from __future__ import annotations

import importlib.util
import mmap
import os
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

#: Names a library that MXNet loads in place of its own.
LIBRARY_VARIABLE = "MXNET_LIBRARY_PATH"

#: Where NVIDIA's fat binaries begin, and the kinds of their entries: as ``fatbinary`` of CUDA 11 and 12 writes them.
_FATBIN = 0xBA55ED50
_PTX, _MACHINE_CODE = 1, 2

_FATBIN_HEADER_BYTES, _ENTRY_HEADER_BYTES = 16, 64

#: From the ELF specification: types of sections, and the tag of a needed library in the dynamic section.
_SHT_DYNAMIC, _SHT_NOBITS, _DT_NEEDED = 6, 8, 1
_ELF_HEADER_BYTES = 64

#: A GPU's compute capability, major and minor.
Capability = tuple[int, int]


@dataclass(frozen=True)
class GpuCode:
    """The architectures that kernels were compiled for.

    Attributes:
        machine_code: compute capabilities with machine code, which runs on GPUs of the same major version and of this
            minor version or a later one.
        ptx: compute capabilities with PTX, from which the driver makes code for any later GPU.
    """

    machine_code: frozenset[Capability] = frozenset()
    ptx: frozenset[Capability] = frozenset()

    def __bool__(self) -> bool:
        """Whether there is any code for a GPU."""
        return bool(self.machine_code or self.ptx)

    def __str__(self) -> str:
        """Such as ``5.0, 7.0, 8.6, no PTX``."""
        ptx = f"PTX {_listed(self.ptx)}" if self.ptx else "no PTX"
        return ", ".join([*([_listed(self.machine_code)] if self.machine_code else []), ptx])

    def serves(self, capability: Capability) -> bool:
        """Whether a GPU of this compute capability can run it."""
        major, minor = capability
        return any((major, minor) >= each and major == each[0] for each in self.machine_code) or any(
            capability >= each for each in self.ptx
        )


#: What ``mxnet-cu112`` 1.9.1, the CUDA build that this suite installs, was compiled for; read from its file.
CU112 = GpuCode(frozenset({(5, 0), (6, 0), (7, 0), (8, 0), (8, 6)}))


@dataclass(frozen=True)
class Library:
    """A ``libmxnet.so``.

    Attributes:
        path: of the file.
        code: for GPUs; empty in a build for the CPU.
        needed: names of the libraries that it is linked to.
    """

    path: Path
    code: GpuCode = GpuCode()
    needed: tuple[str, ...] = ()


def distributions() -> tuple[str, ...]:
    """The installed distributions that provide ``mxnet``, such as ``mxnet-cu112``; one overwrites the others' files."""
    names = {
        each.metadata["Name"]
        for each in metadata.distributions()
        if "mxnet" in (each.read_text("top_level.txt") or "").split()
    }
    return tuple(sorted(names))


def installed(*, environ: Mapping[str, str] = os.environ, package: Path | None = None) -> Library | None:
    """The library that ``import mxnet`` loads; None where there is none, or none that can be read.

    Args:
        environ: of the process that will import it.
        package: MXNet's folder. Default: where Python would import it from.
    """
    path = find(environ=environ, package=package)
    try:
        return read(path) if path else None
    except (OSError, ValueError):
        return None


def find(*, environ: Mapping[str, str] = os.environ, package: Path | None = None) -> Path | None:
    """Look for the library in the places and the order of ``find_lib_path`` in MXNet 1.9.1's ``libinfo.py``.

    Args:
        environ: where ``MXNET_LIBRARY_PATH``, which is ignored unless it is an absolute path, and ``LD_LIBRARY_PATH``
            are read.
        package: as for `installed`.
    """
    if (named := own_build(environ)) is not None:
        return named
    if package is None:
        spec = importlib.util.find_spec("mxnet")
        package = Path(spec.origin).parent if spec and spec.origin else None
    folders = [Path(entry.strip()) for entry in environ.get("LD_LIBRARY_PATH", "").split(":") if entry.strip()]
    if package is not None:
        folders += [package, package / "../../lib", package / "../../build"]
    return next((file for folder in folders if (file := folder / "libmxnet.so").is_file()), None)


def own_build(environ: Mapping[str, str]) -> Path | None:
    """The file that ``MXNET_LIBRARY_PATH`` names; None where MXNet ignores it, as it is unset, relative or missing."""
    named = Path(environ.get(LIBRARY_VARIABLE) or "-")
    return named if named.is_absolute() and named.is_file() else None


def read(path: Path) -> Library:
    """Read what the library at `path` was compiled for and linked to.

    Most of its fat binaries name the same architectures; one that was linked in from elsewhere may name others, and is
    not counted.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a 64-bit little-endian ELF file, or ends before it should.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size < _ELF_HEADER_BYTES:
            raise ValueError(f"{path} is not a library")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                sections = _sections(content)
                carried = Counter(code for section in sections for code in _fatbins(content, section))
                needed = tuple(name for section in sections for name in _needed(content, section, sections))
            except (struct.error, IndexError) as error:
                raise ValueError(f"{path} is damaged: {error}") from None
    return Library(path, max(carried, key=carried.__getitem__, default=GpuCode()), needed)


@dataclass(frozen=True)
class _Section:
    name: str
    kind: int
    at: int
    size: int
    link: int


def _sections(content: mmap.mmap) -> list[_Section]:
    """The sections of an ELF file that hold bytes, in their order; an empty one for each that does not."""
    if content[:6] != b"\x7fELF\x02\x01":  # 64 bits, little-endian
        raise ValueError("not a 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", content, 40)
    entry, count, names = struct.unpack_from("<HHH", content, 58)
    # name, type, flags, address, offset, size, link
    headers = [struct.unpack_from("<IIQQQQI", content, table + number * entry) for number in range(count)]
    names_at = headers[names][4]
    return [
        _Section(_text(content, names_at + name), kind, at, 0 if kind == _SHT_NOBITS else size, link)
        for name, kind, _, _, at, size, link in headers
    ]


def _fatbins(content: mmap.mmap, section: _Section) -> Iterator[GpuCode]:
    """The code of each fat binary in a section ``.nv_fatbin``; nothing of another section."""
    if section.name != ".nv_fatbin":
        return
    at, end = section.at, section.at + section.size
    while (at := content.find(struct.pack("<I", _FATBIN), at, end)) >= 0:
        header, size = struct.unpack_from("<HQ", content, at + 6)
        at, stop = at + header, at + header + size
        if header < _FATBIN_HEADER_BYTES or stop > end:
            raise ValueError(f"a fat binary of {size} bytes does not fit into its section")
        carried: dict[int, set[Capability]] = {_PTX: set(), _MACHINE_CODE: set()}
        while at < stop:
            # kind, flags, size of this header, size of what follows it
            kind, _, header, size = struct.unpack_from("<HHIQ", content, at)
            (architecture,) = struct.unpack_from("<I", content, at + 28)  # 86 is 8.6, 100 is 10.0
            if header < _ENTRY_HEADER_BYTES:
                raise ValueError(f"an entry of a fat binary has a header of {header} bytes")
            carried.setdefault(kind, set()).add(divmod(architecture, 10))
            at += header + size
        if carried[_PTX] or carried[_MACHINE_CODE]:
            yield GpuCode(frozenset(carried[_MACHINE_CODE]), frozenset(carried[_PTX]))


def _needed(content: mmap.mmap, section: _Section, sections: list[_Section]) -> Iterator[str]:
    """The libraries that the dynamic section names; nothing of another section."""
    if section.kind != _SHT_DYNAMIC:
        return
    for at in range(section.at, section.at + section.size, 16):
        tag, value = struct.unpack_from("<qQ", content, at)
        if tag == _DT_NEEDED:
            yield _text(content, sections[section.link].at + value)


def _text(content: mmap.mmap, at: int) -> str:
    end = content.find(b"\0", at)
    if end < 0:
        raise ValueError("a name has no end")
    return content[at:end].decode(errors="replace")


def _listed(capabilities: frozenset[Capability]) -> str:
    return ", ".join(written(each) for each in sorted(capabilities))


def written(capability: Capability) -> str:
    """As NVIDIA writes it: ``8.6``."""
    return f"{capability[0]}.{capability[1]}"
