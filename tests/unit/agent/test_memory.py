"""The process's own figures follow what really happens, and limits are read as the kernel writes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diag.agent import memory

MB = 1 << 20


def test_allocated_bytes_rise_and_fall_with_large_and_with_small_objects() -> None:
    if memory.malloc_bytes() is None or memory.python_bytes() is None:
        pytest.skip("this platform's allocators say nothing")
    start = memory.allocated_bytes()
    large = bytearray(32 * MB)
    after_large = memory.allocated_bytes()
    small = [object() for _ in range(200_000)]
    after_small = memory.allocated_bytes()
    assert after_large - start == pytest.approx(32 * MB, rel=0.05)
    # 16 bytes each, and the list.
    assert after_small - after_large == pytest.approx(200_000 * 16 + sys.getsizeof(small), rel=0.1)
    del large, small
    assert memory.allocated_bytes() - start < MB


def test_small_objects_are_not_counted_a_second_time_by_malloc() -> None:
    malloc, python = memory.malloc_bytes(), memory.python_bytes()
    if malloc is None or python is None:
        pytest.skip("this platform's allocators say nothing")
    kept = [bytes(100) for _ in range(100_000)]
    after_malloc, after_python = memory.malloc_bytes(), memory.python_bytes()
    assert after_malloc is not None
    assert after_python is not None
    assert after_python - python > 100_000 * 130
    assert after_malloc[0] - malloc[0] < sys.getsizeof(kept) * 2


def test_rss_and_threads_are_what_the_kernel_says() -> None:
    assert MB < memory.rss_bytes() < 100 << 30
    assert memory.thread_count() == len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("setting", ["malloc", "malloc_debug"])
def test_without_pymalloc_the_small_object_figure_is_unknown_and_the_sum_still_true(setting: str) -> None:
    code = (
        "from diag.agent import memory as m\n"
        "before = m.allocated_bytes()\n"
        "kept = [bytes(1000) for _ in range(20000)]\n"
        "print(m.python_bytes(), m.malloc_bytes() is None or m.allocated_bytes() - before > 20_000_000)"
    )
    env = {**os.environ, "PYTHONMALLOC": setting}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["None", "True"]


def cgroup(root: Path, lines: str, **limits: str) -> int | None:
    (root / "proc").mkdir()
    (root / "proc/cgroup").write_text(lines)
    for path, limit in limits.items():
        file = root / "fs" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(limit)
    return memory.limit_bytes(str(root / "proc"), str(root / "fs"))


def test_the_tightest_limit_on_the_way_up_counts_under_cgroup_v2(tmp_path: Path) -> None:
    limits = {"a/b/memory.max": "max\n", "a/memory.max": "1000\n", "memory.max": "5000\n"}
    assert cgroup(tmp_path, "0::/a/b\n", **limits) == 1000


def test_the_huge_number_of_cgroup_v1_means_no_limit(tmp_path: Path) -> None:
    limits = {"memory/a/memory.limit_in_bytes": "9223372036854771712\n"}
    assert cgroup(tmp_path, "5:cpu:/x\n4:memory:/a\n", **limits) is None


def test_a_limit_of_cgroup_v1_is_found_beside_other_controllers(tmp_path: Path) -> None:
    limits = {"memory/a/memory.limit_in_bytes": "4096\n"}
    assert cgroup(tmp_path, "4:cpu,memory:/a\n0::/\n", **limits) == 4096


def test_the_hosts_path_inside_a_container_still_finds_the_mounted_root(tmp_path: Path) -> None:
    assert cgroup(tmp_path, "0::/docker/abc\n", **{"memory.max": "7777\n"}) == 7777
