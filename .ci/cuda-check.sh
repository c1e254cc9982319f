#!/usr/bin/env bash
# Type-checks the features cuda and cudnn on a machine that has no GPU, no driver and no CUDA toolkit.
#
#   .ci/cuda-check.sh [DIR]     DIR keeps the stand-in toolkit and the target folder (default: target-cuda)
#
# candle-kernels runs nvcc from its build script. A stand-in that compiles nothing lets everything else be compiled
# and checked; no program is linked, and none of it runs. To link and run, use a real CUDA 13.0 toolkit:
# `cargo build --release --features cuda,cudnn`.
set -euo pipefail
dir=$(realpath -m "${1:-target-cuda}")
home=$dir/toolkit
mkdir -p "$home/bin" "$home/include" "$home/lib/stubs"
[ -e "$home/lib64" ] || ln -s lib "$home/lib64"
[ -e "$home/include/cuda.h" ] || printf '#define CUDA_VERSION 13000\n' > "$home/include/cuda.h"
for library in cuda cudart cublas cublasLt curand nvrtc cudnn; do
  [ -e "$home/lib/stubs/lib$library.so" ] || echo | gcc -shared -fPIC -x c -o "$home/lib/stubs/lib$library.so" -
done

cat > "$home/bin/nvcc" <<'NVCC'
#!/usr/bin/env bash
# nvcc for candle's build script: answers its version, and leaves empty PTX and empty objects.
set -euo pipefail
src= out= outdir=. mode= objs=()
while [ $# -gt 0 ]; do
  case $1 in
    --version|-V) printf '%s\n' 'nvcc: stand-in' '-' '-' 'Cuda compilation tools, release 13.0, V13.0.88'; exit 0 ;;
    --ptx) mode=ptx ;;
    -c) mode=obj ;;
    --lib) mode=lib ;;
    -o) out=$2; shift ;;
    --output-directory) outdir=$2; shift ;;
    -Xcompiler|--default-stream|-ccbin) shift ;;
    *.cu) src=$1 ;;
    *.o) objs+=("$1") ;;
  esac
  shift
done
case $mode in
  lib) rm -f "$out"; exec ar crs "$out" "${objs[@]}" ;;
  ptx) [ -n "$out" ] || out=$outdir/$(basename "$src" .cu).ptx
       printf '.version 8.0\n.target sm_80\n.address_size 64\n' > "$out" ;;
  obj) echo 'static int none;' | gcc -w -fPIC -x c -c -o "$out" - ;;
  *) echo "this nvcc is a stand-in and cannot do: $mode" >&2; exit 1 ;;
esac
NVCC
chmod +x "$home/bin/nvcc"

export CUDA_HOME=$home CUDA_PATH=$home CUDA_COMPUTE_CAP=80 CUDARC_CUDA_VERSION=13000
export NVCC=$home/bin/nvcc PATH=$home/bin:$PATH
CARGO_TARGET_DIR=$dir/target cargo check --locked -p nearfar --features cuda,cudnn
