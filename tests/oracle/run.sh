#!/usr/bin/env bash
# Compares the duel's locomotion to the public engine, on scripts made up anew each time.
# Needs Node and npm. The first run fetches the pinned engine (75 MB) into tests/oracle/node_modules.
#   SKILLDISTILL_ORACLE_SEED=7 tests/oracle/run.sh    repeats the scripts of seed 7
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

command -v npm >/dev/null || { echo "npm is not installed: the oracle needs Node 18 or newer" >&2; exit 1; }
[ -f "$here/node_modules/prismarine-physics/package.json" ] ||
  (cd "$here" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)

python=${PYTHON:-$root/.venv/bin/python}
cd "$root"
exec "$python" -m pytest tests/oracle -q "$@"
