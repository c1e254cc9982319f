#!/usr/bin/env bash
# Makes a folder in which candle's features `cuda` and `cudnn` build on x86-64 Linux without a GPU, a driver or a CUDA toolkit.
#
#   cuda_toolkit.sh FOLDER SOURCES_OF_CUDARC
#
# Needs python3 with pip, gcc and g++ (15 at most). nvcc and what it reads come from NVIDIA's Python packages (104 MB). What a program is
# linked to comes from no package: stand-ins with the names that cudarc declares, whose functions all fail. They serve the linker; on the
# machine with the GPU the real libraries are found. nvcc is that of CUDA 13.0 on purpose: drivers from 580 on take what it writes, and
# not always what a later one does.
set -euo pipefail
folder=$1 cudarc=$2
mkdir -p "$folder/bin" "$folder/lib/stubs"
[ -e "$folder/lib64" ] || ln -s lib "$folder/lib64"

if [ ! -x "$folder/nvvm/bin/cicc" ]; then
  work=$(mktemp -d "$folder/unpack.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  python3 -m pip download --quiet --no-deps --only-binary=:all: \
    --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --dest "$work/wheels" nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
  for wheel in "$work"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$work/files"; done
  for part in "$work"/files/nvidia/*/; do cp -a "$part". "$folder/"; done
  chmod +x "$folder"/bin/* "$folder"/nvvm/bin/*
fi

stub() { # LIBRARY VERSION STATUS MODULE: the status is one that this library has for "cannot work"
  local file=$folder/lib/stubs/lib$1.so.$2
  sed -nE "s/^ *pub unsafe fn ([A-Za-z0-9_]+)\(.*/int \1(void) { return $3; }/p" "$cudarc/src/$4/sys/mod.rs" | sort -u |
    gcc -shared -fPIC -w -fno-builtin -O1 -x c -Wl,-soname,"lib$1.so.$2" -o "$file" -
  ln -sf "lib$1.so.$2" "$folder/lib/stubs/lib$1.so"
}
stub cuda 1 34 driver
stub cublas 13 1 cublas
stub cublasLt 13 1 cublaslt
stub curand 10 203 curand
stub nvrtc 13 11 nvrtc
stub cudnn 9 1001 cudnn
for library in "$folder"/lib/lib*.so.*; do # The linker wants libX.so beside libX.so.N.
  link=${library%%.so.*}.so
  [ -e "$link" ] || ln -s "$(basename "$library")" "$link"
done

# nvcc but for the kernels of quantized and mixture-of-experts models, which nearfar does not use: ten minutes and 33 MB in every
# program. They become functions that abort.
cat > "$folder/bin/nvcc-lean" <<'NVCC'
#!/usr/bin/env bash
set -euo pipefail
out= source= object=
arguments=("$@")
while [ $# -gt 0 ]; do
  case $1 in
    -c) object=yes ;;
    -o) out=$2; shift ;;
    *.cu) source=$(basename "$1") ;;
  esac
  shift
done
case ${object:-no}:$source in
  yes:moe_*|yes:mmvq_*|yes:mmq_*) # candle-kernels declares these functions in src/ffi.rs
    { echo 'extern void abort(void);'
      sed -nE 's/^ *(pub )?fn ([a-z0-9_]+)\(.*/__attribute__((weak)) void \2(void) { abort(); }/p' src/ffi.rs
    } | gcc -w -fPIC -O1 -x c -c -o "$out" - ;;
  *) exec "$(dirname "$0")/nvcc" "${arguments[@]}" ;;
esac
NVCC
chmod +x "$folder/bin/nvcc-lean"
