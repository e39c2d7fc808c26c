# Sourced by scripts/bench, scripts/test and .ci/run: makes .venv with the package (editable) and its test and bench
# extras, once; later calls find that nothing has changed and return at once. Everything it prints goes to stderr.
#
# .venv/.pexec-ready holds the hash of what was installed from; it is written last and removed before any change.
# .venv/.pexec-half exists while .venv changes: if it is there at the start, an install was cut off, and .venv is made
# anew.

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv

say() { printf '%s\n' "$*" >&2; }

die() {
    say "${0##*/}: $*"
    exit 1
}

# Print the name of a Python that is new enough: $PYTHON if that is set, otherwise the first that is found.
find_python() {
    local names=(python3 python3.14 python3.13 python3.12 python3.11 python) name version found=""
    if [ -n "${PYTHON:-}" ]; then names=("$PYTHON"); fi
    for name in "${names[@]}"; do
        version=$("$name" -c 'import sys; print("%d.%d (%s)" % (sys.version_info[:2] + (sys.executable,)))' 2>/dev/null) ||
            continue
        case $version in
        3.1[1-9]" "* | 3.[2-9][0-9]" "*) printf '%s\n' "$name" && return ;;
        esac
        found="${found:+$found, }Python $version"
    done
    if [ -n "${PYTHON:-}" ]; then die "PYTHON=$PYTHON is ${found:-not a Python that runs}; Python 3.11 or newer is needed"; fi
    die "Python 3.11 or newer is needed, found ${found:-none}; install it, or set PYTHON to its path"
}

# Print the requirements of one of the package's extras, one a line.
extra_requirements() {
    "$venv/bin/python" -c '
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    print(*tomllib.load(file)["project"]["optional-dependencies"][sys.argv[2]], sep="\n")' "$root/pyproject.toml" "$1"
}

venv_pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@" >&2; }

# Print the C compiler for packages without wheels, unless Python's own choice is installed: another one, or ziglang's.
c_compiler() {
    "$venv/bin/python" -c '
import os, shlex, shutil, sysconfig, ziglang
usual = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
if not shutil.which(shlex.split(usual)[0]):
    others = filter(shutil.which, ("cc", "gcc", "clang"))
    print(next(others, shlex.quote(os.path.join(os.path.dirname(ziglang.__file__), "zig")) + " cc"))'
}

# Install what the bench extra requires: all at once or, if that fails, one by one, without what cannot be installed.
install_bench() {
    local requirements requirement compiler
    requirements=$(extra_requirements bench)
    compiler=$(c_compiler) && [ -n "$compiler" ] && export CC="$compiler"
    # pywasm3 returns pointers of one type as another, which compilers of today refuse.
    export CFLAGS="${CFLAGS:-} -Wno-incompatible-pointer-types"
    if printf '%s\n' "$requirements" | venv_pip install --quiet --requirement /dev/stdin 2>/dev/null; then return; fi
    while read -r requirement; do
        venv_pip install --quiet "$requirement" || say "going on without $requirement, the reason stands above"
    done <<<"$requirements"
}

# Print what .pexec-ready must hold: the place (an editable install knows it), the Python, and what pip installs from.
fingerprint() {
    printf '%s\n' "$root"
    cat -- "$venv/pyvenv.cfg" "$root/pyproject.toml" "$root/hatch_build.py" "$root"/scripts/{build_guest,patching}.py | cksum
}

is_ready() {
    [ -e "$venv/.pexec-ready" ] && [ ! -e "$venv/.pexec-half" ] &&
        [ "$(cat -- "$venv/.pexec-ready")" = "$(fingerprint)" ] &&
        "$venv/bin/python" "$root/scripts/build_guest.py" --check 2>/dev/null
}

# Wait until no other process changes .venv. The lock belongs to the open file, not to the Python that takes it, and
# the system drops it when the last process that has the file open ends, however it ends.
lock() {
    exec 9>"$root/.venv.lock"
    "$1" -c '
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("waiting for another process that installs into .venv", file=sys.stderr, flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)'
}

make_venv() {
    say "making .venv with $("$1" -c 'import sys; print("Python %d.%d.%d, %s" % (*sys.version_info[:3], sys.executable))')"
    rm -rf -- "$venv"
    mkdir -- "$venv"
    : >"$venv/.pexec-half"
    if "$1" -m venv "$venv" >&2; then return; fi
    # Debian's Python comes without ensurepip unless python3-venv is installed; its pip can stand in.
    say "trying again without ensurepip"
    if "$1" -m venv --without-pip "$venv" >&2 && "$1" -m pip --python "$venv/bin/python" install --quiet pip >&2; then
        return
    fi
    die "cannot make .venv, the reason stands above; on Debian and Ubuntu: apt install python3-venv"
}

install_package() {
    rm -f -- "$venv/.pexec-ready"
    : >"$venv/.pexec-half"
    say "installing parallel_exec into .venv, a minute or two the first time"
    if ! venv_pip install --quiet --editable "${root}[test]"; then
        rm -f -- "$venv/.pexec-half"
        die "pip could not install parallel_exec into .venv, the reason stands above"
    fi
    # Not every machine can have all peers; only `pexec bench --peers`, `pexec bench verify` and bench/ use them.
    (install_bench)
    fingerprint >"$venv/.pexec-ready"
    rm -f -- "$venv/.pexec-half"
}

prepare() {
    local python
    # pip turns Ctrl-C into an ordinary failure; with this the script ends there, and .pexec-half stays.
    trap 'exit 130' INT TERM
    python=$(find_python)
    lock "$python"
    if ! is_ready; then
        if [ -e "$venv/.pexec-half" ] || ! venv_pip --version 2>/dev/null; then make_venv "$python"; fi
        install_package
    fi
    exec 9>&-
    trap - INT TERM
}

if ! is_ready; then prepare; fi
