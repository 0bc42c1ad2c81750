#!/usr/bin/env python3
"""House rules that a machine can check, each a function of the tree that returns what breaks it.
`tests/run lint` runs all, `tests/lint/lint.py NAME...` some. Needs only the standard library, clang-format from
.venv, and shellcheck."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ("broker", "replicator", "sinks", "proto")
SKIPPED = re.compile(r"^(build.*|\..*|__pycache__|data|node_modules)$")

Rule = Callable[[], Iterator[str]]


# --- the tree


def walk(*tops: str) -> Iterator[Path]:
    """Files of the source tree, relative to the root, in a stable order."""
    for top in tops or (".",):
        for folder, folders, names in os.walk(ROOT / top):
            hidden = {".ci"} if Path(folder) == ROOT else set()
            folders[:] = sorted(name for name in folders if name in hidden or not SKIPPED.match(name))
            for name in sorted(names):
                yield (Path(folder) / name).relative_to(ROOT)


def sources(*tops: str, suffixes: tuple[str, ...] = (".c", ".h")) -> Iterator[Path]:
    return (path for path in walk(*tops) if path.suffix in suffixes)


def text_of(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def without_comments(code: str) -> str:
    """C with comments and the insides of strings blanked, line breaks kept."""

    def blank(match: re.Match[str]) -> str:
        found = match.group(0)
        if found.startswith(('"', "'")):
            return found[0] + " " * (len(found) - 2) + found[0]
        return re.sub(r"[^\n]", " ", found)

    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", blank, code, flags=re.DOTALL)


def numbered(path: Path) -> Iterator[tuple[int, str]]:
    return enumerate(without_comments(text_of(path)).splitlines(), 1)


# --- who may include whom

# The first prefix that a file's folder matches decides; a file may include from its own folder too.
MAY_INCLUDE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("proto/base", ()),
    ("proto", ("proto/base",)),
    ("broker/cli", ("broker", "broker/client", "proto", "proto/base")),
    ("broker/client", ("proto", "proto/base")),
    ("broker", ("proto", "proto/base")),
    ("replicator", ("broker/client", "proto", "proto/base")),
    ("sinks/", ("proto", "proto/base")),  # a kind: and sinks/sink.h, see below
    ("sinks", ("broker/client", "proto", "proto/base", "sinks/*")),
)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.MULTILINE)


def includes(path: Path) -> Iterator[tuple[str, str]]:
    for match in INCLUDE.finditer(text_of(path)):
        yield match.group(1), match.group(2)


def allowed_folders(folder: str) -> tuple[str, ...]:
    for prefix, allowed in MAY_INCLUDE:
        if folder == prefix or (prefix.endswith("/") and folder.startswith(prefix)):
            return (folder, *allowed)
    return (folder,)


def rule_include_directions() -> Iterator[str]:
    """proto/base <- proto <- broker; broker/client <- replicator, sinks; a sink kind sees sinks/sink.h and proto."""
    for path in sources(*CODE):
        folder = path.parent.as_posix()
        allowed = allowed_folders(folder)
        for kind, name in includes(path):
            if kind != '"':
                continue
            target = Path(name).parent.as_posix()
            if not (ROOT / name).exists() and not name.endswith(".def"):
                yield f'{path}: "{name}" is not a file from the root of the tree'
            elif folder.startswith("sinks/") and name == "sinks/sink.h":
                continue
            elif target not in allowed and not (target.startswith("sinks/") and "sinks/*" in allowed):
                yield f"{path}: {folder}/ may not include {name}"


THIRD_PARTY = ("libpq-fe.h", "lmdb.h", "msgpack.h", "microhttpd.h", "curl/curl.h", "yaml.h", "jansson.h") + (
    "xxhash.h",
    "zstd.h",
)


def rule_third_party_headers() -> Iterator[str]:
    """Each third-party header is included by exactly one .c file, and by no header."""
    users: dict[str, list[Path]] = defaultdict(list)
    for path in sources(*CODE):
        for _, name in includes(path):
            if name in THIRD_PARTY or name.startswith(("msgpack/", "curl/", "postgresql/", "openssl/")):
                users[name].append(path)
    for name, paths in users.items():
        if len(paths) > 1:
            yield f"{name} is included by {', '.join(map(str, paths))}; one .c file owns it"
        yield from (f"{path}: a header includes {name}" for path in paths if path.suffix == ".h")


# --- what is not written

BANNED = {
    r"(?:strcpy|strcat|sprintf|vsprintf|gets|strncpy|strncat|stpcpy)": "no bound, or a wrong one: use buf or snprintf",
    r"(?:atoi|atol|atoll|atof|sscanf|scanf)": "cannot tell an error: use str_parse_* or strtoull with checks",
    r"(?:strtok|strtok_r|localtime|gmtime|ctime|asctime|strerror|rand|srand)": "hidden state, or not thread-safe",
    r"(?:system|popen|alloca|mktemp|tmpnam|setjmp|longjmp|vfork)": "refused",
    r"(?:usleep|sleep|nanosleep|clock_nanosleep)": "only clock.c sleeps",
    r"(?:malloc|calloc|realloc|strdup|strndup)": "use the xmalloc family",
    r"(?:fsync|fdatasync|sync_file_range|syncfs)": "only fs.c (and LMDB) syncs",
    r"(?:printf|puts|perror)": "programs print through log, or write their output with fputs, fwrite or dprintf",
}
BANNED_ELSEWHERE = {  # where a banned call lives
    "nanosleep": {"proto/base/clock.c"},
    "clock_nanosleep": {"proto/base/clock.c"},
    "malloc": {"proto/base/xmalloc.c"},
    "calloc": {"proto/base/xmalloc.c"},
    "realloc": {"proto/base/xmalloc.c"},
    "fsync": {"proto/base/fs.c"},
    "fdatasync": {"proto/base/fs.c"},
}


def rule_banned_calls() -> Iterator[str]:
    """No call that has no bound, cannot tell an error, hides state, or belongs to one file only. An exception
    says why: lint:allow NAME: reason, on its line or the one before."""
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
    for path in sources(*CODE):
        raw = text_of(path).splitlines()
        for number, line in numbered(path):
            for match in pattern.finditer(line):
                name = match.group(1)
                near = " ".join(raw[max(0, number - 2) : number])
                if str(path) in BANNED_ELSEWHERE.get(name, ()) or f"lint:allow {name}:" in near:
                    continue
                if name == "printf" and path.parts[:2] == ("broker", "cli"):
                    continue
                why = next(reason for names, reason in BANNED.items() if re.fullmatch(names, name))
                yield f"{path}:{number}: {name}(): {why}"


def rule_no_leftovers() -> Iterator[str]:
    """No TODO, FIXME, XXX, typedef struct, backward-compatible dead code under #if 0, or tab."""
    for path in sources(*CODE, "tests"):
        for number, line in enumerate(text_of(path).splitlines(), 1):
            if re.search(r"\b(TODO|FIXME|XXX)\b|^\s*#\s*if\s+0\b|^\s*typedef struct\b", line):
                yield f"{path}:{number}: {line.strip()}"
            if "\t" in line or line != line.rstrip():
                yield f"{path}:{number}: a tab, or blanks at the end"


def rule_head_comments() -> Iterator[str]:
    """Every module begins with a comment: what it owns, promises and must not know. It stands at the head of
    its header, or of its .c file where it has none of its own."""
    for path in sources(*CODE, "tests"):
        own_header = path.suffix == ".c" and (ROOT / path.with_suffix(".h")).exists()
        if not own_header and not text_of(path).startswith("/*"):
            yield f"{path}: no comment at its head"
    for path in sources(*CODE, suffixes=(".h",)):
        if not re.search(r"^#ifndef ONESLOT_\w+_H$", text_of(path), re.MULTILINE):
            yield f"{path}: no include guard ONESLOT_..._H"


# --- size and names

LONGEST_C, LONGEST_PY = 80, 50


def functions(path: Path) -> Iterator[tuple[str, int, int]]:
    """(name, first line, lines) of each definition: our style puts both outer braces into column 1."""
    name, start = "", 0
    for number, line in numbered(path):
        if match := re.match(r"^(\w+)\(", line):
            name = match.group(1)
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start:
            yield name, start, number - start - 1
            start = 0


def rule_function_length() -> Iterator[str]:
    """C functions up to 80 lines, Python ones up to 50. A longer one says why: lint:long: reason, in the ten
    lines before its brace or in its first three."""
    for path in sources(*CODE, "tests"):
        raw = text_of(path).splitlines()
        for name, start, lines in functions(path):
            near = " ".join(raw[max(0, start - 11) : start + 3])
            if lines > LONGEST_C and not re.search(r"lint:long: \w", near):
                yield f"{path}:{start}: {name}() has {lines} lines, more than {LONGEST_C}"
    for path in sources(suffixes=(".py",)):
        for node in ast.walk(ast.parse(text_of(path), str(path))):
            if isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno
                if lines > LONGEST_PY and not path.name.startswith("test_"):
                    yield f"{path}:{node.lineno}: {node.name}() has {lines} lines, more than {LONGEST_PY}"


def rule_unique_stems() -> Iterator[str]:
    """A file's stem is its module's name: no two modules share one (mains aside)."""
    folders: dict[str, set[str]] = defaultdict(set)
    for path in sources(*CODE):
        if path.stem != "main":
            folders[path.stem].add(path.parent.as_posix())
    for stem, found in sorted(folders.items()):
        if len(found) > 1:
            yield f"{stem} is a module in {' and '.join(sorted(found))}"


# --- form


def rule_clang_format() -> Iterator[str]:
    """Every C file is as clang-format 14 leaves it."""
    program = ROOT / ".venv" / "bin" / "clang-format"
    if not program.exists():
        yield f"{program} is missing: run deploy/install-deps tests"
        return
    files = [str(path) for path in sources(*CODE, "tests")]
    if not files:
        return
    done = subprocess.run(
        [program, "--dry-run", "--Werror", *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    named = sorted(set(re.findall(r"^(\S+?):\d+:\d+: error: code should be clang-formatted", done.stderr, re.M)))
    yield from (f"{name}: run clang-format-14 -i on it" for name in named)
    if done.returncode != 0 and not named:
        yield done.stderr.strip()


def scripts() -> Iterator[Path]:
    for path in walk("."):
        full = ROOT / path
        if full.is_file() and not path.suffix == ".py":
            with open(full, "rb") as file:
                if re.match(rb"#!.*\b(ba)?sh\b", file.readline(80)):
                    yield path


def rule_shell() -> Iterator[str]:
    """Shell scripts parse, are executable, stop at errors, and shellcheck finds nothing."""
    found = list(scripts())
    for path in found:
        done = subprocess.run(["bash", "-n", path], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            yield f"{path}: {done.stderr.strip()}"
        if not os.access(ROOT / path, os.X_OK):
            yield f"{path}: not executable"
        if "set -e" not in text_of(path):
            yield f"{path}: without set -e it goes on after an error"
    try:
        done = subprocess.run(
            ["shellcheck", "-f", "gcc", *found], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        yield "shellcheck is missing: run deploy/install-deps tests"
        return
    yield from done.stdout.splitlines()


def rule_python() -> Iterator[str]:
    """Python parses, and every function of the harness says its types."""
    for path in sources(suffixes=(".py",)):
        try:
            tree = ast.parse(text_of(path), str(path))
        except SyntaxError as error:
            yield f"{path}:{error.lineno}: {error.msg}"
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.returns is None:
                yield f"{path}:{node.lineno}: {node.name}() does not say what it returns"


# --- documents

NO_README = re.compile(r"^(tests/fuzz/corpus|tests/fixtures/pgoutput)/")  # bytes; what they are says the folder above


def rule_readmes() -> Iterator[str]:
    """A README.md in every folder that holds files, recorded bytes aside."""
    for folder in sorted({path.parent for path in walk(".")}):
        name = folder.as_posix()
        if name != ".ci" and not NO_README.match(name + "/") and not (ROOT / folder / "README.md").exists():
            yield f"{name}: no README.md"


def documented(name: str) -> bool:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


# How tables in the code name what a user can see: (what, folders, pattern of one entry, least number expected).
TABLES = (
    ("option", CODE, r'\{\s*(?:\.name\s*=\s*|FIELD\()?"([a-z_]+)"\s*,\s*(?:\.type\s*=\s*)?CONF_[A-Z]+', 30),
    ("command", ("broker/cli",), r'\.name = "([a-z-]+)",\s*\.summary = ', 9),
    ("HTTP path", ("broker",), r'\.path = "(/[^"]*)"', 10),
)


def in_tables(folders: tuple[str, ...], pattern: str) -> Iterator[tuple[str, Path]]:
    """(name, file) of every entry."""
    for path in sources(*folders, suffixes=(".c",)):
        for name in re.findall(pattern, text_of(path), re.DOTALL):
            yield name, path


SAMPLE = Path("deploy/oneslot.yaml")
FOR_TESTS = ("null", "flaky")  # kinds that nobody configures for data of theirs


def sample_of(kind: str) -> str:
    """What the sample file says of a kind of sink, up to the next one; of no kind: all of it."""
    text = text_of(SAMPLE)
    if not kind:
        return text
    parts = re.split(r"^(?=[ #]*kind:)", text, flags=re.MULTILINE)
    return "".join(part for part in parts if re.match(rf"[ #]*kind: {kind}$", part, re.MULTILINE))


def unsampled() -> Iterator[str]:
    """Options that the sample file lacks, as a key or commented out; a kind's belong into a sink of that kind."""
    _, folders, pattern, _ = TABLES[0]
    for name, path in in_tables(folders, pattern):
        kind = path.parts[1] if path.parts[0] == "sinks" and len(path.parts) > 2 else ""
        if kind not in FOR_TESTS and not re.search(rf"^[ #]*{name}:", sample_of(kind), re.MULTILINE):
            yield f"{SAMPLE} lacks the option {name}{f' of a sink of kind {kind}' if kind else ''} ({path})"


def rule_documented() -> Iterator[str]:
    """Every configuration option, command and HTTP path that the code's tables have is in README.md,
    every option in deploy/oneslot.yaml too."""
    for what, folders, pattern, least in TABLES:
        found = dict(reversed(list(in_tables(folders, pattern))))
        if len(found) < least:
            yield f"found only {len(found)} of at least {least} {what}s by the pattern in tests/lint/lint.py"
        for name, path in sorted(found.items()):
            if not name.startswith("/internal") and name != "/" and not documented(name):
                yield f"README.md says nothing of the {what} {name} ({path})"
    yield from unsampled()


# --- running them


def rules() -> dict[str, Rule]:
    return {
        name.removeprefix("rule_"): value for name, value in sorted(globals().items()) if name.startswith("rule_")
    }


def run(name: str, rule: Rule) -> bool:
    problems = list(rule())
    for problem in problems[:40]:
        print(f"{name}: {problem}")
    if len(problems) > 40:
        print(f"{name}: and {len(problems) - 40} more")
    return not problems


def main(names: list[str]) -> int:
    known = rules()
    if unknown := [name for name in names if name not in known]:
        print(f"unknown rule {unknown[0]}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    results = [run(name, known[name]) for name in names or known]
    print(f"lint: {results.count(True)} passed, {results.count(False)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
