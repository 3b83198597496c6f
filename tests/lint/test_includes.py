"""Who may include whom: read from the table in docs/ARCHITECTURE.md, and nothing else."""

import re

# Third-party headers by the library's name in the table. What is in neither this list nor
# the table is the C library's.
LIBRARIES = {
    "msgpack": r"msgpack(/|\.h)", "libcrypto": r"openssl/", "zlib": r"zlib\.h",
    "libuv": r"uv\.h", "libzmq": r"zmq\.h", "llhttp": r"llhttp", "libinih": r"ini\.h",
    "jansson": r"jansson\.h", "libjpeg": r"(jpeglib|jerror)\.h", "libpng": r"png\.h",
    "libwebp": r"webp/", "vlfeat": r"vl/", "libcurl": r"curl/",
    "libseccomp": r"seccomp\.h", "hiredis": r"hiredis", "libpq": r"libpq", "sqlite": r"sqlite3\.h",
    "czmq": r"czmq\.h", "cmocka": r"cmocka\.h", "intrinsics": r"(imm|arm_neon)intrin\.h",
}
FREE = {"tests", "bench"}  # may use anything; included by nobody


def read_table(root):
    """folder -> (folders it may include, libraries it may include)."""
    text = (root / "docs/ARCHITECTURE.md").read_text()
    rows = re.findall(r"^\| `([a-z/]+)` \|(.*?)\|(.*?)\|$", text, re.M)
    names = re.compile(r"`([a-z/0-9]+)`")
    return {folder: (set(names.findall(own)) | {folder}, set(names.findall(libraries)))
            for folder, own, libraries in rows}


def folder_of(path, table):
    """The longest folder of the table that holds this path."""
    fitting = [f for f in table if path == f or path.startswith(f + "/")]
    return max(fitting, key=len) if fitting else path.split("/")[0]


def test_the_table_has_every_folder_with_sources(root, sources):
    table = read_table(root)
    assert len(table) >= 10
    found = {folder_of(str(p.relative_to(root)), table) for p in sources} - FREE
    assert found <= set(table), f"no row for {found - set(table)}"


def test_files_include_only_what_their_row_allows(root, sources):
    table = read_table(root)
    wrong = []
    for path in sources:
        name = str(path.relative_to(root))
        folder = folder_of(name, table)
        if folder in FREE:
            continue
        folders, libraries = table[folder]
        for included in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.M):
            target = folder_of(included, table)
            if target not in folders:
                wrong.append(f"{name} includes {included}")
        for included in re.findall(r"^\s*#\s*include\s+<([^>]+)>", path.read_text(), re.M):
            for library, pattern in LIBRARIES.items():
                if re.match(pattern, included) and library not in libraries:
                    wrong.append(f"{name} includes <{included}>")
    assert not wrong, "\n".join(wrong)


def test_only_one_file_uses_vlfeat(root, sources):
    users = [str(p.relative_to(root)) for p in sources
             if re.search(r"#\s*include\s+<vl/", p.read_text())]
    assert len([u for u in users if not u.startswith(("tests", "bench"))]) == 1, users
