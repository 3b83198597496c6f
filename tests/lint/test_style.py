"""What docs/STYLE.md asks for and a program can check."""

import re
import subprocess

import pytest

FUNCTION_LINES_MAX = 100
FILE_LINES_MAX = 800


def test_clang_format_has_nothing_to_change(root, sources):
    names = [str(p.relative_to(root)) for p in sources]
    done = subprocess.run(["clang-format", "--dry-run", "-Werror", *names], cwd=root,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]


def test_no_line_is_longer_than_100_columns(root, sources):
    wrong = [f"{p.relative_to(root)}:{n}" for p in sources
             for n, line in enumerate(p.read_text().split("\n"), 1) if len(line) > 100]
    assert not wrong, "\n".join(wrong)


def functions(text):
    """(name, lines) of each function: from a '{' to a '}' in the first column."""
    name, begin = None, None
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line == "{":
            begin = number
            head = " ".join(lines[max(0, number - 6):number])
            called = re.findall(r"(\w+)\(", head)
            name = called[-1] if called else "?"
        elif line == "}" and begin is not None:
            yield name, number - begin + 1
            begin = None


def test_files_and_functions_are_short(root, sources):
    wrong = []
    for path in sources:
        name = path.relative_to(root)
        text = path.read_text()
        if text.count("\n") > FILE_LINES_MAX:
            wrong.append(f"{name}: {text.count(chr(10))} lines, limit {FILE_LINES_MAX}")
        wrong += [f"{name}: {function} has {count} lines, limit {FUNCTION_LINES_MAX}"
                  for function, count in functions(text) if count > FUNCTION_LINES_MAX]
    assert not wrong, "\n".join(wrong)


def test_the_median_function_has_under_20_lines(sources):
    counts = sorted(count for path in sources for _, count in functions(path.read_text()))
    assert counts and counts[len(counts) // 2] < 20


def test_headers_compile_alone(root, sources):
    # The headers that make a table into C are included between a table's lines.
    made_for_tables = re.compile(r"/(options|metrics)_(struct|spec|end)\.h$")
    wrong = []
    for path in sources:
        if path.suffix != ".h" or made_for_tables.search(str(path)):
            continue
        done = subprocess.run(
            ["gcc", "-std=c11", "-D_GNU_SOURCE", "-DSIFTMESH_VERSION=\"0\"", "-Wall",
             "-Wextra", "-Werror", "-fsyntax-only", f"-I{root}",
             "-I/usr/share/include/llhttp", "-I/usr/share/include", "-x", "c", str(path)],
            capture_output=True, text=True)
        # "#pragma once in main file" and unused static inline functions are no faults.
        if done.returncode != 0:
            wrong.append(done.stderr[:800])
    assert not wrong, "\n".join(wrong)


def test_shell_scripts_pass_shellcheck(root):
    scripts = [root / name for name in ("dev", "tests/run", "tests/fuzz/run", "bench/run",
                                        "tests/integration/faults/run", "tests/lived/run",
                                        ".ci/run")]
    done = subprocess.run(["shellcheck", "-x", *map(str, scripts)], cwd=root,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]


# library -> prefixes its external names may begin with; None: the name of the module
# (the source file up to its first underscore).
PREFIXES = {
    "smproto": ("proto_",), "smruntime": None, "smvision": ("vision_",),
    "smdecode": ("decode_",), "smextractor": ("extractor_",), "smbroker": ("broker_",),
    "smcacher": ("cacher_",), "smstore": ("cacher_store_",), "smgateway": ("gateway_",), "smmonitor": ("monitor_",),
    "smclient": ("siftmesh_",), "smredis": ("redis_", "cacher_redis_"),
}
RUNTIME_MODULES = ("browser_", "cgroup_", "curve_", "descriptors_", "drain_", "endpoint_", "folder_", "handshake_",
                   "hotcache_", "http_", "log_", "mesh_", "metrics_", "options_", "process_", "procfile_", "service_",
                   "session_", "watch_")
# Functions of libraries; runtime/descriptors.h and extractor/vision/sift_vlfeat.c say why.
REPLACED = {"accept4", "vl_imconvcol_vf"}


@pytest.mark.parametrize("library", sorted(PREFIXES))
def test_external_names_begin_with_their_folder(root, library):
    archive = root / f"build/release/lib/lib{library}.a"
    assert archive.exists(), f"{archive} is not built"
    out = subprocess.run(["nm", "--defined-only", "-g", "-P", str(archive)],
                         capture_output=True, text=True, check=True).stdout
    names = re.findall(r"^(\w+) [A-TV-Z] ", out, re.M)
    prefixes = PREFIXES[library] or RUNTIME_MODULES
    wrong = [name for name in names if not name.startswith(prefixes) and name not in REPLACED]
    assert names and not wrong, wrong
