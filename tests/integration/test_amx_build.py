"""The tile configuration of AMX is whole in the machine code, which also machines without AMX can see."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import llama_cpp
import pytest

from tests.support.tile_stores import NEEDED, disassemble, distinct_files, missing_stores

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
OBJECT = "vendor/llama.cpp/ggml/src/CMakeFiles/ggml-cpu-sapphirerapids.dir/ggml-cpu/amx/mmq.cpp.o"
PLUG_INS = ("-DGGML_NATIVE=OFF", "-DGGML_BACKEND_DL=ON", "-DGGML_CPU_ALL_VARIANTS=ON")

_UNUSED = re.compile(r"[^/]+/vendor/llama.cpp/(docs|models)/")
"""The greater part of the archive."""

BEFORE = """
0000000000027ed0 <ggml_backend_amx_mul_mat>:
   2825e:	vpxor  %xmm0,%xmm0,%xmm0
   28262:	vmovdqa64 %zmm0,0xc0(%rsp)
   2826a:	movb   $0x1,0xc0(%rsp)
   28272:	ldtilecfg 0xc0(%rsp)
"""
"""What GCC 12 makes of llama.cpp as it is."""

AFTER = """
0000000000027ed0 <ggml_backend_amx_mul_mat>:
   2825e:	vpxor  %xmm0,%xmm0,%xmm0
   28262:	vmovdqa64 %zmm0,0xc0(%rsp)
   2826a:	mov    0x0(%rip),%rdx        # 28271 <ggml_backend_amx_mul_mat+0x341>
   28271:	vmovdqa 0x0(%rip),%xmm0        # 28279 <ggml_backend_amx_mul_mat+0x349>
   28279:	movb   $0x1,0xc0(%rsp)
   28281:	mov    %rdx,0xf0(%rsp)
   28289:	vmovdqa %xmm0,0xd0(%rsp)
   28292:	ldtilecfg 0xc0(%rsp)
"""


def test_stores_that_are_missing_are_seen() -> None:
    assert missing_stores(BEFORE) == [set(NEEDED) - {0}]
    assert missing_stores(AFTER) == [set()]


@pytest.mark.timeout(400)
def test_the_build_stores_all_of_the_tile_configuration(tmp_path: Path) -> None:
    """As in an image, whose plug-in for such CPUs is the same on every machine that compiles it."""
    if platform.machine() != "x86_64" or shutil.which("c++") is None:
        pytest.skip("AMX is of x86-64, and this needs a C++ compiler")
    folder = tmp_path / "with blanks in its name"
    shutil.copytree(ROOT / "cmake", folder / "cmake")
    source = _unpack(tmp_path)
    hook = f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={folder / 'cmake' / 'lean.cmake'}"
    options = ("-DCMAKE_BUILD_TYPE=Release", "-DLLAVA_BUILD=OFF", f"-DSKBUILD_PLATLIB_DIR={tmp_path}", hook, *PLUG_INS)
    _run("cmake", "-G", "Ninja", "-S", str(source), "-B", str(tmp_path / "build"), *options)
    _run("ninja", "-C", str(tmp_path / "build"), OBJECT)
    configurations = missing_stores(disassemble(tmp_path / "build" / OBJECT))
    assert configurations
    assert not any(configurations)


def test_the_installed_library_stores_all_of_it_where_it_has_code_for_amx() -> None:
    """It has none where it was compiled for a CPU without: then the list is empty."""
    libraries = distinct_files((Path(llama_cpp.__file__).parent / "lib").glob("libggml-cpu*"))
    assert libraries
    for library in libraries:
        assert not any(missing_stores(disassemble(library))), library


def _unpack(folder: Path) -> Path:
    (archive,) = (Path(sys.prefix) / "llama-source").glob("*.tar.gz")  # put there by make install-test
    with tarfile.open(archive) as file:
        file.extractall(folder, (part for part in file if not _UNUSED.match(part.name)), filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def _run(program: str, *args: str) -> None:
    path = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([program, *args], capture_output=True, text=True, check=False, env={**os.environ, **path})
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
