"""The fixtures are what the generator makes, and have the shapes that tests and benches rely on."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "make_fixtures.py"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_fixtures", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_fixtures"] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


make_fixtures = load_script()
NAMES = [fixture.name for fixture in make_fixtures.FIXTURE_LIST]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every fixture freshly made."""
    out = tmp_path_factory.mktemp("fixtures")
    for name in NAMES:
        assert make_fixtures.ensure(name, out) == out / name
    return out


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def positions(geometry: dict[str, Any]) -> list[list[float]]:
    found, stack = [], [geometry["coordinates"]]
    while stack:
        item = stack.pop()
        if isinstance(item[0], list):
            stack.extend(item)
        else:
            found.append(item)
    return found


def significant_digits(number: float) -> int:
    return len(repr(abs(number)).replace(".", "").lstrip("0"))


def distance(lat0: float, lon0: float, lat1: float, lon1: float) -> float:
    phi0, phi1, delta = math.radians(lat0), math.radians(lat1), math.radians(lon1 - lon0)
    cosine = math.sin(phi0) * math.sin(phi1) + math.cos(phi0) * math.cos(phi1) * math.cos(delta)
    return 6_371_000 * math.acos(min(1.0, max(-1.0, cosine)))


def steps(document: dict[str, Any]) -> list[float]:
    way = [feature["geometry"]["coordinates"] for feature in document["features"]]
    return [distance(lat0, lon0, lat1, lon1) for (lon0, lat0), (lon1, lat1) in pairwise(way)]


# ------------------------------------------------------------------------------------------------ determinism


def test_committed_track_is_what_the_generator_makes(made: Path) -> None:
    committed = (ROOT / "fixtures" / "track_points.json").read_bytes()
    assert committed == (made / "track_points.json").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_two_makings_are_equal_and_match_the_recorded_digest(name: str, made: Path) -> None:
    fixture = make_fixtures.BY_NAME[name]
    content = fixture.make()
    assert content == (made / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == fixture.sha256


def test_bytes_do_not_depend_on_hash_seed_locale_or_process(made: Path, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONHASHSEED": "77", "LC_ALL": "C", "PYTHONUTF8": "0"}
    result = run("--all", "--out", str(tmp_path), env=env)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split() == [str(tmp_path / name) for name in NAMES]
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes()


# ------------------------------------------------------------------------------------------- shapes and sizes


def test_track_points(made: Path) -> None:
    text = (made / "track_points.json").read_text()
    document = json.loads(text)
    assert text == json.dumps(document, indent=4) + "\n"
    assert 110_000 <= len(text) <= 130_000
    assert list(document) == ["type", "name", "crs", "features"]
    assert document["crs"] == {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    assert len(document["features"]) == 260
    times = []
    for number, feature in enumerate(document["features"]):
        properties = feature["properties"]
        assert list(properties) == ["track_fid", "track_seg_id", "track_seg_point_id", "ele", "time"]
        assert properties["track_seg_point_id"] == number
        assert isinstance(properties["ele"], float)
        assert feature["geometry"]["type"] == "Point"
        assert all(15 <= significant_digits(value) <= 17 for value in feature["geometry"]["coordinates"])
        times.append(properties["time"])
    assert times[0] == "2023/05/14 09:12:03+00"
    assert times == sorted(set(times))


def test_track_is_a_smooth_walk(made: Path) -> None:
    document = json.loads((made / "track_points.json").read_bytes())
    lengths = steps(document)
    assert all(10 <= length <= 20 for length in lengths)
    assert 2_600 <= sum(lengths) <= 5_200
    heights = [feature["properties"]["ele"] for feature in document["features"]]
    assert all(abs(b - a) < 0.3 * 20 for a, b in pairwise(heights))


def test_polygons(made: Path) -> None:
    content = (made / "polygons.json").read_bytes()
    assert 1_900_000 <= len(content) <= 2_200_000
    features = json.loads(content)["features"]
    assert {feature["geometry"]["type"] for feature in features} == {"Polygon", "MultiPolygon"}
    holes = 0
    for feature in features:
        geometry = feature["geometry"]
        parts = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
        for outer, *inner in parts:
            holes += len(inner)
            for ring, clockwise in [(outer, False), *((hole, True) for hole in inner)]:
                assert ring[0] == ring[-1]
                doubled_area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring))
                assert (doubled_area < 0) is clockwise
        for longitude, latitude in positions(geometry):
            assert -180 < longitude < 180 and -90 < latitude < 90
            assert 15 <= significant_digits(longitude) <= 17 and 15 <= significant_digits(latitude) <= 17
    assert holes > 0


def test_points_are_rich_in_text(made: Path) -> None:
    content = (made / "points.json").read_bytes()
    assert 950_000 <= len(content) <= 1_100_000
    for escape in (rb"\n", rb"\"", rb"\\", rb"\t", rb"\u2028", rb"\u0007", rb"\ud83d\ude"):
        assert escape in content
    text = content.decode()
    for sample in ("東京", "Москва", "القاهرة", "दिल्ली", "🚲", "𠮷", "e\u0301"):
        assert sample in text
    assert "\u2028" not in text
    features = json.loads(content)["features"]
    assert all(feature["geometry"]["type"] == "Point" for feature in features)
    assert any("\u2028" in feature["properties"]["description"] for feature in features)


def test_tiny_documents(made: Path) -> None:
    lines = (made / "tiny.ndjson").read_bytes().splitlines()
    assert len(lines) == 10_000
    assert all(85 <= len(line) <= 115 for line in lines)
    assert [json.loads(line)["properties"]["id"] for line in lines] == list(range(10_000))


def test_features_are_the_same_in_both_forms(made: Path) -> None:
    document = json.loads((made / "features.json").read_bytes())
    lines = (made / "features.ndjson").read_bytes().splitlines()
    assert len(lines) == 20_000
    assert document["features"] == [json.loads(line) for line in lines]
    assert math.isfinite(sum(steps(document)))


# ------------------------------------------------------------------------------------------------- the script


def test_up_to_date_outputs_are_left_alone_and_stale_ones_replaced(tmp_path: Path) -> None:
    path = make_fixtures.ensure("tiny.ndjson", tmp_path)
    os.utime(path, (1, 1))
    make_fixtures.ensure("tiny.ndjson", tmp_path)
    assert path.stat().st_mtime == 1
    right = path.read_bytes()
    path.write_bytes(right[:-5])
    make_fixtures.ensure("tiny.ndjson", tmp_path)
    assert path.read_bytes() == right
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        make_fixtures.ensure("tiny.ndjson", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_changed_maker_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = make_fixtures.Fixture("x.json", "changed", lambda: b"{}", "0" * 64)
    monkeypatch.setitem(make_fixtures.BY_NAME, "x.json", changed)
    with pytest.raises(make_fixtures.FixtureError, match=r"x\.json: made bytes with SHA-256 44136fa3"):
        make_fixtures.ensure("x.json", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_list_names_every_fixture() -> None:
    result = run("--list")
    assert result.returncode == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == NAMES


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope.json"], "unknown fixture 'nope.json': choose from track_points.json"),
        ([], "give the names of fixtures, or --all"),
        (["--all", "tiny.ndjson"], "give the names of fixtures, or --all"),
        (["--wrong"], "unrecognized arguments: --wrong"),
    ],
)
def test_usage_errors_are_one_line_and_status_2(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_unwritable_output_is_one_line_and_status_1(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    result = run("tiny.ndjson", "--out", str(blocker))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"make_fixtures: cannot write {blocker / 'tiny.ndjson'}: Not a directory\n"


# ------------------------------------------------------------------------------------------------- the plugin


def test_plugin_agrees_with_python_and_gives_no_nan(made: Path) -> None:
    mini_racer = pytest.importorskip("py_mini_racer")
    text = (made / "track_points.json").read_text()
    context = mini_racer.MiniRacer()
    try:
        context.eval((ROOT / "fixtures" / "track_length.js").read_text())
        length = context.eval(f"calculate({text})")
        assert length == pytest.approx(sum(steps(json.loads(text))), rel=1e-5)
        assert context.eval("calculate({features: []})") == 0
        same = "let worst = 0; for (const [x, y] of %s) worst += distance(y, x, y, x); worst"
        every = [feature["geometry"]["coordinates"] for feature in json.loads(text)["features"]]
        assert 0 <= context.eval(same % json.dumps(every)) < 260 * 0.2  # acos resolves about 0.1 m; NaN would fail
    finally:
        context.close()
