"""The socket is private, findable, short enough, and never somebody else's."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from diag.agent import sockets
from diag.client.attach import discover
from diag.wire import places

UID = os.geteuid()


def test_the_socket_is_private_in_a_private_folder_and_carries_pid_and_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    listener, path = sockets.listen(None)
    with closing(listener):
        assert os.path.dirname(path) == str(tmp_path / "diag")
        assert stat.S_IMODE(os.stat(tmp_path / "diag").st_mode) == 0o700
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert places.parse_socket_name(os.path.basename(path)) == (os.getpid(), places.start_ticks())
    sockets.unlink(path, sockets.inode(path))
    assert not os.path.exists(path)


@pytest.mark.parametrize("obstacle", ["missing", "file", "link", "open", "relative", "too long"])
def test_a_runtime_folder_that_cannot_be_trusted_or_used_is_passed_over(
    obstacle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / ("x" * 100 if obstacle == "too long" else "run")
    if obstacle != "missing":
        runtime.mkdir()
    folder = runtime / "diag"
    if obstacle == "file":
        folder.write_text("")
    elif obstacle == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    elif obstacle == "open":
        folder.mkdir()
        folder.chmod(0o755)
    fallback = tmp_path / "fallback"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "run" if obstacle == "relative" else str(runtime))
    real = places.folders
    monkeypatch.setattr(places, "folders", lambda uid: [*real(uid)[:-1], str(fallback)])
    listener, path = sockets.listen(None)
    listener.close()
    assert os.path.dirname(path) == str(fallback)
    os.unlink(path)


@pytest.mark.skipif(UID != 0, reason="only root can make a folder that belongs to somebody else")
def test_a_folder_of_another_user_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "diag"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    with pytest.raises(PermissionError, match="belongs to uid 12345"):
        places.make_folder(str(folder), UID)


def test_with_no_place_at_all_the_error_names_each_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("")
    monkeypatch.setattr(places, "folders", lambda uid: [str(tmp_path / "a"), str(tmp_path / "none/b")])
    with pytest.raises(OSError, match=r"is not a folder.*No such file.*socket_path"):
        sockets.listen(None)


def test_a_path_that_is_too_long_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"too long: .* 107 at most"):
        sockets.listen(str(tmp_path / ("x" * 108)))


def test_a_dead_socket_in_the_way_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "s.sock")
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(path)
    dead.close()
    listener, _ = sockets.listen(path)
    with closing(listener), pytest.raises(OSError, match="another process answers"):
        sockets.listen(path)


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(FileExistsError, match="not a socket"):
        sockets.listen(str(path))
    assert path.read_text() == "data"


def test_a_socket_that_took_our_place_is_not_removed(tmp_path: Path) -> None:
    path = str(tmp_path / "s.sock")
    listener, _ = sockets.listen(path)
    ours = sockets.inode(path)
    os.rename(path, path + ".old")
    later, _ = sockets.listen(path)
    sockets.unlink(path, ours)
    assert os.path.exists(path)
    listener.close()
    later.close()


def test_the_kernel_says_who_called(tmp_path: Path) -> None:
    path = str(tmp_path / "s.sock")
    listener, _ = sockets.listen(path)
    code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({path!r}); s.recv(1)"
    with closing(listener), subprocess.Popen([sys.executable, "-c", code]) as child:
        listener.settimeout(20)
        with closing(sockets.accept(listener)) as connection:
            assert sockets.caller(connection) == sockets.Caller(UID, child.pid)


def test_a_process_that_is_gone_has_no_start() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert places.start_ticks(child.pid) is None
    assert places.start_ticks() is not None


def test_a_place_that_does_not_exist_says_so_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make the folder") as caught:
        sockets.listen(str(tmp_path / "nowhere" / "x.sock"))
    assert str(tmp_path / "nowhere" / "x.sock") in str(caught.value)


def test_a_socket_at_a_place_of_ones_own_is_signposted_where_diag_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    listener, path = sockets.listen(str(tmp_path / "own.sock"))
    link = sockets.signpost(path)
    try:
        assert link is not None
        assert [(each.pid, each.path) for each in discover.sockets()].count((os.getpid(), link)) == 1
        listener.close()
        os.unlink(path)
        monkeypatch.setattr(places, "start_ticks", lambda pid="self": None)  # as if we had died
        assert os.getpid() not in [each.pid for each in discover.sockets()]
        assert not os.path.islink(link)
    finally:
        listener.close()
