"""A Ray that a run starts for itself is nobody else's: where it listens, and who may read what it writes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from glr_dist.errors import UserError
from glr_dist.workers.local_ray import private_token

LOOK = """
import json, os, sys
from pathlib import Path

def family(parent):
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            above = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if above == parent:
            yield int(stat.parent.name)
            yield from family(int(stat.parent.name))

def main():
    from glr_dist.workers.cluster import connected
    with connected():
        import ray
        ray.get(ray.remote(num_cpus=0)(lambda: 1).remote())
        sockets = set()
        for pid in [os.getpid(), *family(os.getpid())]:
            try:
                for handle in Path(f"/proc/{pid}/fd").iterdir():
                    try:
                        target = os.readlink(handle)
                    except OSError:
                        continue
                    if target.startswith("socket:["):
                        sockets.add(target[8:-1])
            except OSError:
                pass
        listening = []
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[9] in sockets:
                    listening.append(fields[1].split(":")[0])
        session = Path(ray._private.worker._global_node.get_session_dir_path())
        open_to = [str(place) for place in (session, *session.parents) if place.stat().st_uid == os.getuid()
                   and place != Path("/") and not place.stat().st_mode & 0o077]
        print(json.dumps({"listening": listening, "session": str(session), "private": open_to, "cwd": os.getcwd()}))

main()
"""
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}  # as /proc/net has them


@pytest.mark.ray
def test_it_listens_on_loopback_and_its_files_are_the_users_own(tmp_path: Path) -> None:
    script = tmp_path / "look.py"
    script.write_text(LOOK)
    token = tmp_path / "token"
    token.write_text("0" * 64)
    token.chmod(0o644)
    env = os.environ | {"RAY_AUTH_TOKEN_PATH": str(token), "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(
        [sys.executable, str(script)], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert len(told["listening"]) > 3
    assert set(told["listening"]) <= LOOPBACK
    assert told["private"], "some folder on the way to the session is this user's alone"
    assert told["cwd"] == str(tmp_path)
    assert not Path(told["session"]).exists()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def test_a_token_is_made_for_its_user_alone_whatever_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    former = os.umask(0)
    try:
        private_token()
    finally:
        os.umask(former)
    token = tmp_path / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    text = token.read_text()
    assert len(text) == 64
    private_token()
    assert token.read_text() == text
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(UserError, match=r"RAY_AUTH_TOKEN_PATH: the token in .*none can't be kept from others"):
        private_token()
