"""An architecture of one's own, with layer groups: it learns five digits, then five others from few examples.

python examples/lesson6_own_architecture.py     # scikit-learn's handwritten digits: 0 to 4, then 5 to 9
It reached 98.3 % with 0 to 4; with 20 of 5 to 9 then 87.7 %, from random weights 84.3 % (one run, 30 s of one core).
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from torch import Tensor, nn

from easylearn import ImageData, LayerGroup, Learner, accuracy, adamw, load_predictor, register

PIXELS, LABELS = (load_digits().images * 15.9).astype(np.uint8), load_digits().target


@register("lesson6.small-net")  # so that an exported file can say by name how to build it
class SmallNet(nn.Module):
    def __init__(self, width: int = 32, n_classes: int = 5) -> None:
        super().__init__()
        first, second = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.stem = nn.Sequential(first, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2))
        self.body = nn.Sequential(second, nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.body(x))


def make_learner(which: range, n: int) -> Learner:
    x, y = (a[np.isin(LABELS, which)] for a in (PIXELS, LABELS))
    data = ImageData.from_arrays((x[:n], y[:n]), (x[-300:], y[-300:]), channels=1, batch_size=10, workers=0)
    net = SmallNet()
    groups = [LayerGroup(name, (getattr(net, name),)) for name in ("stem", "body", "head")]
    return Learner(data, net, groups=groups, optimizer=adamw, metrics=[accuracy], progress=False)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="few examples and epochs")
parser.add_argument("--out", type=Path, default=Path("lesson6"), help="folder for model and figure")
given = parser.parse_args()
first, rows, epochs = make_learner(range(5), 100 if given.quick else 500), {}, 2 if given.quick else 12
print(first.summary(), first.fit_one_cycle(1e-2, epochs // 2), sep="\n")
for n in (20, 40) if given.quick else (10, 20, 40, 80):
    anew, tuned = make_learner(range(5, 10), n), make_learner(range(5, 10), n)
    for part in ("stem", "body"):
        getattr(tuned.model, part).load_state_dict(getattr(first.model, part).state_dict())
    tuned.freeze()
    tuned.fit(1e-2, epochs // 2)  # the new head alone, then all, with less the nearer to the pixels
    tuned.unfreeze()
    said = tuned.fit_one_cycle({"stem": 3e-3, "body": 5e-3, "head": 1e-2}, epochs)
    rows[n] = [anew.fit_one_cycle(1e-2, epochs + epochs // 2).last["accuracy"], said.last["accuracy"]]
by = pd.DataFrame(rows, index=["from random weights", "from those of 0 to 4"]).T.round(3)
tuned.export(given.out / "digits.easylearn")
print(by, load_predictor(given.out / "digits.easylearn").predict(list(PIXELS[5:10])).labels, sep="\n")
by.plot(marker="o", xlabel="examples of 5 to 9", ylabel="accuracy", grid=True).figure.savefig(given.out / "few.png")
