"""What a distribution of this repository says about itself is true."""

import json
import re
import subprocess

from panvel_test.postgres import REPOSITORY


def cmake_versions():
    text = (REPOSITORY / "CMakeLists.txt").read_text()
    found = re.findall(r"set\((VECTOR|PANVEL)_VERSION ([\d.]+)\)", text)
    return {name.lower(): version for name, version in found}


def test_meta_json():
    """PGXN Meta Spec 1.0.0: the required fields, and what they must agree with."""
    meta = json.loads((REPOSITORY / "META.json").read_text())
    for field in ("name", "version", "abstract", "maintainer", "license", "provides", "meta-spec"):
        assert meta[field], field
    assert meta["meta-spec"]["version"] == "1.0.0"
    semantic = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$")
    assert semantic.match(meta["version"])
    versions = cmake_versions()
    assert meta["version"] == versions["panvel"]
    assert {name: item["version"] for name, item in meta["provides"].items()} == versions
    for item in meta["provides"].values():
        assert (REPOSITORY / item["file"]).is_file()
        assert (REPOSITORY / item["docfile"]).is_file()
    assert meta["release_status"] in ("stable", "testing", "unstable")
    assert len(meta["tags"]) == len(set(meta["tags"]))


def test_scripts_parse():
    for script in ("panvel", ".ci/run"):
        subprocess.run(["bash", "-n", REPOSITORY / script], check=True)
