#!/usr/bin/env bash
# Set up what a make target needs: tools/setup_env.sh LEVEL
#
#   docs   what builds the site, in .venv-docs
#   tools  ruff, build and twine, for `make lint`, `wheel` and `release`
#   demo   torch, the stack and mmea itself
#   test   the test tools too
#   examples  what tests/examples need, in .venv-examples: transformers is not to be
#          beside mmpretrain
#
# From the environment:
#   STACK   onedl (default, in .venv) or openmmlab (stock, in .venv-openmmlab)
#   OPS     torchvision (default), or compiled: build mmcv's ops, which takes a
#           C++ compiler and a quarter of an hour, in an environment of their
#           own, .venv-compiled or .venv-openmmlab-compiled
#   PYTHON  the interpreter to make the environment with
#   TORCH   the torch and torchvision to install, a pair that fits
#
# What is in place already is not installed again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n== %s\n' "$*"; }
die() { printf '\nerror: %s\n' "$*" >&2; exit 1; }

level=${1:-demo}
stack=${STACK:-onedl}
ops=${OPS:-torchvision}
read -ra torch <<<"${TORCH:-torch==2.12.1 torchvision==0.27.1}"
# mmengine and the ops' build need pkg_resources, gone in setuptools 82.
setuptools='setuptools>=77.0.3,<82'

case $stack-$ops in
  onedl-*) venv=.venv mmcv=onedl-mmcv extras=onedl,onedl-det,cls ;;
  openmmlab-torchvision) venv=.venv-openmmlab extras=openmmlab-lite ;;
  openmmlab-*) venv=.venv-openmmlab mmcv=mmcv extras=openmmlab ;;
  *) die "STACK must be onedl or openmmlab, got '$stack'" ;;
esac
case $ops in
  torchvision) ;;
  compiled) venv=$venv-compiled ;;
  *) die "OPS must be torchvision or compiled, got '$ops'" ;;
esac
case $level in
  docs) venv=.venv-docs ;;
  examples) venv=.venv-examples extras=onedl-det,lxmert ;;
  tools | demo) ;;
  test) extras=$extras,dev ;;
  *) die "the level must be docs, tools, demo, test or examples, got '$level'" ;;
esac

wheels=${XDG_CACHE_HOME:-$HOME/.cache}/mmea/wheels
python=$venv/bin/python
supported='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'

# A stamp holds all that defines a level, so that an edit, or a checkout that
# was moved, sets it up again.
stamp() {
  { printf '%s\n' "$1" "$PWD" "${torch[*]}"
    cat setup.cfg pyproject.toml tools/setup_env.sh; } | sha256sum
}
is_stamped() {
  [[ -x $python && -f $venv/.mmea-$1 && $(stamp "$1") == "$(<"$venv/.mmea-$1")" ]]
}

pip() { "$python" -m pip --disable-pip-version-check "$@"; }

make_venv() {
  if ! "$python" -c '' 2>/dev/null; then
    local candidate found=
    for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.10}; do
      if "$candidate" -c "$supported" 2>/dev/null; then
        found=$candidate
        break
      fi
    done
    [[ $found ]] || die "mmea needs Python 3.10, 3.11 or 3.12, and" \
      "${PYTHON:-python3} is not one of them. Install one (Debian, Ubuntu:" \
      "apt install python3.11 python3.11-venv) and name it:" \
      "make ... PYTHON=/path/to/python3.11"
    say "Making $venv with $("$found" --version)"
    "$found" -m venv --clear "$venv" || {
      rm -rf "$venv"
      die "$found cannot make an environment. On Debian and Ubuntu its venv" \
        "module is a package of its own: apt install python3-venv"
    }
  fi
  "$python" -c "$supported" ||
    die "$venv has $("$python" --version), mmea needs 3.10 to 3.12:" \
      "remove it (make distclean) and start again"
  # An environment that was interrupted, or made by another tool.
  pip --version >/dev/null 2>&1 || "$python" -m ensurepip
}

install_all() {
  pip install "${torch[@]}" "$setuptools" wheel -e ".[$extras]" ||
    die 'the installation failed, see above'
}
# The folder name of a compiled mmcv: all that its binary depends on.
ops_key() {
  "$python" - "$1" <<'PY'
import os
import platform
import sys

import torch

flavour = 'cpu'
if torch.cuda.is_available() or os.environ.get('FORCE_CUDA') == '1':
    from torch.utils.cpp_extension import CUDA_HOME
    if CUDA_HOME and os.path.exists(os.path.join(CUDA_HOME, 'bin', 'nvcc')):
        # Compiled for the cards in sight, unless the user lists others.
        archs = os.environ.get('TORCH_CUDA_ARCH_LIST') or '_'.join(
            sorted({'%d.%d' % torch.cuda.get_device_capability(i)
                    for i in range(torch.cuda.device_count())}))
        archs = '_'.join(archs.replace(';', ' ').split())
        flavour = f'cuda{torch.version.cuda}_sm{archs}'
    else:
        print('no nvcc found: the ops are built for the CPU only',
              file=sys.stderr)
print(f'{sys.argv[1].replace("==", "-")}'
      f'-cp{sys.version_info.major}{sys.version_info.minor}'
      f'-torch{torch.__version__}-{flavour}-{platform.machine()}')
PY
}

ops_work() { "$python" -c 'import torch, mmcv._ext, mmcv.ops' 2>/dev/null; }

# Build mmcv with its ops and move the wheel into the cache when it is whole.
build_ops() {
  local pin=$1 key=$2 jobs mem log=$wheels/$2.log part line start=$SECONDS
  command -v "${CXX:-c++}" >/dev/null ||
    die "OPS=compiled needs a C++ compiler. Install one (Debian, Ubuntu:" \
      "apt install g++; or name it in CXX), or leave OPS out."
  [[ -f $("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h ]] ||
    die "OPS=compiled needs Python's headers. Install them (Debian," \
      "Ubuntu: apt install python3-dev), or leave OPS out."
  # A compiler process takes up to 2 GB.
  jobs=$(nproc)
  mem=$(awk '/MemAvailable/ {print int($2 / 2097152)}' /proc/meminfo)
  jobs=${MAX_JOBS:-$((mem < 1 ? 1 : mem < jobs ? mem : jobs))}

  say "Compiling the ops of $pin: once, 10 to 15 minutes on 2 cores." \
    "Full log: $log"
  part=$(mktemp -d "$wheels/.part-XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$part'" EXIT
  pip install -q ninja wheel
  # No build isolation: the build must see torch, else it leaves out the ops
  # without a word. For the same reason nothing from pip's own wheel cache.
  # For a CPU build no card may be in sight.
  (
    [[ $key != *-cpu-* ]] || export CUDA_VISIBLE_DEVICES=
    MMCV_WITH_OPS=1 MAX_JOBS=$jobs pip wheel -v --no-build-isolation \
      --no-deps --no-cache-dir --no-binary "$mmcv" -w "$part" "$pin" 2>&1
  ) | tee "$log" | while IFS= read -r line; do
    # ninja's "[k/n] c++ ... -o .../name.o ..." is a line of 2,000 letters.
    if [[ $line =~ (\[[0-9]+/[0-9]+\]).*\ -o\ [^\ ]*/([^/\ ]+)\.o ]]; then
      printf '%s %s (%d:%02d)\n' "${BASH_REMATCH[@]:1:2}" \
        $(((SECONDS - start) / 60)) $(((SECONDS - start) % 60))
    fi
  done || {
    tail -n 25 "$log" | cut -c1-300 >&2
    die "compiling $pin failed; the full log is $log." \
      "On a machine with a GPU, CUDA_VISIBLE_DEVICES= builds for the CPU only."
  }
  [[ $("$python" -m zipfile -l "$part"/*.whl) == *mmcv/_ext.* ]] ||
    die "$pin was built without its ops; the full log is $log"
  rm -rf "${wheels:?}/$key"
  mv "$part" "$wheels/$key"
  trap - EXIT
}

# Install everything with the ops wheel of folder $1; fails if that is no good.
install_full() {
  # First and by force: an mmcv without ops would satisfy the extras' pin.
  pip install --force-reinstall --no-deps "$1"/*.whl || return
  install_all
  ops_work
}

install_with_ops() {
  local pin key
  pin=$(grep -oE "^ +$mmcv==[0-9.]+" setup.cfg | head -n 1 | tr -d ' ')
  key=$(ops_key "$pin")
  mkdir -p "$wheels"
  exec 9>"$wheels/$key.lock"
  flock -n 9 || {
    say "Another set-up is compiling the ops; waiting for it"
    flock 9
  }
  if compgen -G "$wheels/$key/*.whl" >/dev/null; then
    say "Installing the rest, with the ops compiled before ($wheels/$key)"
    install_full "$wheels/$key" && return
    say "That wheel does not work; compiling it again"
  fi
  build_ops "$pin" "$key"
  say 'Installing the rest'
  install_full "$wheels/$key" ||
    die "the compiled ops do not import:" \
      "$("$python" -c 'import torch, mmcv._ext, mmcv.ops' 2>&1 | tail -n 1)"
}

# One set-up at a time in a checkout.
exec 8<tools/setup_env.sh
flock -n 8 || {
  say 'Another set-up is at work in this checkout; waiting for it'
  flock 8
}

if [[ ${PYTHON:-} && -x $python ]]; then
  version='import sys; print("%d.%d" % sys.version_info[:2])'
  [[ $("$PYTHON" -c "$version") == "$("$python" -c "$version")" ]] ||
    die "$venv has $("$python" --version), not $PYTHON:" \
      "remove it (make distclean) and start again"
fi
if is_stamped "$level"; then
  exit
fi

make_venv
if [[ $level == docs ]]; then
  # The extra's packages without mmea, which would bring torch.
  pip install -r <(sed -n '/^docs =/,/^$/s/^ \+//p' setup.cfg)
elif [[ $level == tools ]]; then
  pip install build twine wheel "$setuptools" "$(grep -oE 'ruff==[0-9.]+' setup.cfg)"
elif [[ $ops == compiled ]]; then
  # The ops' build needs torch.
  pip install "${torch[@]}" "$setuptools" wheel
  install_with_ops
else
  say "Installing torch, the stack and mmea (about 6 GB on disk)"
  install_all
fi
[[ $level != examples ]] || pip install "$(sed -n 's/^ *\(pytest>.*\)/\1/p' setup.cfg)"
[[ $level != test ]] || stamp demo >"$venv/.mmea-demo"
stamp "$level" >"$venv/.mmea-$level"
say "$venv is ready"
