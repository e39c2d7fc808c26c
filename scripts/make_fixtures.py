#!/usr/bin/env python3
"""Make the documents that tests, benchmarks and the README run plugins over.

    python scripts/make_fixtures.py --list
    python scripts/make_fixtures.py polygons.json tiny.ndjson
    python scripts/make_fixtures.py --all

prints the path of each fixture, which is written only if it is missing or differs. `ensure` does the same from Python.
track_points.json is committed; the others go to fixtures/generated/, which git ignores.

Every byte is the same on every machine and Python version, and the recorded SHA-256 proves it. That is why the
makers below use only `Random.random()` of `random` (the other methods may differ between Python versions) and only
`sqrt` and `nextafter` of `math` (the last bit of a sine depends on the C library).
"""

# ruff: noqa: RUF001 (letters that look like Latin ones are the point of some texts here)

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NoReturn, TypeVar

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
METRES_PER_DEGREE = 111_194.9  # of latitude, on a sphere of radius 6,371 km
CRS84 = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}

T = TypeVar("T")
Json = dict[str, Any]


class FixtureError(Exception):
    """A fixture cannot be made: its name is unknown, or its bytes do not have the recorded digest."""


@dataclass(frozen=True, slots=True)
class Fixture:
    """One document: how to make it, and the digest that its bytes must have."""

    name: str
    description: str
    make: Callable[[], bytes]
    sha256: str
    committed: bool = False

    @property
    def directory(self) -> Path:
        return FIXTURES if self.committed else FIXTURES / "generated"


# ---------------------------------------------------------------------------------------------- building blocks


def pick(rng: Random, choices: Sequence[T]) -> T:
    return choices[int(rng.random() * len(choices))]


def between(rng: Random, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


def coordinate(degrees: float) -> float:
    """Return the next number that takes 15 to 17 significant digits to write, as exported coordinates do."""
    while len(repr(abs(degrees)).replace(".", "").lstrip("0")) < 15:
        degrees = math.nextafter(degrees, math.inf)
    return degrees


def turned(x: float, y: float, tan_half: float) -> tuple[float, float]:
    """Return the vector, turned by an angle that is given as the tangent of its half: exact, without a sine."""
    square = tan_half * tan_half
    cosine, sine = (1 - square) / (1 + square), 2 * tan_half / (1 + square)
    return x * cosine - y * sine, x * sine + y * cosine


def compact(value: object, *, ascii_only: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"))


def point(longitude: float, latitude: float) -> Json:
    return {"type": "Point", "coordinates": [coordinate(longitude), coordinate(latitude)]}


def collection(name: str, features: Sequence[str]) -> bytes:
    """Return a FeatureCollection with one encoded feature per line, as GDAL writes it."""
    head = f'{{"type":"FeatureCollection","name":{compact(name)},"crs":{compact(CRS84)},"features":[\n'
    return (head + ",\n".join(features) + "\n]}\n").encode()


def by_line(documents: Sequence[str]) -> bytes:
    """Return one encoded document per line."""
    return ("\n".join(documents) + "\n").encode()


# --------------------------------------------------------------------------------------------------- the makers


def track_points() -> bytes:
    """Return 260 points of a walk of about 3.9 km, 10 to 20 m apart, as a GPX track is exported to GeoJSON."""
    rng = Random(20230514)
    longitude, latitude, elevation = 9.408_615_312_847_193, 47.283_924_716_390_58, 918.0
    moment = datetime(2023, 5, 14, 9, 12, 3, tzinfo=UTC)
    east, north, bend, pace, slope = 0.6, 0.8, 0.0, 0.0, 0.0
    features: list[Json] = []
    for number in range(260):
        properties = {
            "track_fid": 0,
            "track_seg_id": 0,
            "track_seg_point_id": number,
            "ele": round(elevation, 2),
            "time": moment.strftime("%Y/%m/%d %H:%M:%S") + "+00",
        }
        features.append({"type": "Feature", "properties": properties, "geometry": point(longitude, latitude)})
        bend = 0.85 * bend + between(rng, -0.06, 0.06)
        pace = 0.8 * pace + between(rng, -0.2, 0.2)
        slope = 0.9 * slope + between(rng, -0.02, 0.02)
        east, north = turned(east, north, bend)
        metres = 15.0 + 4.5 * pace
        latitude += metres * north / METRES_PER_DEGREE
        longitude += metres * east / (METRES_PER_DEGREE * 0.678_36)  # the cosine of this latitude
        elevation += metres * slope
        moment += timedelta(seconds=round(metres / 1.35))
    document = {"type": "FeatureCollection", "name": "track_points", "crs": CRS84, "features": features}
    return (json.dumps(document, indent=4) + "\n").encode()


def ring(rng: Random, longitude: float, latitude: float, radius: float, count: int, *, hole: bool = False) -> list[Any]:
    """Return a closed ring of count + 1 positions around a centre, anticlockwise; clockwise for a hole (RFC 7946)."""
    positions, wobble = [], 0.0
    for step in range(count):
        # Equal steps along the diamond |x| + |y| = 1, projected onto the circle.
        side, along = divmod(4 * step / count, 1)
        x, y = ((1 - along, along), (-along, 1 - along), (along - 1, -along), (along, along - 1))[int(side)]
        wobble = 0.7 * wobble + between(rng, -0.1, 0.1)
        reach = radius * (1 + wobble) / math.sqrt(x * x + y * y)
        positions.append([coordinate(longitude + reach * x), coordinate(latitude + reach * y)])
    positions.append(positions[0])
    return positions[::-1] if hole else positions


def polygons() -> bytes:
    rng = Random(4)
    features: list[str] = []
    size = 0
    while size < 2_000_000:
        parts = []
        longitude, latitude = between(rng, -165, 165), between(rng, -65, 65)
        for _ in range(pick(rng, (1, 1, 1, 2, 5))):
            radius = between(rng, 0.05, 2.0)
            rings = [ring(rng, longitude, latitude, radius, 12 + int(between(rng, 0, 20) ** 2))]
            if rng.random() < 0.15:
                rings.append(ring(rng, longitude, latitude, radius * 0.3, 24, hole=True))
            parts.append(rings)
            longitude, latitude = longitude + between(rng, 3.5, 5), latitude + between(rng, -3, 3)
        number = len(features)
        properties = {
            "parcel": f"P-{number:05d}",
            "use": pick(rng, ("forest", "farmland", "meadow", "water", "residential", "industry")),
            "area_km2": round(between(rng, 0.5, 900), 3),
            "protected": rng.random() < 0.2,
            "since": None if rng.random() < 0.3 else 1800 + int(between(rng, 0, 224)),
        }
        kind, coordinates = ("Polygon", parts[0]) if len(parts) == 1 else ("MultiPolygon", parts)
        geometry = {"type": kind, "coordinates": coordinates}
        feature = {"type": "Feature", "id": number, "properties": properties, "geometry": geometry}
        features.append(compact(feature))
        size += len(features[-1])
    return collection("polygons", features)


PLACES = (
    "Zürich", "São Paulo", "Reykjavík", "Łódź", "Αθήνα", "Москва", "Київ", "Ереван Երևան", "თბილისი", "ירושלים",
    "القاهرة", "تهران", "दिल्ली", "ঢাকা", "சென்னை", "กรุงเทพมหานคร", "ភ្នំពេញ", "북경서울", "東京都千代田区", "北京市",
    "Hà Nội", "Cafe\u0301 (decomposed)", "አዲስ አበባ", "𐍅𐌿𐌻𐍆𐌹𐌻𐌰", "𠮷野家", "Nuuk", "Kingston", "Dunedin",
)  # fmt: skip
EMOJI = ("🚲", "⛰️", "🏊‍♀️", "👩‍👩‍👧‍👦", "🇨🇭", "☕", "🌊", "🦆", "👍🏽")
PHRASES = (
    "open all year", 'the locals say "better than the guidebook"', "ring twice,\nthen wait", "access\tby boat only",
    "C:\\maps\\old\\sheet 12", 'see also <a href="/poi">here</a> & there', "first line\r\nsecond line",
    "line\u2028and paragraph\u2029separators", "no-break\u00a0space, zero\u200bwidth",
    "bell \u0007 and escape \u001b[1m", "à la carte: crème brûlée, jalapeños, smörgåsbord",
    "見晴らしが良い", "Вход со двора", "مفتوح يوميا", "½ price, 20 €, 15 °C",
)  # fmt: skip
CATEGORIES = ("museum", "viewpoint", "spring", "café", "church", "bus_stop", "peak", "library", "bicycle_rental")


def points() -> bytes:
    """Return places with much text. Every eighth feature is ASCII only, with surrogate pairs as escapes."""
    rng = Random(8)
    features: list[str] = []
    size = 0
    while size < 1_000_000:
        number = len(features)
        place = pick(rng, PLACES)
        sentences = [pick(rng, PHRASES) for _ in range(1 + int(between(rng, 0, 5)))]
        properties = {
            "name": f"{place} {pick(rng, EMOJI)} {number}",
            "category": pick(rng, CATEGORIES),
            "description": ". ".join(sentences),
            "address": {
                "street": f"{pick(rng, PLACES)} {1 + number % 211}",
                "city": place,
                "postcode": f"{number:05d}",
            },
            "tags": [pick(rng, CATEGORIES) for _ in range(int(between(rng, 0, 4)))],
            "opening_hours": pick(rng, ("24/7", "Mo-Fr 08:00-18:00; Sa 09:00-12:00", "sunrise-sunset", "")),
            "website": f"https://places.example/{pick(rng, CATEGORIES)}/{number}?lang=en&ref=map",
            "note": None if rng.random() < 0.7 else pick(rng, PHRASES),
        }
        geometry = point(between(rng, -179, 179), between(rng, -80, 80))
        feature = {"type": "Feature", "id": f"poi/{number}", "properties": properties, "geometry": geometry}
        # json.dumps leaves these two separators alone; other writers escape them, because JavaScript once had to.
        text = compact(feature, ascii_only=number % 8 == 7).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
        features.append(text)
        size += len(text.encode())
    return collection("points", features)


def tiny() -> bytes:
    rng = Random(100)
    lines = []
    for number in range(10_000):
        geometry = {"type": "Point", "coordinates": [round(between(rng, 5, 15), 5), round(between(rng, 45, 55), 5)]}
        lines.append(compact({"type": "Feature", "properties": {"id": number}, "geometry": geometry}))
    return by_line(lines)


def trees() -> list[str]:
    """Return 20,000 trees along the streets of a city: the features of features.json and features.ndjson."""
    rng = Random(20_000)
    species = ("Tilia cordata", "Acer platanoides", "Platanus × hispanica", "Aesculus hippocastanum", "Betula pendula")
    features = []
    for number in range(20_000):
        street, house = divmod(number, 125)
        properties = {
            "tree": f"T{number:06d}",
            "species": pick(rng, species),
            "street": f"Street {street + 1}",
            "height_m": round(between(rng, 2, 32), 1),
            "planted": 1900 + int(between(rng, 0, 123)),
            "inspected": f"2023-{1 + number % 12:02d}-{1 + number % 28:02d}",
            "healthy": rng.random() < 0.93,
            "remark": pick(rng, (None, None, None, "leaning", "hollow trunk")),
        }
        along = 124 - house if street % 2 else house  # back along every other street, so that the path has no jumps
        longitude = 8.5 + along * 0.000_15 + between(rng, -0.000_02, 0.000_02)
        latitude = 47.3 + street * 0.000_3 + between(rng, -0.000_02, 0.000_02)
        geometry = point(longitude, latitude)
        features.append(compact({"type": "Feature", "id": number, "properties": properties, "geometry": geometry}))
    return features


FIXTURE_LIST = (
    Fixture(
        "track_points.json", "a walked track: 260 points, indented, 120 KB (committed)", track_points,
        "3944b560b27a40953750aad5b9f209b1bc1780f63899bcbf77115aa65f0aafda", committed=True,
    ),
    Fixture(
        "polygons.json", "polygons and multipolygons, 15 to 17 digit coordinates, 2 MB", polygons,
        "c1bef2a23408ef5910097b064ec77984deb79e9b641a88e753722199c746dcbe",
    ),
    Fixture(
        "points.json", "points with much text in many scripts, 1 MB", points,
        "a8328c5289d359f594f151f185f225b4ee56e10a0003ab678cb161b043f8008b",
    ),
    Fixture(
        "tiny.ndjson", "10,000 documents of about 100 B, one per line, 1 MB", tiny,
        "74eb1b0983f929d8da3195d233da9593936455f184c822c3d9d2dff7385edddb",
    ),
    Fixture(
        "features.json", "one FeatureCollection of 20,000 points, 5 MB", lambda: collection("trees", trees()),
        "cfed5004dd6fc2dfdfb2469f7a4121893827584ac0e3b95c188784713f0624c3",
    ),
    Fixture(
        "features.ndjson", "the same 20,000 features, one per line, 5 MB",
        lambda: by_line(trees()),
        "6f5744b51579c0510042cb461f43d3856ab4b70399be385fe6eeb7db844b3c09",
    ),
)  # fmt: skip
BY_NAME = {fixture.name: fixture for fixture in FIXTURE_LIST}


# ------------------------------------------------------------------------------------------------- writing them


def ensure(name: str, out: Path | None = None) -> Path:
    """Return the path of a fixture, which is made if it is missing or out of date.

    Several processes may call this at once.

    Args:
        name: the fixture's name.
        out: the directory to use instead of the fixture's own.

    Raises:
        FixtureError: the name is unknown, or the fixture's bytes do not have the recorded digest.
        OSError: the directory cannot be written to.
    """
    if name not in BY_NAME:
        raise FixtureError(f"unknown fixture {name!r}: choose from {', '.join(BY_NAME)}")
    fixture = BY_NAME[name]
    path = (out or fixture.directory) / name
    try:
        if hashlib.sha256(path.read_bytes()).hexdigest() == fixture.sha256:
            return path
    except FileNotFoundError:
        pass
    content = fixture.make()
    digest = hashlib.sha256(content).hexdigest()
    if digest != fixture.sha256:
        raise FixtureError(f"{name}: made bytes with SHA-256 {digest}; record it if its maker was changed on purpose")
    write(path, content)
    return path


def write(path: Path, content: bytes) -> None:
    """Write a file atomically: readers see either the old bytes or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)  # mkstemp's 0600 would keep other users' checkouts from reading it
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


class OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = OneLineParser(prog="make_fixtures", description="Make the documents that tests and benchmarks run over.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="fixtures to make, see --list")
    parser.add_argument("--all", action="store_true", help="make every fixture")
    parser.add_argument("--out", type=Path, metavar="DIR", help="directory to write to (default: fixtures/)")
    parser.add_argument("--list", action="store_true", help="list the fixtures, and make none")
    options = parser.parse_args(arguments)
    if options.list:
        for fixture in FIXTURE_LIST:
            print(f"{fixture.name:20}{fixture.description}")
        return 0
    if options.all == bool(options.names):
        parser.error("give the names of fixtures, or --all (--list prints the names)")
    for name in options.names:
        if name not in BY_NAME:
            parser.error(f"unknown fixture {name!r}: choose from {', '.join(BY_NAME)}")
    for name in BY_NAME if options.all else options.names:
        try:
            print(ensure(name, options.out))
        except OSError as error:
            path = (options.out or BY_NAME[name].directory) / name
            print(f"make_fixtures: cannot write {path}: {error.strerror or error}", file=sys.stderr)
            return 1
        except FixtureError as error:
            print(f"make_fixtures: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
