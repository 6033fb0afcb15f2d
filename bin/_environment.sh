# Read by the other commands of this folder, each of which has set `root`, the project's folder.
#
#   GCOUNT_VENV     where the environment is or shall be (.venv in the project's folder)
#   GCOUNT_PYTHON   the Python to make it of (else the first of python3, python3.13, python3.12,
#                   python3.11 that is new enough); given, it replaces an environment made of another
#
# It is shell, not Python, so that the start of a node with a complete environment costs milliseconds only
# and a machine with an old Python is told so instead of shown a syntax error.

# One name in one environment: compared as text, hence absolute.
venv=${GCOUNT_VENV:-$root/.venv}
case $venv in /*) ;; *) venv=$PWD/$venv ;; esac

# What the environment depends on; _environment.py writes the same text when all is in place.
stamp() {
    printf '%s\n' "$root" && cat -- "$root/pyproject.toml" "$root/constraints.txt"
}

complete() {
    [ -z "${GCOUNT_PYTHON:-}" ] && [ -x "$venv/bin/python" ] && [ -r "$venv/gcount-$1" ] &&
        [ "$(cat -- "$venv/gcount-$1")" = "$(stamp)" ]
}

suitable() {
    "$1" -I -c 'import sys; assert sys.version_info >= (3, 11); import ensurepip, venv' >/dev/null 2>&1
}

find_python() {
    if [ -n "${GCOUNT_PYTHON:-}" ]; then
        set -- "$GCOUNT_PYTHON"
    else
        set -- python3 python3.13 python3.12 python3.11
    fi
    for python in "$@"; do
        suitable "$python" && return
    done
    printf '%s: error: needs Python 3.11 or newer with venv and pip; tried: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# environment node|test: leaves a complete environment in $venv, or ends with one clear line and code 1.
environment() {
    complete "$1" && return
    find_python
    "$python" -I -B "$root/bin/_environment.py" "$1" "$root" "$venv" "${0##*/}" || exit
}
