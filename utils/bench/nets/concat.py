"""Image networks whose channels are concatenated: DenseNet-121 (Huang et al. 2017), SqueezeNet 1.1 (Iandola et al. 2016) and the nine blocks of
GoogLeNet (Szegedy et al. 2015, with batch normalisation). One image of 3x224x224 each, 1000 classes."""
import torch
import torch.nn as nn
import torch.nn.functional as F


def conv(ci, co, k, stride=1):
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(nn.Conv2d(ci, co, k, stride, k // 2, bias=False), nn.BatchNorm2d(co), nn.ReLU())


class DenseLayer(nn.Module):
    """What is there, and 32 channels computed from all of it."""

    def __init__(self, ci):
        super().__init__()
        self.norm, self.reduce, self.grow = nn.BatchNorm2d(ci), conv(ci, 128, 1), nn.Conv2d(128, 32, 3, padding=1, bias=False)

    def forward(self, x):
        return torch.cat([x, self.grow(self.reduce(F.relu(self.norm(x))))], 1)


class DenseNet121(nn.Module):
    def __init__(self):
        super().__init__()
        layers, c = [conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)], 64
        for i, n in enumerate((6, 12, 24, 16)):
            layers += [DenseLayer(c + 32 * j) for j in range(n)]
            c += 32 * n
            layers += [nn.BatchNorm2d(c), nn.ReLU()]
            if i < 3:
                layers += [nn.Conv2d(c, c // 2, 1, bias=False), nn.AvgPool2d(2)]
                c //= 2
        self.features, self.classify = nn.Sequential(*layers), nn.Linear(c, 1000)

    def forward(self, x):
        return self.classify(self.features(x).mean((2, 3)))


class Fire(nn.Module):
    def __init__(self, ci, squeeze, expand):
        super().__init__()
        self.squeeze, self.one, self.three = nn.Conv2d(ci, squeeze, 1), nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.one(x)), F.relu(self.three(x))], 1)


class SqueezeNet(nn.Module):
    def __init__(self):
        super().__init__()
        pool = lambda: nn.MaxPool2d(3, 2, ceil_mode=True)
        self.features = nn.Sequential(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), Fire(64, 16, 64), Fire(128, 16, 64), pool(), Fire(128, 32, 128),
                                      Fire(256, 32, 128), pool(), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
                                      nn.Conv2d(512, 1000, 1), nn.ReLU())

    def forward(self, x):
        return self.features(x).mean((2, 3))


class Inception(nn.Module):
    def __init__(self, ci, c1, r3, c3, r5, c5, p):
        super().__init__()
        self.one, self.three, self.five = conv(ci, c1, 1), nn.Sequential(conv(ci, r3, 1), conv(r3, c3, 3)), nn.Sequential(conv(ci, r5, 1), conv(r5, c5, 3))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(ci, p, 1))

    def forward(self, x):
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


class GoogLeNet(nn.Module):
    def __init__(self):
        super().__init__()
        pool = lambda: nn.MaxPool2d(3, 2, 1)
        self.features = nn.Sequential(
            conv(3, 64, 7, 2), pool(), conv(64, 64, 1), conv(64, 192, 3), pool(), Inception(192, 64, 96, 128, 16, 32, 32),
            Inception(256, 128, 128, 192, 32, 96, 64), pool(), Inception(480, 192, 96, 208, 16, 48, 64), Inception(512, 160, 112, 224, 24, 64, 64),
            Inception(512, 128, 128, 256, 24, 64, 64), Inception(512, 112, 144, 288, 32, 64, 64), Inception(528, 256, 160, 320, 32, 128, 128), pool(),
            Inception(832, 256, 160, 320, 32, 128, 128), Inception(832, 384, 192, 384, 48, 128, 128))
        self.classify = nn.Linear(1024, 1000)

    def forward(self, x):
        return self.classify(self.features(x).mean((2, 3)))


# name: (module, floating-point operations of one run)
CONCAT_NETS = {"densenet121": (DenseNet121, int(5.7e9)), "squeezenet": (SqueezeNet, int(0.70e9)), "googlenet": (GoogLeNet, int(3.0e9))}
