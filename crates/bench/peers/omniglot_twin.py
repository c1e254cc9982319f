#!/usr/bin/env python3
"""The peers' side of `bench train`: docs/recipes/omniglot_twin.toml in PyTorch and pytorch-metric-learning, until a Recall@1 is reached.

  omniglot_twin.py DATA THREADS SEED STEPS EVERY ENOUGH

Reads DATA/omniglot/images_{background,evaluation}.zip, trains at most STEPS steps with an evaluation after every EVERY of them, and
ends at the first whose Recall@1 is at least ENOUGH. Prints one JSON line with `step` and `recall_at_1`.
"""
import io
import json
import os
import sys
import zipfile

data, threads, seed, steps, every, enough = sys.argv[1], *map(int, sys.argv[2:6]), float(sys.argv[6])
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
import numpy as np  # noqa: E402  (after the number of threads)
import torch  # noqa: E402
import torch.nn as nn  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from PIL import Image  # noqa: E402
from pytorch_metric_learning import losses, miners  # noqa: E402

torch.set_num_threads(threads)
torch.manual_seed(seed)
rng = np.random.default_rng(seed)


def read(name):
    """Ink as 1, 28 × 28 by area; a class for each character."""
    images, labels, classes = [], [], {}
    with zipfile.ZipFile(os.path.join(data, "omniglot", f"{name}.zip")) as archive:
        for member in sorted(archive.namelist()):
            if member.endswith(".png"):
                image = Image.open(io.BytesIO(archive.read(member))).convert("L").resize((28, 28), Image.BOX)
                images.append(1 - np.asarray(image, np.float32) / 255)
                labels.append(classes.setdefault(member.rsplit("/", 1)[0], len(classes)))
    return np.stack(images)[:, None], np.array(labels)


class Conv4(nn.Module):
    def __init__(self):
        super().__init__()
        layers, channels = [], 1
        for _ in range(4):
            layers += [nn.Conv2d(channels, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)]
            channels = 64
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return F.normalize(self.layers(x).flatten(1))


def recall_at_1(net, images, labels):
    net.eval()
    with torch.no_grad():
        rows = torch.cat([net(torch.from_numpy(images[at : at + 1024])) for at in range(0, len(images), 1024)])
    net.train()
    labels, right = torch.from_numpy(labels), 0
    for at in range(0, len(rows), 512):
        products = rows[at : at + 512] @ rows.T
        own = torch.arange(at, at + len(products))
        products[own - at, own] = -9.0
        right += (labels[products.argmax(1)] == labels[own]).sum().item()
    return right / len(rows)


train, test = read("images_background"), read("images_evaluation")
of_class = [np.flatnonzero(train[1] == label) for label in range(train[1].max() + 1)]
net = Conv4()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
loss, miner = losses.TripletMarginLoss(margin=0.2), miners.TripletMarginMiner(margin=0.2, type_of_triplets="semihard")
recall = 0.0
for step in range(1, steps + 1):
    classes = rng.choice(len(of_class), 32, replace=False)
    batch = np.concatenate([rng.choice(of_class[label], 4, replace=False) for label in classes])
    rows, labels = net(torch.from_numpy(train[0][batch])), torch.from_numpy(train[1][batch])
    optimizer.zero_grad(set_to_none=True)
    loss(rows, labels, miner(rows, labels)).backward()
    optimizer.step()
    if step % every == 0:
        recall = recall_at_1(net, *test)
        if recall >= enough:
            break
print(json.dumps({"step": step, "recall_at_1": recall}), flush=True)
