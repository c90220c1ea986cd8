#!/usr/bin/env bash
# Build a release in dist/, check it and try it. Tags and uploads nothing.
#   tools/release.sh PYTHON [EXTRA ...]
# PYTHON has the packages build and twine; the extras are those that
# tools/test_install.sh tries, by default all of them.
set -euo pipefail
python=$(realpath -s "$(command -v "${1:?usage: tools/release.sh PYTHON [EXTRA ...]}")")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# What is built is what a tag would name.
[[ ! $(git status --porcelain) ]] ||
  die 'there are changes that are not committed (git status): commit them, or put them aside'
version=$(sed -n "s/^__version__ = '\(.*\)'$/\1/p" mmea/__init__.py)
[[ ! $(git tag --list "v$version") ]] ||
  die "there is a tag v$version already: raise __version__ in mmea/__init__.py"
cited=$(sed -n 's/^version: //p' CITATION.cff)
[[ $cited == "$version" ]] ||
  die "CITATION.cff has version $cited, mmea/__init__.py $version: make them one"
heading=$(grep -m 1 '^## ' CHANGELOG.md)
[[ $heading == "## $version ("*")" ]] ||
  die "CHANGELOG.md begins with '$heading': make it '## $version (DATE)'"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git archive HEAD | tar -x -C "$scratch"
rm -rf dist
# The wheel is built of the sdist, so that both are seen to be whole.
"$python" -m build --no-isolation --outdir dist "$scratch" >"$scratch/log" 2>&1 ||
  { cat "$scratch/log"; die 'the build failed, see above'; }
"$python" -m twine check --strict dist/*
bash tools/test_install.sh "$python" dist/mmea-*.whl "$@"

echo
ls -l dist
if [[ $heading == *'(unreleased)' ]]; then
  echo "A rehearsal: CHANGELOG.md says '${heading#\#\# }'. Write the date of the day there, commit, and run this again."
else
  echo "mmea $version is ready. What is left is yours to do:"
  echo "  git tag -a v$version -m 'mmea $version' && git push origin v$version"
  echo "  twine upload dist/*"
fi
