#!/usr/bin/env python3
"""The peers' side of the benchmarks: the same work in PyTorch and pytorch-metric-learning.

  peers.py CASE THREADS [ROWS LOSS SHOWN]   answers each line on standard input with one JSON line: a round of that many
                                            repetitions
  peers.py --versions                       one JSON line with the versions

A training case is forward, mean square of the embedding as the loss, backward and an Adam step (fused, PyTorch's fastest).
A loss case is the value and the gradient of the embeddings, which lie in the file ROWS (f32, n rows of 128, 8 rows a class, and
after them as many as the loss wants for the centers of its own); LOSS is an expression such as losses.ContrastiveLoss(). SHOWN
is `classes`, or `views`: then the first half is one view and the second the other.
"""
import json
import os
import resource
import sys
import time

if sys.argv[1:] == ["--versions"]:
    import pytorch_metric_learning
    import torch

    print(json.dumps({"torch": torch.__version__, "pytorch-metric-learning": pytorch_metric_learning.__version__}))
    sys.exit()

case, threads = sys.argv[1], int(sys.argv[2])
os.environ["OMP_NUM_THREADS"] = str(threads)
os.environ["MKL_NUM_THREADS"] = str(threads)
import numpy as np  # noqa: E402  (after the number of threads)
import torch  # noqa: E402
import torch.nn as nn  # noqa: E402
import torch.nn.functional as F  # noqa: E402

torch.set_num_threads(threads)
torch.manual_seed(0)
device = os.environ.get("NEARFAR_BENCH_DEVICE", "cpu")  # Of training steps.


def peak_mb():
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def forget_peak():
    try:
        with open("/proc/self/clear_refs", "w") as refs:
            refs.write("5")
    except OSError:
        pass


def training(model, x):
    model, x = model.to(device), x.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    directions = 2 if getattr(model, "bidirectional", False) else 1

    def step():
        optimizer.zero_grad(set_to_none=True)
        y = model(x)
        y = y[1][0][-directions:] if isinstance(y, tuple) else y  # The last states of the last layer.
        loss = y.square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    step.parameters = sum(parameter.numel() for parameter in model.parameters())
    return step


def conv4():
    layers, channels = [], 1
    for _ in range(4):
        layers += [nn.Conv2d(channels, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)]
        channels = 64
    return nn.Sequential(*layers, nn.Flatten(1))


def koch():
    layers, channels = [], 1
    for kernel, outputs, pool in [(10, 64, 2), (7, 128, 2), (4, 128, 2), (4, 256, 1)]:
        layers += [nn.Conv2d(channels, outputs, kernel), nn.ReLU()] + [nn.MaxPool2d(pool)] * (pool > 1)
        channels = outputs
    return nn.Sequential(*layers, nn.Flatten(1), nn.Linear(9216, 4096), nn.Sigmoid())


class Residual(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )
        self.around = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.around = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return F.relu(self.branch(x) + self.around(x), inplace=True)


def resnet18():
    """torchvision's resnet18(num_classes=128)."""
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for outputs in [64, 128, 256, 512]:
        layers += [Residual(channels, outputs, 1 if outputs == 64 else 2), Residual(outputs, outputs, 1)]
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(512, 128))


class Bert(nn.Module):
    """Hugging Face's BertModel of MiniLM-L6 without a pooler, written out: its attention is PyTorch's fused one. The mean of the states."""

    class Layer(nn.Module):
        def __init__(self, hidden, heads, inner):
            super().__init__()
            self.heads = heads
            self.query, self.key, self.value, self.out = (nn.Linear(hidden, hidden) for _ in range(4))
            self.up, self.down = nn.Linear(hidden, inner), nn.Linear(inner, hidden)
            self.first, self.second = nn.LayerNorm(hidden, eps=1e-12), nn.LayerNorm(hidden, eps=1e-12)

        def forward(self, x):
            by_heads = lambda it: it.view(*x.shape[:2], self.heads, -1).transpose(1, 2)
            seen = F.scaled_dot_product_attention(*(by_heads(it(x)) for it in (self.query, self.key, self.value)))
            x = self.first(x + self.out(seen.transpose(1, 2).reshape(x.shape)))
            return self.second(x + self.down(F.gelu(self.up(x))))

    def __init__(self, vocabulary=30522, hidden=384, heads=12, inner=1536, layers=6, positions=512):
        super().__init__()
        self.words, self.places, self.types = (nn.Embedding(n, hidden) for n in (vocabulary, positions, 2))
        self.norm = nn.LayerNorm(hidden, eps=1e-12)
        self.layers = nn.ModuleList(self.Layer(hidden, heads, inner) for _ in range(layers))

    def forward(self, ids):
        x = self.norm(self.words(ids) + self.places.weight[: ids.shape[1]] + self.types.weight[0])
        for layer in self.layers:
            x = layer(x)
        return x.mean(1)


def encoding(model, x):
    model.eval()
    model, x = model.to(device), x.to(device)

    def step():
        with torch.inference_mode():
            return model(x).square().mean().item()

    step.parameters = sum(parameter.numel() for parameter in model.parameters())
    return step


def loss(expression, n, dim=128, per_class=8):
    from pytorch_metric_learning import losses

    classes = n // per_class
    fn = eval(expression, {"losses": losses, "classes": classes, "dim": dim, "n": n})
    labels = torch.arange(n) // per_class
    numbers = torch.from_numpy(np.fromfile(sys.argv[3], np.float32).reshape(-1, dim))
    rows = numbers[:n].clone()
    for name, parameter in fn.named_parameters():
        centers = numbers[n : n + parameter.numel() // dim]
        parameter.data.copy_(centers if name == "proxies" else centers.T)
    del numbers
    views = sys.argv[5] == "views"

    def step():
        x = rows.clone().requires_grad_(True)
        for parameter in fn.parameters():
            parameter.grad = None
        if hasattr(fn, "hist_"):
            fn.hist_ = fn.hist_.detach()  # It keeps the graph of the last batch.
        if expression.startswith("losses.Manifold"):
            value = fn(x)
        elif not views:
            value = fn(x, labels)
        elif expression.startswith("losses.SelfSupervised"):
            value = fn(x[: n // 2], x[n // 2 :])
        else:
            value = fn(x[: n // 2], ref_emb=x[n // 2 :])
        value.backward()
        return value.item()

    return step


def make(size):
    name = case.rsplit("_", 1)[0]
    if name == "conv4":
        return training(conv4(), torch.randn(size, 1, 28, 28))
    if name == "lstm":
        return training(nn.LSTM(64, 128, batch_first=True), torch.randn(size, 32, 64))
    if name == "bilstm2":
        lstm = nn.LSTM(64, 128, num_layers=2, bidirectional=True, batch_first=True)
        return training(lstm, torch.randn(size, 32, 64))
    if name == "mlp":
        mlp = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 128))
        return training(mlp, torch.randn(size, 784))
    if name == "koch":
        return training(koch(), torch.randn(size, 1, 105, 105))
    if name == "resnet18":
        return training(resnet18(), torch.randn(size, 3, 64, 64))
    if name in ("minilm", "minilm-encode"):
        ids = (torch.arange(size * 64) * 7919 % 30522).view(size, 64)
        return (training if name == "minilm" else encoding)(Bert(), ids)
    if len(sys.argv) > 4:
        return loss(sys.argv[4], size)
    sys.exit(f"unknown case {case}")


make(64 if len(sys.argv) > 4 else 4)()  # What a first repetition brings into memory for good, code above all, is no part of what a batch takes.
step = make(int(case.rsplit("_", 1)[1]))
before = peak_mb()
forget_peak()
before = min(before, peak_mb())
step()
growth = peak_mb() - before
print(json.dumps({"ready": case, "peak_mb": growth, "parameters": getattr(step, "parameters", None)}), flush=True)
for line in sys.stdin:
    repetitions = int(line)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repetitions):
        value = step()
    print(
        json.dumps({
            "wall_ms": (time.perf_counter() - wall) * 1e3 / repetitions,
            "cpu_ms": (time.process_time() - cpu) * 1e3 / repetitions,
            "value": value,
        }),
        flush=True,
    )
