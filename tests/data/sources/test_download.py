import subprocess
import sys

import pytest
from tests.file_server import Answer

from perturbench.data.sources.download import DownloadError, RetryPolicy, download, partial_size
from perturbench.errors import PerturbenchError

BODY = bytes(range(256)) * 40
QUICK = RetryPolicy(connect=1, read=0.2, attempts=3, pause=0.001)


@pytest.fixture
def part(tmp_path):
    return tmp_path / "x.h5ad.part"


@pytest.fixture
def url(server):
    server.files["x.h5ad"] = BODY
    return f"{server.url}/x.h5ad?download=1"


def test_whole_file(server, url, part):
    download(url, part)
    assert part.read_bytes() == BODY
    assert server.asked == [None]


def test_interrupted_download_is_resumed_at_the_last_byte(server, url, part):
    server.answers = [Answer(cut=1000), Answer(cut=500)]
    download(url, part, retry=QUICK)
    assert part.read_bytes() == BODY
    assert server.asked == [None, "bytes=1000-", "bytes=1500-"]


def test_attempts_are_counted_anew_after_each_new_byte(server, url, part):
    server.answers = [Answer(cut=10) for _ in range(3 * QUICK.attempts)]
    download(url, part, retry=QUICK)
    assert part.read_bytes() == BODY


def test_failed_download_is_resumed_by_the_next_call(server, url, part):
    server.answers = [Answer(cut=1000), *(Answer(status=503) for _ in range(QUICK.attempts))]
    with pytest.raises(DownloadError, match=r"/x\.h5ad\S* cannot be downloaded: the server answers 503 Service"):
        download(url, part, retry=QUICK)
    assert partial_size(part, url) == 1000
    download(url, part, retry=QUICK)
    assert part.read_bytes() == BODY
    assert server.asked[-1] == "bytes=1000-"


def test_download_of_a_killed_process_is_resumed_by_another(server, url, part):
    server.answers = [Answer(cut=5000), Answer(wait=30)]
    code = f"import pathlib, perturbench.data.sources.download as d; d.download({url!r}, pathlib.Path({str(part)!r}))"
    process = subprocess.Popen([sys.executable, "-c", code])
    while len(server.asked) < 2:
        assert process.poll() is None
    process.kill()
    process.wait()
    download(url, part, retry=QUICK)
    assert part.read_bytes() == BODY
    assert server.asked == [None, "bytes=5000-", "bytes=5000-"]


def test_server_that_cannot_resume_sends_the_whole_file_again(server, url, part):
    server.ranges = False
    server.answers = [Answer(cut=1000)]
    download(url, part, retry=QUICK)
    assert part.read_bytes() == BODY


def test_server_that_always_stops_at_the_same_byte_is_given_up(server, url, part):
    server.ranges = False
    server.answers = [Answer(cut=1000) for _ in range(10)]
    with pytest.raises(DownloadError, match="IncompleteRead"):
        download(url, part, retry=QUICK)
    assert len(server.answers) == 10 - QUICK.attempts


@pytest.mark.parametrize("version", ['"v2"', None])
def test_bytes_of_another_version_are_not_mixed(server, url, part, version):
    server.answers = [Answer(cut=1000), *(Answer(status=500) for _ in range(QUICK.attempts))]
    server.version = version and '"v1"'
    with pytest.raises(DownloadError):
        download(url, part, retry=QUICK)
    server.files["x.h5ad"], server.version = BODY[::-1], version
    download(url, part, retry=QUICK)
    assert part.read_bytes() == BODY[::-1]


def test_bytes_of_another_url_are_not_mixed(server, url, part):
    server.files["other"] = BODY[::-1]
    download(f"{server.url}/other", part)
    download(url, part)
    assert part.read_bytes() == BODY


@pytest.mark.parametrize("left", [BODY, BODY + b"more"])
def test_part_that_is_whole_or_too_long(server, url, part, left):
    download(url, part)
    part.write_bytes(left)
    download(url, part, retry=QUICK)
    assert part.read_bytes() == BODY


def test_truncated_file_is_noticed_if_its_size_is_known(server, url, part):
    server.length = False
    server.answers = [Answer(cut=1000)]
    download(url, part, size=len(BODY), retry=QUICK)
    assert part.read_bytes() == BODY


def test_slow_server_is_waited_for(server, url, part):
    server.answers = [Answer(wait=0.1)]
    download(url, part, retry=QUICK)
    assert part.read_bytes() == BODY
    assert len(server.asked) == 1


def test_server_that_does_not_answer_is_given_up(server, url, part):
    server.answers = [Answer(wait=0.3), Answer(wait=0.3)]
    with pytest.raises(DownloadError, match="Read timed out"):
        download(url, part, retry=RetryPolicy(connect=1, read=0.05, attempts=2, pause=0.001))
    assert not part.exists()


def test_missing_file_is_requested_only_once(server, part):
    with pytest.raises(DownloadError, match=r"/gone\.h5ad cannot be downloaded: the server answers 404 Not Found"):
        download(f"{server.url}/gone.h5ad", part)
    assert len(server.asked) == 1
    assert not part.exists()


def test_unreachable_server(part):
    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:9/x cannot be downloaded: .*Connection refused"):
        download("http://127.0.0.1:9/x", part, retry=QUICK)


def test_unexpected_size_is_refused_before_the_download(server, url, part):
    with pytest.raises(DownloadError, match=rf"the server offers {len(BODY)} bytes, expected 7\..*mismatch:accept"):
        download(url, part, size=7)
    assert not part.exists()


def test_full_disk_is_reported_before_the_download(server, url, part, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 0, 9000))
    with pytest.raises(PerturbenchError, match=r"has room for 9\.0 kB, but the download needs 10\.2 kB.*source\.cache"):
        download(url, part)
    assert not part.exists()


def test_progress_is_logged_without_a_terminal(server, url, part, caplog):
    caplog.set_level("INFO")
    download(url, part)
    assert "downloading x.h5ad, 10.2 kB, from byte 0" in caplog.text
    assert "x.h5ad: 100 % of 10.2 kB" in caplog.text


def test_progress_is_a_bar_on_a_terminal(server, url, part, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    download(url, part)
    assert "x.h5ad: 100%" in capsys.readouterr().err
