import gzip

import pytest
from tests.data.sources.tar_files import tar

from perturbench.data.sources.archives import unpack, unpacked_name
from perturbench.errors import PerturbenchError


def test_gzip_becomes_a_file(tmp_path):
    (tmp_path / "x.h5ad.gz").write_bytes(gzip.compress(b"counts"))
    unpack(tmp_path / "x.h5ad.gz", tmp_path / "x.h5ad")
    assert (tmp_path / "x.h5ad").read_bytes() == b"counts"


@pytest.mark.parametrize(
    "content",
    [
        tar(**{"deep/x": b"1", "../../evil": b"2"}),
        tar(**{"/etc/evil": b"1", "x": b"2"}),
        tar(**{"a.csv": b"1" * 9999})[:-30],
        tar(),
        b"no tar",
    ],
    ids=["deep", "absolute", "damaged", "empty", "no tar"],
)
def test_tar_that_is_damaged_empty_or_hostile_leaves_nothing(tmp_path, content):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.tar.gz").write_bytes(content)
    with pytest.raises(PerturbenchError, match="cannot be unpacked"):
        unpack(tmp_path / "in/x.tar.gz", tmp_path / "in/x")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["x.tar.gz"]
    assert not (tmp_path / "in/x").exists()


def test_a_tar_made_on_macos(tmp_path):
    content = {"splits/full.csv": b"c0,train", "splits/._full.csv": b"attributes", "._splits": b"attributes"}
    (tmp_path / "x.tar.gz").write_bytes(tar(**content))
    unpack(tmp_path / "x.tar.gz", tmp_path / "x")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.csv")] == ["x/full.csv"]


def test_names_after_unpacking():
    names = ["a.h5ad.gz", "a.tar.gz", "a.tgz", "a.tar", "a.h5ad", "b.RDS.gz"]
    assert [unpacked_name(name) for name in names] == ["a.h5ad", "a", "a", "a", "a.h5ad", "b.RDS"]
