# The other commands of this folder include this file. They have set `root`, the project's folder.
#
#   GCOUNT_VENV     the folder of the environment (default .venv in the project's folder)
#   GCOUNT_PYTHON   the Python with which it is made (default the first of python3, python3.13,
#                   python3.12, python3.11 that is new enough); an environment of another Python is
#                   replaced
#
# It is shell, not Python, for two reasons: with a complete environment it takes only milliseconds, and on a
# machine with an old Python it can say so, where Python would show a syntax error.

# An absolute path: the stamp is compared as text.
venv=${GCOUNT_VENV:-$root/.venv}
case $venv in /*) ;; *) venv=$PWD/$venv ;; esac

# The text of the stamp: what the environment depends on. _environment.py writes it when the environment is complete.
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

# environment node|test: makes sure that $venv is a complete environment, or exits with code 1 and one line.
environment() {
    complete "$1" && return
    find_python
    "$python" -I -B "$root/bin/_environment.py" "$1" "$root" "$venv" "${0##*/}" || exit
}
