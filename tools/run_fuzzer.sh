#!/usr/bin/env bash
# run_fuzzer.sh PROGRAM CORPUS WORK: lets a libFuzzer program run for KRAIT_FUZZ_SECONDS (20), starting from the
# inputs in CORPUS. New inputs and whatever crashed stand in WORK, which the next run reads too.
set -euo pipefail

program=$1 corpus=$2 work=$3
mkdir -p "$work/inputs"
seeds=("$work/inputs")
if [[ -d $corpus ]]; then seeds+=("$corpus"); fi
exec "$program" -max_total_time="${KRAIT_FUZZ_SECONDS:-20}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
  -artifact_prefix="$work/" "${seeds[@]}"
