"""What a library has for GPUs, read from ELF files that are made here."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from gluon_rnn.machine import libmxnet
from gluon_rnn.machine.libmxnet import CU112, GpuCode

MACHINE_CODE, PTX, LATER_KIND = 2, 1, 16


def entry(kind: int, architecture: int, *, payload: int = 24, header: int = 64) -> bytes:
    """One entry of a fat binary, as ``fatbinary`` writes it: kind, sizes, the code's version, the architecture."""
    begin = struct.pack("<HHIQIIHHI", kind, 0x0101, header, payload, 0, 0, 7, 1, architecture)
    return begin.ljust(header, b"\0") + b"\xba" * payload


def fatbin(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def elf(
    path: Path, fatbins: bytes = b"", *, needed: tuple[str, ...] = (), section: str = ".nv_fatbin", kind: int = 1
) -> Path:
    """Write a shared library's headers, with these fat binaries in a section and these names in its dynamic section."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    tags = [(1, strings.index(name.encode() + b"\0")) for name in needed] + [(0, 0)]
    sections = [
        ("", 0, b"", 0),
        (section, kind, fatbins, 0),
        (".dynstr", 3, strings, 0),
        (".dynamic", 6, b"".join(struct.pack("<qQ", *tag) for tag in tags), 2),
    ]
    names = b"\0".join(name.encode() for name, *_ in sections) + b"\0.shstrtab\0"
    sections.append((".shstrtab", 3, names, 0))
    body, headers = b"", b""
    for name, type_, content, link in sections:
        at = names.index(name.encode() + b"\0") if name else 0
        headers += struct.pack("<IIQQQQIIQQ", at, type_, 0, 0, 64 + len(body), len(content), link, 0, 1, 0)
        body += content
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, len(sections), len(sections) - 1
    )
    path.write_bytes(header + body + headers)
    return path


def code(*machine_code: tuple[int, int], ptx: tuple[tuple[int, int], ...] = ()) -> GpuCode:
    return GpuCode(frozenset(machine_code), frozenset(ptx))


@pytest.mark.parametrize(
    ("fatbins", "held", "written"),
    [
        (fatbin(entry(MACHINE_CODE, 86), entry(MACHINE_CODE, 50)), code((5, 0), (8, 6)), "5.0, 8.6, no PTX"),
        (fatbin(entry(MACHINE_CODE, 90), entry(PTX, 90)), code((9, 0), ptx=((9, 0),)), "9.0, PTX 9.0"),
        (fatbin(entry(MACHINE_CODE, 120), entry(PTX, 100)), code((12, 0), ptx=((10, 0),)), "12.0, PTX 10.0"),
        (fatbin(entry(PTX, 70, header=72)), code(ptx=((7, 0),)), "PTX 7.0"),
        # A kind of entry that is not known is passed over.
        (fatbin(entry(LATER_KIND, 100), entry(MACHINE_CODE, 80)), code((8, 0)), "8.0, no PTX"),
        (fatbin(), code(), "no PTX"),
        (b"", code(), "no PTX"),
    ],
)
def test_architectures_are_read_from_the_file(tmp_path: Path, fatbins: bytes, held: GpuCode, written: str) -> None:
    library = libmxnet.read(elf(tmp_path / "lib.so", fatbins, needed=("libcudart.so.11.0", "libcudnn.so.8")))
    assert (library.code, str(library.code)) == (held, written)
    assert bool(library.code) is bool(held.machine_code or held.ptx)
    assert library.needed == ("libcudart.so.11.0", "libcudnn.so.8")


def test_most_fat_binaries_decide_and_gaps_between_them_are_passed_over(tmp_path: Path) -> None:
    own, linked_in = fatbin(entry(MACHINE_CODE, 80, payload=40)), fatbin(entry(MACHINE_CODE, 35), entry(PTX, 35))
    library = libmxnet.read(elf(tmp_path / "lib.so", linked_in + own + b"\0" * 24 + own + linked_in + own))
    assert library.code == code((8, 0))


def test_code_elsewhere_than_in_the_section_is_none(tmp_path: Path) -> None:
    fatbins = fatbin(entry(MACHINE_CODE, 80))
    assert not libmxnet.read(elf(tmp_path / "lib.so", fatbins, section=".rodata")).code
    # A file of debugging symbols has the section's header, and no bytes of it.
    assert not libmxnet.read(elf(tmp_path / "lib.so", fatbins, kind=8)).code


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a library"),
        (b"not a library".ljust(100), "not a 64-bit little-endian ELF file"),
        (b"\x7fELF\x01\x01".ljust(100, b"\0"), "not a 64-bit"),
        (fatbin(entry(MACHINE_CODE, 80))[:-1], "does not fit into its section"),
        (struct.pack("<IHHQ", 0xBA55ED50, 1, 0, 0), "does not fit into its section"),
        (fatbin(entry(MACHINE_CODE, 80, header=0, payload=8).ljust(64, b"\0")), "header of 0 bytes"),
    ],
)
def test_damaged_files_are_refused_and_not_read_for_ever(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "libmxnet.so"
    if content.startswith(struct.pack("<I", 0xBA55ED50)):
        elf(path, content)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        libmxnet.read(path)
    assert libmxnet.installed(environ={}, package=tmp_path) is None


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    whole = elf(tmp_path / "libmxnet.so", fatbin(entry(MACHINE_CODE, 80)), needed=("libc.so.6",)).read_bytes()
    (tmp_path / "libmxnet.so").write_bytes(whole[:-40])
    with pytest.raises(ValueError, match="is damaged"):
        libmxnet.read(tmp_path / "libmxnet.so")


@pytest.mark.parametrize(
    ("held", "served", "not_served"),
    [
        (CU112, [(5, 0), (5, 2), (6, 1), (7, 5), (8, 6), (8, 9)], [(3, 7), (9, 0), (10, 0), (12, 0)]),
        # Machine code is for later minor versions only, PTX for everything later.
        (code((8, 6)), [(8, 6), (8, 9)], [(8, 0), (9, 0)]),
        (code((8, 6), ptx=((8, 6),)), [(8, 6), (9, 0), (12, 0)], [(8, 0), (7, 5)]),
        (code(ptx=((7, 0),)), [(7, 0), (7, 5), (12, 0)], [(6, 1)]),
        (code(), [], [(8, 0)]),
    ],
)
def test_a_gpu_is_served_by_its_machine_code_or_by_ptx(
    held: GpuCode, served: list[tuple[int, int]], not_served: list[tuple[int, int]]
) -> None:
    assert [each for each in [*served, *not_served] if held.serves(each)] == served


def test_the_library_is_looked_for_where_mxnet_looks(tmp_path: Path) -> None:
    package, other, own = (tmp_path / name for name in ("mxnet/python/mxnet", "other", "own"))
    for folder in (package, other, own, tmp_path / "mxnet" / "build"):
        folder.mkdir(parents=True)

    def found(**environ: str) -> Path | None:
        path = libmxnet.find(environ=environ, package=package)
        return path and path.resolve()

    assert found() is None
    built = elf(tmp_path / "mxnet" / "build" / "libmxnet.so")
    assert found() == built
    beside = elf(package / "libmxnet.so", fatbin(entry(MACHINE_CODE, 80)))
    assert found() == found(LD_LIBRARY_PATH=f"{other}: ") == beside
    on_path = elf(other / "libmxnet.so")
    assert found(LD_LIBRARY_PATH=f"/nowhere:{other}") == on_path
    named = elf(own / "mine.so", fatbin(entry(MACHINE_CODE, 90)))
    assert found(LD_LIBRARY_PATH=str(other), MXNET_LIBRARY_PATH=str(named)) == named
    library = libmxnet.installed(environ={"MXNET_LIBRARY_PATH": str(named)}, package=package)
    assert library is not None
    assert library.code == code((9, 0))
    # MXNet warns of these and goes on.
    for ignored in ("", "mine.so", str(own / "missing.so"), str(own)):
        assert found(MXNET_LIBRARY_PATH=ignored) == beside


def test_the_installed_build_for_the_cpu_has_no_code_for_gpus() -> None:
    library = libmxnet.installed(environ={})
    assert library is not None
    assert (library.path.name, bool(library.code)) == ("libmxnet.so", False)
    assert "libgomp.so.1" in library.needed
    assert libmxnet.distributions() == ("mxnet",)
