"""PyTorch as a peer in the training benchmark: the same networks, optimizers and augmentation."""

from collections.abc import Callable
from typing import Any

import numpy as np

from cifar.benchmark.workload import Tick, Workload
from cifar.networks import NETWORKS
from cifar.recipes import Policy


def train(work: Workload, tick: Tick) -> None:
    """PyTorch, channels last; in bfloat16 with autocast."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(work.threads)
    model = network(work.network)
    optimizer = _optimizer(model, work)
    images, labels = torch.from_numpy(work.images), torch.from_numpy(work.labels.astype(np.int64))
    in_bfloat16 = torch.autocast("cpu", torch.bfloat16, enabled=work.precision == "bfloat16")
    while True:
        for index in torch.randperm(len(images)).split(work.batch_size):
            batch = images[index].permute(0, 3, 1, 2).float().div_(255)  # channels last in memory
            batch = augment(batch, work.policy)
            with in_bfloat16:
                outputs = model(batch)
                loss = functional.cross_entropy(outputs, labels[index], label_smoothing=work.recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            tick()


def network(name: str) -> Any:
    """Return a reference network in PyTorch: float32 (N, 3, 32, 32), 0 to 1, channels last, to logits (N, 10)."""
    import torch

    build = _BUILD[NETWORKS[name].module]
    return build(NETWORKS[name].filters).to(memory_format=torch.channels_last)


def _tutorial(filters: tuple[int, ...]) -> Any:
    from torch import nn

    stack: list[Any] = []
    width = 3
    for channels in filters:
        stack += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3), nn.ReLU()]
        stack += [nn.MaxPool2d(2), nn.Dropout(0.25)]
        width = channels
    stack += [nn.Flatten(), nn.Linear(4 * width, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 10)]
    return nn.Sequential(*stack)


def _airbench94(filters: tuple[int, ...]) -> Any:
    """The layers of cifar.networks.airbench94; the speed does not depend on the numbers in them."""
    from torch import nn

    class Normalize(nn.Module):  # type: ignore[misc]
        def forward(self, images: Any) -> Any:
            return (images - 0.5) / 0.25

    class Scale(nn.Module):  # type: ignore[misc]
        def forward(self, logits: Any) -> Any:
            return logits / 9

    stack: list[Any] = [Normalize(), nn.Conv2d(3, 24, 2), nn.GELU()]
    width = 24
    for channels in filters:
        stack += [nn.Conv2d(width, channels, 3, padding=1, bias=False), nn.MaxPool2d(2), _normalization(channels)]
        stack += [
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            _normalization(channels),
            nn.GELU(),
        ]
        width = channels
    stack += [nn.MaxPool2d(3), nn.Flatten(), nn.Linear(width, 10, bias=False), Scale()]
    return nn.Sequential(*stack)


def _normalization(channels: int) -> Any:
    """Batch normalization with a bias and without a trained scale."""
    from torch import nn

    layer = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)  # the share of the new, where Keras names the old's
    layer.weight.requires_grad_(False)
    return layer


_BUILD: dict[str, Callable[[tuple[int, ...]], Any]] = {"tutorial": _tutorial, "airbench94": _airbench94}


def _optimizer(model: Any, work: Workload) -> Any:
    """The optimizer of the recipe, at a constant rate."""
    import torch

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    recipe = work.recipe
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            trained, lr=1e-3, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
        )
    return torch.optim.RMSprop(trained, lr=1e-3, alpha=0.9, eps=1e-7)


def augment(images: Any, policy: Policy) -> Any:
    """Shift, rotation and flip as one bilinear resampling of a float batch (N, 3, 32, 32)."""
    import torch
    from torch.nn import functional

    if policy.name == "none":
        return images
    n = len(images)
    angle = torch.empty(n).uniform_(-1, 1) * policy.rotation * torch.pi / 180
    mirror = torch.ones(n)
    if policy.horizontal_flip:
        mirror = 1 - 2 * torch.randint(0, 2, (n,)).float()
    shift = torch.empty(2, n).uniform_(-2, 2) * policy.shift
    first_row = torch.stack([angle.cos() * mirror, -angle.sin(), shift[0]], dim=1)
    second_row = torch.stack([angle.sin() * mirror, angle.cos(), shift[1]], dim=1)
    matrices = torch.stack([first_row, second_row], dim=1)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    resampled = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return resampled.contiguous(memory_format=torch.channels_last)
