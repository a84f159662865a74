import gzip
import hashlib
import json
import multiprocessing

import pytest
from tests.data.sources.tar_files import tar
from tests.file_server import Answer

from perturbench.data.sources import remote as remote_module
from perturbench.data.sources.download import RetryPolicy
from perturbench.data.sources.remote import RemoteFile, fetch_all, fetch_file, file_status
from perturbench.errors import PerturbenchError

BODY = b"counts" * 1000
QUICK = RetryPolicy(connect=1, read=1, attempts=2, pause=0.001)


def md5(content):
    return f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}"


def sha256(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def offer(server):
    """Return a function that puts a file on the server and describes it."""

    def make(name="x.h5ad", content=BODY, **facts):
        server.files[name] = content
        return RemoteFile(name, f"{server.url}/{name}", **facts)

    return make


def files_of(folder):
    """Return the names of all visible files."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("checksum", [md5(BODY), sha256(BODY), None])
def test_file_and_its_record(offer, tmp_path, checksum):
    remote = offer(bytes=len(BODY), checksum=checksum)
    record = fetch_file(remote, tmp_path)
    assert (tmp_path / "x.h5ad").read_bytes() == BODY
    assert files_of(tmp_path) == ["x.h5ad", "x.h5ad.source.json"]
    assert json.loads((tmp_path / "x.h5ad.source.json").read_text())["sha256"] == sha256(BODY).removeprefix("sha256:")
    assert record.url == remote.url
    assert record.matches is (None if checksum is None else True)
    assert file_status(remote, tmp_path).record == record


def test_existing_file_is_neither_downloaded_nor_read_again(offer, server, tmp_path, monkeypatch):
    remote = offer(checksum=md5(BODY))
    first = fetch_file(remote, tmp_path)
    monkeypatch.setattr(remote_module, "digests", None)
    assert fetch_file(remote, tmp_path) == first
    assert len(server.asked) == 1


def test_wrong_checksum_names_both_and_leaves_no_file(offer, tmp_path):
    remote = offer(checksum=md5(b"another"))
    with pytest.raises(PerturbenchError) as error:
        fetch_file(remote, tmp_path)
    for part in (md5(BODY), md5(b"another"), "Delete it", "data.source.mismatch:accept"):
        assert part in str(error.value)
    assert not (tmp_path / "x.h5ad").exists()
    assert file_status(remote, tmp_path).status == "partial"


def test_other_checksum_can_be_accepted_without_a_second_download(offer, server, tmp_path, caplog):
    remote = offer(checksum=md5(b"another"), bytes=len(BODY))
    with pytest.raises(PerturbenchError, match="does not have the expected checksum"):
        fetch_file(remote, tmp_path)
    record = fetch_file(remote, tmp_path, accept=True)
    assert "it is used because data.source.mismatch is 'accept'" in caplog.text
    assert (tmp_path / "x.h5ad").read_bytes() == BODY
    assert record.matches is False
    assert server.asked == [None, f"bytes={len(BODY)}-"]
    with pytest.raises(PerturbenchError, match="does not have the expected checksum"):
        fetch_file(remote, tmp_path)


def test_another_size_can_be_accepted(offer, tmp_path):
    remote = offer(bytes=7)
    with pytest.raises(PerturbenchError, match="expected 7"):
        fetch_file(remote, tmp_path)
    fetch_file(remote, tmp_path, accept=True)
    assert (tmp_path / "x.h5ad").read_bytes() == BODY


def test_corrected_checksum_is_compared_again(offer, tmp_path):
    fetch_file(offer(checksum=md5(BODY)), tmp_path)
    with pytest.raises(PerturbenchError, match="does not have the expected checksum"):
        fetch_file(offer(checksum=sha256(b"another")), tmp_path)
    assert fetch_file(offer(checksum=sha256(BODY)), tmp_path).matches


def test_file_changed_after_its_download_is_refused_and_kept(offer, tmp_path):
    remote = offer(checksum=md5(BODY))
    fetch_file(remote, tmp_path)
    (tmp_path / "x.h5ad").write_bytes(b"mine")
    assert file_status(remote, tmp_path).record is None
    with pytest.raises(PerturbenchError, match=md5(b"mine")):
        fetch_file(remote, tmp_path)
    assert (tmp_path / "x.h5ad").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["x.h5ad", "x.h5ad.gz"])
def test_file_placed_by_hand_is_used(server, tmp_path, name):
    content = gzip.compress(BODY) if name.endswith("gz") else BODY
    (tmp_path / name).write_bytes(content)
    remote = RemoteFile(name, "http://127.0.0.1:9/x", checksum=md5(content))
    assert fetch_file(remote, tmp_path).matches
    assert (tmp_path / "x.h5ad").read_bytes() == BODY


def test_unpacked_file_placed_by_hand_is_not_compared_with_the_archives_checksum(tmp_path):
    (tmp_path / "x.h5ad").write_bytes(BODY)
    remote = RemoteFile("x.h5ad.gz", "http://127.0.0.1:9/x", checksum=md5(b"archive"))
    assert fetch_file(remote, tmp_path).matches is None


def test_wrong_file_placed_by_hand_is_refused_and_kept(tmp_path):
    (tmp_path / "x.h5ad").write_bytes(b"mine")
    remote = RemoteFile("x.h5ad", "http://127.0.0.1:9/x", checksum=md5(BODY))
    with pytest.raises(PerturbenchError, match=r"x\.h5ad' does not have the expected checksum"):
        fetch_file(remote, tmp_path)
    assert files_of(tmp_path) == ["x.h5ad"]


def test_unreachable_server_names_url_path_and_size(tmp_path, monkeypatch):
    remote = RemoteFile("x.h5ad", "http://127.0.0.1:9/x.h5ad?download=1", bytes=698680199)
    with pytest.raises(PerturbenchError) as error:
        fetch_file(remote, tmp_path, retry=QUICK)
    for part in (remote.url, "Connection refused", "698.7 MB", str(tmp_path / "x.h5ad"), "data.source.path:<file>"):
        assert part in str(error.value)
    assert files_of(tmp_path) == []


def test_interrupted_download_says_what_is_kept_and_is_resumed(offer, server, tmp_path):
    remote = offer(checksum=md5(BODY))
    server.answers = [Answer(cut=2500), *(Answer(status=502) for _ in range(QUICK.attempts))]
    with pytest.raises(
        PerturbenchError, match=r"502 Bad Gateway\. 2\.5 kB were downloaded and kept; run the same command to resume"
    ):
        fetch_file(remote, tmp_path, retry=QUICK)
    assert not (tmp_path / "x.h5ad").exists()
    assert file_status(remote, tmp_path).bytes == 2500
    assert fetch_file(remote, tmp_path).matches
    assert server.asked[-1] == "bytes=2500-"
    assert files_of(tmp_path) == ["x.h5ad", "x.h5ad.source.json"]


def test_gzip_is_unpacked_once(offer, server, tmp_path):
    packed = gzip.compress(BODY)
    remote = offer("x.h5ad.gz", packed, checksum=md5(packed))
    record = fetch_file(remote, tmp_path)
    assert (tmp_path / "x.h5ad").read_bytes() == BODY
    assert (record.bytes, record.size) == (len(packed), len(BODY))
    (tmp_path / "x.h5ad.gz").unlink()
    assert fetch_file(remote, tmp_path).matches, "the archive is not needed once it is unpacked"
    assert len(server.asked) == 1


def test_gzip_is_not_unpacked_in_transit_if_the_server_calls_it_an_encoding(offer, server, tmp_path, monkeypatch):
    packed = gzip.compress(BODY)
    monkeypatch.setattr(server, "headers", {"Content-Encoding": "gzip"})
    remote = offer("x.h5ad.gz", packed, checksum=md5(packed))
    assert fetch_file(remote, tmp_path).matches


def test_damaged_gzip_leaves_no_unpacked_file(offer, tmp_path):
    remote = offer("x.h5ad.gz", gzip.compress(bytes(range(256)) * 999)[:-200])
    with pytest.raises(PerturbenchError, match=r"x\.h5ad\.gz' cannot be unpacked: .*Delete it to download it again"):
        fetch_file(remote, tmp_path)
    assert files_of(tmp_path) == ["x.h5ad.gz"]
    assert not list(tmp_path.glob("*.partial"))


def test_killed_unpacking_is_repeated(offer, tmp_path):
    remote = offer("x.h5ad.gz", gzip.compress(BODY))

    def kill(source, sink, *_):
        sink.write(source.read(100))
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("perturbench.data.sources.archives.shutil.copyfileobj", kill)
        fetch_file(remote, tmp_path)
    assert not (tmp_path / "x.h5ad").exists()
    fetch_file(remote, tmp_path)
    assert (tmp_path / "x.h5ad").read_bytes() == BODY


def test_file_unpacked_by_hand_is_not_trusted(offer, tmp_path):
    packed = gzip.compress(BODY)
    (tmp_path / "x.h5ad.gz").write_bytes(packed)
    (tmp_path / "x.h5ad").write_bytes(BODY[:100])
    remote = RemoteFile("x.h5ad.gz", "http://127.0.0.1:9/x", checksum=md5(packed))
    with pytest.raises(
        PerturbenchError,
        match=r"x\.h5ad' may be incomplete: it was not unpacked from 'x\.h5ad\.gz' by this program\. Delete it",
    ):
        fetch_file(remote, tmp_path)
    (tmp_path / "x.h5ad").unlink()
    fetch_file(remote, tmp_path)
    assert (tmp_path / "x.h5ad").read_bytes() == BODY


def test_archive_is_compared_again_with_a_corrected_checksum(offer, server, tmp_path):
    packed = gzip.compress(BODY)
    fetch_file(offer("x.h5ad.gz", packed), tmp_path)
    assert fetch_file(offer("x.h5ad.gz", packed, checksum=md5(packed)), tmp_path).matches
    assert len(server.asked) == 1


def test_existing_files_need_no_write_access(offer, tmp_path, monkeypatch):
    remote = offer()
    fetch_file(remote, tmp_path)
    monkeypatch.setattr(remote_module, "FileLock", None)
    assert fetch_file(remote, tmp_path)


@pytest.mark.parametrize("mode", ["w:gz", "w"])
@pytest.mark.parametrize("top", ["splits/", "./splits/", ""])
def test_tar_becomes_a_folder(offer, tmp_path, mode, top):
    content = tar(mode, **{f"{top}small.csv": b"a,train\n", f"{top}deep/full.csv": b"b,test\n"})
    remote = offer("splits.tar.gz" if mode == "w:gz" else "splits.tar", content, checksum=sha256(content))
    assert fetch_file(remote, tmp_path).matches
    assert (tmp_path / "splits/small.csv").read_bytes() == b"a,train\n"
    assert (tmp_path / "splits/deep/full.csv").read_bytes() == b"b,test\n"
    assert file_status(remote, tmp_path).bytes == len(b"a,train\nb,test\n")


def test_two_processes_download_a_file_once(offer, server, tmp_path):
    remote = offer(checksum=md5(BODY))
    server.answers = [Answer(wait=0.3)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        records = pool.starmap(fetch_file, [(remote, tmp_path)] * 2)
    assert records[0] == records[1]
    assert len(server.asked) == 1


def test_folder_that_cannot_be_written_to(offer, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PerturbenchError, match=r"cannot be written to.*data\.source\.cache:<folder>"):
        fetch_file(offer(), tmp_path / "file/deep")


def test_data_set_of_several_files(offer, tmp_path):
    files = [offer("x.h5ad.gz", gzip.compress(BODY)), offer("x_split.csv", b"cell,train\n")]
    path, records = fetch_all(files, tmp_path, "x.h5ad", None)
    assert path.read_bytes() == BODY
    assert [record.url for record in records] == [file.url for file in files]
    assert (tmp_path / "x_split.csv").is_file()


def test_data_set_that_has_to_be_converted(offer, server, tmp_path):
    files = [offer("a.rds"), offer("b.rds")]
    with pytest.raises(
        PerturbenchError,
        match=r"x\.h5ad' does not exist yet; it has to be converted from the files in .*Convert them\.",
    ):
        fetch_all(files, tmp_path, "x.h5ad", "Convert them.")
    assert {"a.rds", "b.rds"} <= set(files_of(tmp_path))
    for name in ("a.rds", "b.rds"):
        (tmp_path / name).unlink()
    (tmp_path / "x.h5ad").write_bytes(BODY)
    assert fetch_all(files, tmp_path, "x.h5ad", "Convert them.") == (tmp_path / "x.h5ad", [])
    assert len(server.asked) == 2
