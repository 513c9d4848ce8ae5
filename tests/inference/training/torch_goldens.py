"""Writes tests/vectors/training: what PyTorch says of the same networks. Run by hand where PyTorch is installed:

python -m tests.inference.training.torch_goldens
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from tests.inference.training.networks import NETWORKS, Arrays, Network

VECTORS = Path(__file__).parents[2] / "vectors" / "training"
Tensors = dict[str, Any]


def lights(x: Any, p: Tensors) -> Any:
    for layer in "123":
        x = F.relu(F.conv2d(x, p[f"w{layer}"], p[f"b{layer}"], stride=2, padding=1))
    return F.linear(F.avg_pool2d(x, (1, 4)).flatten(1), p["w4"], p["b4"])


def mobile(x: Any, p: Tensors) -> Any:
    def normalized(y: Any, layer: str) -> Any:
        return F.batch_norm(y, p["m"], p["v"], p[f"g{layer}"], p[f"h{layer}"], training=False)

    a = F.hardswish(normalized(F.conv2d(x, p["w1"], stride=2, padding=1), "1"))
    d = F.relu6(normalized(F.conv2d(a, p["w2"], padding=1, groups=8), "2"))
    r = F.conv2d(d, p["w3"], p["b3"]) + a
    return F.linear(r.mean((2, 3)), p["w4"], p["b4"])


def mixer(x: Any, p: Tensors) -> Any:
    s = torch.tanh(x @ p["w1"] + p["b1"]).transpose(1, 2)
    return (torch.sigmoid(s @ p["w2"]) * s).mean(2) @ p["w3"] + p["b3"]


FORWARD: dict[str, Callable[[Any, Tensors], Any]] = {"lights": lights, "mobile": mobile, "mixer": mixer}


def golden(name: str, network: Network) -> Arrays:
    """In double precision, of inputs that are exact in single."""
    draw = np.random.default_rng(len(name))
    x = draw.normal(0, 1, network.x).astype(np.float32)
    labels = draw.integers(0, network.y[1], network.y[0])
    weights = np.ones(network.y[0], np.float32)
    weights[-1] = 0
    values = {key: value.astype(np.float32) for key, value in network.parameter_values().items()}
    tensors: Tensors = {key: torch.tensor(value).double().requires_grad_() for key, value in values.items()}
    constants = {key: torch.tensor(value).double() for key, value in network.constants.items()}
    logits = FORWARD[name](torch.tensor(x).double(), {**tensors, **constants})
    each = F.cross_entropy(logits, torch.tensor(labels), reduction="none")
    loss = (each * torch.tensor(weights)).sum() / weights.sum()
    loss.backward()
    gradients = {f"grad.{key}": tensor.grad.numpy().astype(np.float32) for key, tensor in tensors.items()}
    return {"x": x, "labels": labels, "weights": weights, "loss": loss.detach().numpy(), **values, **gradients}


if __name__ == "__main__":
    VECTORS.mkdir(parents=True, exist_ok=True)
    for name, network in NETWORKS.items():
        np.savez_compressed(VECTORS / f"{name}.npz", allow_pickle=False, **golden(name, network))
