"""Road scenes: one of eleven classes for each pixel, by a light decoder over a pretrained body.

python examples/lesson9_masks.py data/camvid --body efficientnet_lite0   # {train,valid,test}/{images,masks}, codes.csv
python examples/lesson9_masks.py --quick                                 # made-up scenes, an untrained net

It reached a mean IoU of 0.49 over 233 test images after 367 (efficientnet_lite0, 144 x 192; 60 s of one core).
"""

import argparse
from pathlib import Path

from easylearn import MaskData, load_predictor, segmentation_learner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", help="holds train/ and valid/, each with images/ and masks/, and codes.csv")
    parser.add_argument("--body", default="resnet34", help="such as efficientnet_lite0 (default: %(default)s)")
    parser.add_argument("--size", nargs=2, default=(144, 192), type=int, help="height and width of the images")
    parser.add_argument("--void", default="Void", help="the class that does not count")
    parser.add_argument("--out", default="lesson9", type=Path, help="folder for figures, masks and the model")
    parser.add_argument("--quick", action="store_true", help="made-up scenes of 32 x 48 pixels, squeezenet untrained")
    given = parser.parse_args()
    if given.path is None and not given.quick:
        parser.error("give the folder of scenes, or --quick")
    path, size, body = given.path, tuple(given.size), given.body
    if given.quick:
        from made_up import scenes

        path, size, body = scenes(given.out / "scenes"), (32, 48), "squeezenet1_1"

    data = MaskData.from_folder(path, size=size, codes="codes.csv", void=given.void, augment="side_on", batch_size=8)
    print(data)
    data.show_batch(6).savefig(given.out / "batch.png")  # the masks move with their images
    pretrained = False if given.quick else None
    learn = segmentation_learner(data, body, pretrained=pretrained, precompute=True, path=given.out)
    learn.fit_one_cycle(3e-3, 2 if given.quick else 12)  # the decoder alone, on stored maps of the body
    learn.unfreeze()
    learn.fit([1e-4, 3e-4, 1e-3], 1 if given.quick else 3)  # stem, late, decoder, with augmented images

    found = learn.interpret()
    print(found.report())  # IoU, Dice and the share found of each class
    found.plot_top_losses(4).savefig(given.out / "worst.png")  # each image, its mask, and what was said
    found.plot_confusion().savefig(given.out / "confusion.png")
    said = learn.tta(split="test") if "test" in data.splits else learn.tta()
    said.save_png(given.out / "masks")  # at the size of each file, with the numbers of its masks
    learn.export(given.out / "scenes.easylearn")
    one = load_predictor(given.out / "scenes.easylearn").predict(next(Path(path).rglob("*.jpg")))
    print(one)


if __name__ == "__main__":
    main()
