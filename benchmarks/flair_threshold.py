# SPDX-License-Identifier: Apache-2.0
"""
Whole-tumour Dice of a plain threshold on FLAIR, chosen on the training patients: what a network's must be seen beside.

python benchmarks/flair_threshold.py --dataset_dir /data/BraTS
"""

from __future__ import annotations

import argparse

import torch
from monai.transforms import Compose, MaskIntensityd, NormalizeIntensityd, Spacingd

from monai_stochseg.data import brats_datalist, split_cases
from monai_stochseg.metrics import compute_region_dice
from monai_stochseg.transforms import LoadCased

WHOLE_TUMOUR = {"WT": (1, 2, 3)}


def dice(case: dict, threshold: float) -> float:
    prediction = (case["image"] > threshold).long()
    return compute_region_dice(prediction[None], case["label"][None], WHOLE_TUMOUR).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset_dir", required=True)
    parser.add_argument("--spacing", type=float, default=2.0, help="mm")
    args = parser.parse_args()
    keys = ["image", "label", "mask"]
    load = Compose(
        [
            LoadCased(),
            Spacingd(keys, [args.spacing] * 3, mode=["bilinear", "nearest", "nearest"]),
            MaskIntensityd("image", mask_key="mask"),
            NormalizeIntensityd("image", nonzero=True),
        ]
    )
    split = split_cases(brats_datalist(args.dataset_dir, ["flair"]))
    train, validation = ([load(case) for case in split[part]] for part in ("train", "validation"))
    thresholds = torch.arange(0, 4, 0.1).tolist()
    best = max(thresholds, key=lambda threshold: sum(dice(case, threshold) for case in train))
    print(f"FLAIR > {best:.1f} standard deviations above the brain's mean, best on {len(train)} training patients\n")
    print("| patient | WT Dice of the threshold |")
    print("| --- | --- |")
    for case in validation:
        print(f"| {case['patient']} | {dice(case, best):.3f} |")


if __name__ == "__main__":
    main()
