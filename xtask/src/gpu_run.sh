#!/usr/bin/env bash
# Tries nearfar on this machine's NVIDIA GPU: no Rust is needed, but a driver from 580 on and the libraries of CUDA 13, such as a PyTorch
# for CUDA 13 brings.
#
#   ./run.sh [OMNIGLOT]     with a folder that holds `omniglot`, trains the recipe too
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
libraries=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null || true)
if [ -n "$libraries" ]; then
  export LD_LIBRARY_PATH=$libraries/cu13/lib:$libraries/cudnn/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
if missing=$(ldd "$here/nearfar" | grep 'not found'); then
  echo "$missing"
  echo "error: these libraries are missing; install PyTorch for CUDA 13, or put CUDA 13 on LD_LIBRARY_PATH" >&2
  exit 5
fi
step() { printf '\n== %s\n' "$1"; shift; "$@"; }
step "every model on the GPU and on the CPU" "$here/models" a_gpu_computes_what_the_cpu_does --nocapture
export NEARFAR_BENCH_SCRIPTS=$here/peers
peers=()
if python3 -c 'import torch, pytorch_metric_learning' 2>/dev/null; then
  mkdir -p "$here/python/bin"
  ln -sf "$(command -v python3)" "$here/python/bin/python"
  peers=(--peers "$here/python")
else
  echo "no PyTorch with pytorch-metric-learning: steps are measured without them"
fi
step "training steps" "$here/nearfar-bench" step --device cuda --rounds 3 --json "$here/steps.json" "${peers[@]}"
if [ $# -gt 0 ]; then
  step "the Omniglot recipe" "$here/nearfar" train "$here/omniglot_twin.toml" --data "$1" --device cuda --out "$here/omniglot"
fi
