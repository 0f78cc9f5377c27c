"""An architecture of one's own, with layer groups: it learns five digits, then five others from few examples.

python examples/lesson6_own_architecture.py     # scikit-learn's handwritten digits: 0 to 4, then 5 to 9

RESULT
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from torch import Tensor, nn

from easylearn import ImageData, LayerGroup, Learner, accuracy, adamw, load_predictor, register

PIXELS, LABELS = (load_digits().images * 15.9).astype(np.uint8), load_digits().target


def block(n_in: int, n_out: int) -> list[nn.Module]:
    return [nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]


@register("lesson6.small-net")  # so that an exported file can say by name how to build it
class SmallNet(nn.Module):
    def __init__(self, width: int = 32, n_classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(*block(1, width), nn.MaxPool2d(2))
        self.body = nn.Sequential(*block(width, width), *block(width, width))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.body(x))


def make_learner(which: range, n_train: int) -> Learner:
    x, y = PIXELS[np.isin(LABELS, which)], LABELS[np.isin(LABELS, which)]
    train, valid = (x[:n_train], y[:n_train]), (x[-300:], y[-300:])
    data = ImageData.from_arrays(train, valid, channels=1, batch_size=10, workers=0)
    net = SmallNet()
    groups = [LayerGroup(name, (getattr(net, name),)) for name in ("stem", "body", "head")]
    return Learner(data, net, groups=groups, optimizer=adamw, metrics=[accuracy], progress=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few examples and epochs")
    parser.add_argument("--out", type=Path, default=Path("lesson6"), help="folder for model and figure")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    first, rows, epochs = make_learner(range(5), 100 if given.quick else 500), {}, 2 if given.quick else 12
    print(first.summary(), first.fit_one_cycle(1e-2, epochs // 2), sep="\n")
    for n in (20, 40) if given.quick else (20, 40, 80, 160):
        anew, tuned = make_learner(range(5, 10), n), make_learner(range(5, 10), n)
        tuned.model.load_state_dict(first.model.state_dict())
        tuned.freeze()
        tuned.fit(1e-2, epochs // 2)  # the head alone, then all, with less the nearer to the pixels
        tuned.unfreeze()
        said = tuned.fit_one_cycle({"stem": 1e-4, "body": 1e-3, "head": 1e-2}, epochs)
        rows[n] = [anew.fit_one_cycle(1e-2, epochs + epochs // 2).last["accuracy"], said.last["accuracy"]]
    by = pd.DataFrame(rows, index=["from random weights", "from those of 0 to 4"]).T
    print(by.round(3))
    by.plot(marker="o", xlabel="examples of 5 to 9", ylabel="accuracy", grid=True).figure.savefig(given.out / "few.png")
    tuned.export(given.out / "digits.easylearn")
    print(load_predictor(given.out / "digits.easylearn").predict(list(PIXELS[5:10])).labels)
