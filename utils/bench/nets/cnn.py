"""Image classifiers: ResNet-50, MobileNet v2 and v3 large."""
import torch.nn as nn
import torch.nn.functional as F


class Bottleneck(nn.Module):
    def __init__(s, cin, mid, stride):
        super().__init__()
        cout = mid * 4
        s.conv1, s.bn1 = nn.Conv2d(cin, mid, 1, bias=False), nn.BatchNorm2d(mid)
        s.conv2, s.bn2 = nn.Conv2d(mid, mid, 3, stride, 1, bias=False), nn.BatchNorm2d(mid)
        s.conv3, s.bn3 = nn.Conv2d(mid, cout, 1, bias=False), nn.BatchNorm2d(cout)
        s.down = None
        if stride != 1 or cin != cout:
            s.down = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(s, x):
        y = F.relu(s.bn1(s.conv1(x)))
        y = F.relu(s.bn2(s.conv2(y)))
        y = s.bn3(s.conv3(y)) * 0.5  # keeps the residual stream from growing with random weights
        return F.relu(y + (x if s.down is None else s.down(x)))


class ResNet50(nn.Module):
    def __init__(s, classes=1000):
        super().__init__()
        s.conv1, s.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        blocks, cin = [], 64
        for i, (n, mid) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)]):
            for j in range(n):
                blocks.append(Bottleneck(cin, mid, 2 if i and j == 0 else 1))
                cin = mid * 4
        s.layers, s.fc = nn.Sequential(*blocks), nn.Linear(2048, classes)

    def forward(s, x):
        x = F.max_pool2d(F.relu(s.bn1(s.conv1(x))), 3, 2, 1)
        x = F.adaptive_avg_pool2d(s.layers(x), 1).flatten(1)
        return s.fc(x)


class InvRes(nn.Module):
    """MobileNet v2/v3 block: expand, depthwise, optional squeeze-excite, project."""

    def __init__(s, cin, cout, stride, exp, k=3, se=False, act="relu6"):
        super().__init__()
        s.act = {"relu6": F.relu6, "relu": F.relu, "hs": F.hardswish}[act]
        s.expand = None
        if exp != cin:
            s.expand = nn.Sequential(nn.Conv2d(cin, exp, 1, bias=False), nn.BatchNorm2d(exp))
        s.dw = nn.Sequential(nn.Conv2d(exp, exp, k, stride, k // 2, groups=exp, bias=False), nn.BatchNorm2d(exp))
        s.se = None
        if se:
            sq = max(8, (exp // 4 + 4) // 8 * 8)
            s.se = nn.ModuleList([nn.Conv2d(exp, sq, 1), nn.Conv2d(sq, exp, 1)])
        s.proj = nn.Sequential(nn.Conv2d(exp, cout, 1, bias=False), nn.BatchNorm2d(cout))
        s.skip = stride == 1 and cin == cout

    def forward(s, x):
        y = x if s.expand is None else s.act(s.expand(x))
        y = s.act(s.dw(y))
        if s.se is not None:
            z = F.adaptive_avg_pool2d(y, 1)
            y = y * F.hardsigmoid(s.se[1](F.relu(s.se[0](z))))
        y = s.proj(y)
        return x + y if s.skip else y


class MobileNet(nn.Module):
    def __init__(s, v):
        super().__init__()
        s.v = v
        if v == 2:
            s.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32))
            bl, cin = [], 32
            for t, c, n, st in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
                for i in range(n):
                    bl.append(InvRes(cin, c, st if i == 0 else 1, cin * t))
                    cin = c
            s.blocks = nn.Sequential(*bl)
            s.head = nn.Sequential(nn.Conv2d(cin, 1280, 1, bias=False), nn.BatchNorm2d(1280))
            s.fc = nn.Linear(1280, 1000)
        else:  # v3 large
            s.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16))
            cfg = [(3, 16, 16, 0, "relu", 1), (3, 64, 24, 0, "relu", 2), (3, 72, 24, 0, "relu", 1), (5, 72, 40, 1, "relu", 2),
                   (5, 120, 40, 1, "relu", 1), (5, 120, 40, 1, "relu", 1), (3, 240, 80, 0, "hs", 2), (3, 200, 80, 0, "hs", 1),
                   (3, 184, 80, 0, "hs", 1), (3, 184, 80, 0, "hs", 1), (3, 480, 112, 1, "hs", 1), (3, 672, 112, 1, "hs", 1),
                   (5, 672, 160, 1, "hs", 2), (5, 960, 160, 1, "hs", 1), (5, 960, 160, 1, "hs", 1)]
            bl, cin = [], 16
            for k, e, c, se, act, st in cfg:
                bl.append(InvRes(cin, c, st, e, k, bool(se), act))
                cin = c
            s.blocks = nn.Sequential(*bl)
            s.head = nn.Sequential(nn.Conv2d(cin, 960, 1, bias=False), nn.BatchNorm2d(960))
            s.fc1, s.fc = nn.Linear(960, 1280), nn.Linear(1280, 1000)

    def forward(s, x):
        act = F.relu6 if s.v == 2 else F.hardswish
        x = s.blocks(act(s.stem(x)))
        x = F.adaptive_avg_pool2d(act(s.head(x)), 1).flatten(1)
        if s.v == 3:
            x = F.hardswish(s.fc1(x))
        return s.fc(x)
