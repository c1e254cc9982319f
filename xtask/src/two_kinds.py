"""Puts each spoken digit of fsdd beside a handwritten one of MNIST: a list for `data.two_kinds`.

    cargo xtask fetch-data fsdd mnist
    python3 xtask/src/two_kinds.py data pairs

Writes `pairs/list.csv` with a row for each of the 3,000 recordings: `sound`, `image`, `digit` and `split`. Recordings 0 to 4 of each speaker
and digit are the test, as fsdd has it, and no image is used twice.
"""

import csv
import gzip
import pathlib
import sys
import zipfile

data, out = map(pathlib.Path, sys.argv[1:3])
pixels = gzip.open(data / "mnist/train-images-idx3-ubyte.gz").read()[16:]
labels = gzip.open(data / "mnist/train-labels-idx1-ubyte.gz").read()[8:]
unused = {digit: iter([place for place, label in enumerate(labels) if label == digit]) for digit in range(10)}

for folder in ("sounds", "images"):
    (out / folder).mkdir(parents=True, exist_ok=True)
with zipfile.ZipFile(data / "fsdd/free-spoken-digit-dataset.zip") as archive, open(out / "list.csv", "w", newline="") as lines:
    rows = csv.writer(lines)
    rows.writerow(["sound", "image", "digit", "split"])
    for member in sorted(name for name in archive.namelist() if "/recordings/" in name and name.endswith(".wav")):
        name = pathlib.PurePosixPath(member)
        digit, _, index = name.stem.split("_")
        place = next(unused[int(digit)])
        sound, image = f"sounds/{name.name}", f"images/{digit}_{place}.pgm"
        (out / sound).write_bytes(archive.read(member))
        (out / image).write_bytes(b"P5\n28 28\n255\n" + pixels[784 * place : 784 * (place + 1)])
        rows.writerow([sound, image, digit, "test" if int(index) < 5 else "train"])
