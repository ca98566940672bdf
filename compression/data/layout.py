"""What a folder of images holds: class folders, images with masks, or images with boxes in COCO's format."""

from __future__ import annotations

from pathlib import Path

IMAGES, MASKS = "images", "masks"  # the folders of images and of their masks
ANNOTATIONS = ("annotations.json", "_annotations.coco.json")
SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}


def annotation_files(folder: Path) -> dict[str, Path]:
    """Split → its file of boxes in COCO's format; empty for a folder without any."""
    for name in ANNOTATIONS:
        if (folder / name).is_file():
            return {"train": folder / name}
    inner = {
        split: folder / home / name
        for split, homes in SPLIT_FOLDERS.items()
        for home in homes
        for name in ANNOTATIONS
        if (folder / home / name).is_file()
    }
    official = {
        split: next(iter(sorted((folder / "annotations").glob(f"instances_{home}*.json"))), None)
        for split, homes in SPLIT_FOLDERS.items()
        for home in homes
    }
    chosen = inner or {split: path for split, path in official.items() if path is not None}
    return chosen if "train" in chosen else {}


def holds_masks(folder: Path) -> bool:
    """Whether a folder has images and masks, itself or in its folder ``train``, rather than class folders."""
    return any((home / IMAGES).is_dir() and (home / MASKS).is_dir() for home in (folder, folder / "train"))
