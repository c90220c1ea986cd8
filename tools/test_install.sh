#!/usr/bin/env bash
# Install the wheel as a newcomer would, and train a demo for a few steps:
#   tools/test_install.sh PYTHON [WHEEL] [EXTRA ...]
# PYTHON has the package build, for when no wheel is given. Each extra gets an empty environment in a
# folder without a checkout.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=$(realpath -s "$1")
shift
wheel=
if [[ ${1:-} == *.whl ]]; then
  wheel=$(realpath "$1")
  shift
fi
extras=("$@")
(($#)) || extras=(onedl-det onedl openmmlab-lite)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [[ ! $wheel ]]; then
  "$python" -m build --no-isolation --wheel --outdir "$scratch" . >"$scratch/log" ||
    { cat "$scratch/log"; exit 1; }
  wheel=$(echo "$scratch"/mmea-*.whl)
fi

short=(demo_scenes.num_train=8 demo_scenes.num_val=3)
for extra in "${extras[@]}"; do
  case $extra in
    onedl)
      config=ea_fpn_ade20k
      options=(train_cfg.max_iters=2 train_cfg.val_interval=2) ;;
    # After so few steps all scores are low.
    onedl-det)
      config=mask_rcnn/ea_mask-rcnn_r50_fpn_1x_coco
      options=(train_cfg.max_epochs=1 model.test_cfg.rcnn.score_thr=0.0) ;;
    openmmlab-lite)
      config=retinanet/ea_retinanet_r50_fpn_1x_coco
      options=(train_cfg.max_epochs=1 model.test_cfg.score_thr=0.0) ;;
    cls)
      config=classification/ea_resnet50_8xb32_in1k
      options=(train_cfg.max_epochs=1) ;;
    *) echo "no demo for the extra $extra" >&2; exit 2 ;;
  esac
  folder=$scratch/$extra
  mkdir "$folder"
  "$python" -m venv "$folder/venv"
  start=$SECONDS
  "$folder/venv/bin/pip" --disable-pip-version-check install -q "${wheel}[$extra]"
  installed=$((SECONDS - start))
  (
    cd "$folder"
    PATH=$folder/venv/bin:/usr/bin:/bin CC=/bin/false CXX=/bin/false \
      mmea train "$config" --demo --cfg-options "${short[@]}" "${options[@]}" \
      >log 2>&1
  ) || { tail -n 40 "$folder/log"; echo "error: the demo of $extra failed" >&2; exit 1; }
  # The evaluation at the end, and its pictures.
  metric=$(grep -oE '(mIoU|coco/bbox_mAP|accuracy/top1) [0-9.]+' "$folder/log" | tail -n 1 || true)
  [[ $metric ]] && ls "$folder"/work_dirs/*/predictions.png >/dev/null ||
    { echo "error: the demo of $extra did not evaluate or draw" >&2; exit 1; }
  version=$("$folder/venv/bin/python" -c 'import torch; print(torch.__version__)')
  echo "mmea[$extra]: installed in $installed s with torch $version;" \
    "its demo trains, evaluates ($metric) and draws"
  rm -rf "$folder"
done
