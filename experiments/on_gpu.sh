#!/usr/bin/env bash
# What the papers' sizes need a GPU for, within a budget of minutes.
#
#   experiments/on_gpu.sh OUT [MINUTES]
#
# Each preset gets an equal share of the time that is left. What is measured is
# kept in OUT/STUDY-PRESET, so that a second call goes on where the first one
# stopped; `python -m experiments.report --runs OUT` says what came out. SMOKE=1
# runs the smoke presets in their place, on any machine.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?usage: experiments/on_gpu.sh OUT [MINUTES]}
end=$((SECONDS + 60 * ${2:-28}))
runs=(
  mean_field:paper
  prunability:paper
  implicit_compressibility:mnist
  implicit_compressibility:cifar10_fcn
  implicit_compressibility:cifar10_cnn
  implicit_compressibility:cifar100_fcn
  heavy_tails_sgd:paper_fcn4_mnist
  heavy_tails_sgd:paper_cnn_cifar10
  sketching_bounds:paper
)
[ -n "${SMOKE:-}" ] && runs=(
  mean_field:smoke
  prunability:smoke
  implicit_compressibility:smoke
)
left=${#runs[@]}
for run in "${runs[@]}"; do
  study=${run%:*} preset=${run#*:}
  share=$(((end - SECONDS) / left))
  left=$((left - 1))
  [ "$share" -lt 5 ] && continue
  workdir=$out/$study-$preset
  mkdir -p "$workdir"
  timeout "$share" python -m "experiments.$study" \
    --config="experiments/$study/config.py:$preset" --workdir="$workdir" \
    >"$out/$study-$preset.log" 2>&1
  echo "$study:$preset ended with $? after $SECONDS s"
done
