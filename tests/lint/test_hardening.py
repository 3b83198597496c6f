"""The programs as they were built: what CMakeLists.txt asks for is in them."""

import platform
import subprocess

import pytest

PROGRAMS = ("siftmesh", "siftmesh-broker", "siftmesh-cacher", "siftmesh-extractor",
            "siftmesh-gateway", "siftmesh-monitor", "siftmesh-slot")


def readelf(program, *options):
    return subprocess.run(["readelf", "-W", *options, str(program)], capture_output=True,
                          text=True, check=True).stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_hardened(root, name):
    program = root / "build/release/bin" / name
    assert program.exists(), f"{program} is not built"
    assert "DYN (" in readelf(program, "-h"), "it is at a fixed address"
    assert "GNU_RELRO" in readelf(program, "-l"), "its tables can be written to"
    dynamic = readelf(program, "-d")
    assert "BIND_NOW" in dynamic or "NOW" in dynamic, "its table of functions can be"
    symbols = readelf(program, "--dyn-syms")
    assert "__stack_chk_fail" in symbols, "no stack protector"
    assert "_chk@" in symbols.replace("__stack_chk_fail", ""), "no _FORTIFY_SOURCE"


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_name_no_folder_of_their_builder(root, name):
    assert str(root).encode() not in (root / "build/release/bin" / name).read_bytes()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="an instruction of x86")
def test_indirect_jumps_have_marked_targets(root):
    libraries = sorted((root / "build/release/lib").glob("libsm*.a"))
    assert len(libraries) > 5, "none is built"
    for library in libraries:
        for note in readelf(library, "-n").split("File: ")[1:]:
            name = note.splitlines()[0]
            assert "IBT" in note or "Displaying notes" not in note, name
