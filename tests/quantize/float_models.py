"""Small classifiers with seeded random weights, of the shapes that torchvision's nets have."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels)


class Basic(nn.Module):
    """ResNet's basic block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), _norm(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), _norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), _norm(outputs)) if stride > 1 else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """7x7 stem, max pool, basic blocks, Add + ReLU, global average."""

    def __init__(self, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, width, 7, 2, 3, bias=False), _norm(width), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1, self.layer2 = Basic(width, width, 1), Basic(width, 2 * width, 2)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x))))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Inverted(nn.Module):
    """MobileNetV2's block (ReLU6, 3x3), or MNASNet's (ReLU, 5x5)."""

    def __init__(self, inputs: int, outputs: int, stride: int, kernel: int, relu: Callable[[], nn.Module]) -> None:
        super().__init__()
        inner = inputs * 3
        self.skip = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            *(nn.Conv2d(inputs, inner, 1, bias=False), _norm(inner), relu()),
            *(nn.Conv2d(inner, inner, kernel, stride, kernel // 2, groups=inner, bias=False), _norm(inner), relu()),
            *(nn.Conv2d(inner, outputs, 1, bias=False), _norm(outputs)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.skip else self.layers(x)


def mobile(kernel: int = 3, relu: Callable[[], nn.Module] = nn.ReLU6, classes: int = 10) -> nn.Module:
    """A net of inverted blocks that ends in a mean, as torchvision's do."""

    class Mobile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(
                *(nn.Conv2d(3, 8, 3, 2, 1, bias=False), _norm(8), relu()),
                *(Inverted(8, 8, 1, kernel, relu), Inverted(8, 16, 2, kernel, relu), Inverted(16, 16, 1, kernel, relu)),
            )
            self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(16, classes))

        def forward(self, x: Tensor) -> Tensor:
            return self.classifier(self.features(x).mean([2, 3]))

    return Mobile()


def vgg(classes: int = 10) -> nn.Module:
    """Plain: biases, "same" padding, groups, dilation, both pools, a flattened picture, two linear layers, softmax."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)),
        *(nn.Conv2d(8, 16, 3, padding=2, dilation=2, groups=2), nn.ReLU(), nn.AvgPool2d(3, 2, 1)),
        *(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(16, 16, 3, 2), nn.ReLU6(), nn.Flatten()),
        *(nn.LazyLinear(32), nn.ReLU(), nn.Dropout(), nn.Linear(32, classes), nn.Softmax(1)),
    )


def seeded(make: Callable[[], nn.Module], size: int = 32, seed: int = 0) -> nn.Module:
    """Make a model in eval mode whose batch norms have seen a few random pictures."""
    torch.manual_seed(seed)
    model = make()
    with torch.no_grad():
        model.train()
        for _ in range(4):
            model(torch.randn(8, 3, size, size))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.clamp_(min=1e-3)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.3)
    return model.eval()


def resnet() -> nn.Module:
    """For `quantize float_models:resnet`."""
    return seeded(ResNet)


def wide_resnet() -> nn.Module:
    """ResNet-18's sizes, for the comparison with real Caffe2."""
    return seeded(lambda: ResNet(width=64, classes=1000), size=64)


def mobilenet() -> nn.Module:
    """MobileNetV2's kind."""
    return seeded(mobile)


def mnasnet() -> nn.Module:
    """MNASNet's kind."""
    return seeded(lambda: mobile(5, nn.ReLU))


def vgg_like() -> nn.Module:
    """Everything else."""
    return seeded(vgg)


def swish() -> nn.Module:
    """Refused."""
    return seeded(lambda: mobile(3, nn.SiLU))
