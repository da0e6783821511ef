"""Paths and `file:` references: inside the image roots only, whatever is linked, swapped or opened."""

import os
import socket
import tempfile
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references import ImageSources, References

INSIDE, SECRET = b"inside the root", b"outside of it"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(INSIDE)
    (folder / "sub" / "b.jpg").write_bytes(INSIDE)
    (tmp_path / "secret.jpg").write_bytes(SECRET)
    return folder


def references(*roots, bytes_max=1 << 20):
    return References(ImageSources(image_roots=roots, image_bytes_max=bytes_max))


def code_of(ref, *roots, **options):
    with pytest.raises(ImageError) as caught:
        references(*roots, **options).fetch(str(ref))
    return caught.value.code


# --- what is read ---


@pytest.mark.parametrize("name", ["a.jpg", "sub/b.jpg", "./a.jpg", "sub//b.jpg", "sub/../a.jpg"])
def test_a_path_below_the_root_is_read_absolute_or_relative(root, name):
    fetch = references(root).fetch
    assert fetch(name) == fetch(f"{root}/{name}") == fetch(f"file:{root}/{name}") == fetch(f"file://{root}/{name}")
    assert fetch(name) == INSIDE


@pytest.mark.parametrize("prefix", ["file://localhost", "FILE://", "File:"])
def test_file_references_are_read_in_every_spelling(root, prefix):
    assert references(root).fetch(f"{prefix}{root}/a.jpg") == INSIDE


def test_file_references_are_percent_decoded_and_paths_are_not(root):
    (root / "my cat.jpg").write_bytes(b"cat")
    (root / "100%25.jpg").write_bytes(b"percent")
    fetch = references(root).fetch
    assert fetch(f"file://{root}/my%20cat.jpg") == b"cat"
    assert fetch(f"{root}/my cat.jpg") == b"cat"
    assert fetch(f"{root}/100%25.jpg") == fetch(f"file://{root}/100%2525.jpg") == b"percent"


@pytest.mark.parametrize(
    "name", ["Käse 猫.jpg", "a?b#c.jpg", "12:30.jpg", "notes:today.jpg", "a:b.jpg", "C:x.jpg", " "]
)
def test_odd_names_are_names(root, name):
    (root / name).write_bytes(b"odd")
    assert references(root).fetch(name) == references(root).fetch(f"{root}/{name}") == b"odd"


def test_a_name_that_is_no_utf8_is_read(root):
    (root / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"latin")
    assert references(root).fetch(f"file://{root}/caf%E9.jpg") == b"latin"


def test_a_relative_path_is_looked_for_below_each_root_in_order(root, tmp_path):
    second = tmp_path / "second"
    second.mkdir()
    (second / "a.jpg").write_bytes(b"second")
    (second / "c.jpg").write_bytes(b"only here")
    both = references(root, second)
    assert both.fetch("a.jpg") == INSIDE
    assert both.fetch("c.jpg") == both.fetch(str(second / "c.jpg")) == b"only here"


def test_links_that_stay_below_a_root_are_followed(root, tmp_path):
    second = tmp_path / "second"
    second.mkdir()
    (root / "to-file.jpg").symlink_to(root / "a.jpg")
    (root / "to-folder").symlink_to("sub")
    (second / "across.jpg").symlink_to(root / "a.jpg")
    both = references(root, second)
    for name in ("to-file.jpg", "to-folder/b.jpg", "to-folder/../a.jpg", str(second / "across.jpg")):
        assert both.fetch(name) == INSIDE


def test_a_root_may_be_a_link_and_be_named_by_either_path(root, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(root)
    for given in (link, root):
        for named in (link, root):
            assert references(given).fetch(f"{named}/sub/b.jpg") == INSIDE


def test_a_root_that_is_mounted_later_is_found(tmp_path):
    later = references(tmp_path / "later")
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "a.jpg").write_bytes(INSIDE)
    assert later.fetch("a.jpg") == INSIDE


def test_an_empty_file_is_read_as_no_bytes(root):
    (root / "empty.jpg").touch()
    assert references(root).fetch("empty.jpg") == b""


# --- what is refused ---


@pytest.mark.parametrize("ref", ["a.jpg", "/etc/passwd", "file:///etc/passwd"])
def test_without_a_root_every_path_is_forbidden_and_the_message_names_the_setting(ref):
    with pytest.raises(ImageError, match="--image-root") as caught:
        references().fetch(ref)
    assert caught.value.code is ErrorCode.FORBIDDEN


@pytest.mark.parametrize(
    "ref",
    [
        "../secret.jpg",
        "sub/../../secret.jpg",
        "{root}/../secret.jpg",
        "file://{root}/..%2Fsecret.jpg",
        "/etc/passwd",
        "/",
    ],
)
def test_a_path_that_leaves_the_root_is_forbidden(root, ref):
    assert code_of(ref.format(root=root), root) is ErrorCode.FORBIDDEN


def test_a_folder_that_begins_like_the_root_is_outside(root):
    other = root.with_name("root-of-others")
    other.mkdir()
    (other / "a.jpg").write_bytes(SECRET)
    assert code_of(other / "a.jpg", root) is ErrorCode.FORBIDDEN


def test_links_that_leave_the_root_are_forbidden(root, tmp_path):
    (root / "file.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "relative.jpg").symlink_to("../secret.jpg")
    (root / "folder").symlink_to(tmp_path)
    (root / "dangling.jpg").symlink_to(tmp_path / "nothing")
    for name in ("file.jpg", "relative.jpg", "folder/secret.jpg", "folder/nothing", "dangling.jpg"):
        assert code_of(name, root) is ErrorCode.FORBIDDEN


def test_the_answer_does_not_tell_what_exists_outside(root, tmp_path):
    def message(name):
        with pytest.raises(ImageError) as caught:
            references(root).fetch(str(tmp_path / name))
        return str(caught.value).replace(name, "")

    assert message("secret.jpg") == message("absent.jpg")


def test_a_link_that_leads_to_itself_is_forbidden(root):
    (root / "loop.jpg").symlink_to("loop.jpg")
    assert code_of("loop.jpg", root) is ErrorCode.FORBIDDEN


@pytest.mark.parametrize("ref", ["absent.jpg", "absent/a.jpg", "a.jpg/b.jpg", "n" * 300, "n/" * 3000, "a\x00.jpg"])
def test_what_is_not_there_is_not_found(root, ref):
    assert code_of(ref, root) is ErrorCode.NOT_FOUND


def test_a_name_that_no_file_system_has_is_not_found(root):
    assert code_of("\ud800.jpg", root) is ErrorCode.NOT_FOUND


@pytest.mark.parametrize("ref", ["sub", "sub/", ".", "{root}", "file://{root}/sub"])
def test_a_folder_is_unsupported(root, ref):
    assert code_of(ref.format(root=root), root) is ErrorCode.UNSUPPORTED_FORMAT


def test_a_fifo_is_forbidden_at_once(root):
    os.mkfifo(root / "fifo.jpg")
    assert code_of("fifo.jpg", root) is ErrorCode.FORBIDDEN


def test_a_socket_is_forbidden(root, monkeypatch):
    monkeypatch.chdir(root)  # socket addresses are short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.jpg")
        assert code_of("socket.jpg", root) is ErrorCode.FORBIDDEN


@pytest.mark.parametrize("device", ["zero", "null", "tty"])
def test_a_device_is_forbidden(device):
    assert code_of(f"/dev/{device}", Path("/dev")) is ErrorCode.FORBIDDEN


def test_a_file_of_another_host_is_unsupported(root):
    assert code_of("file://elsewhere/a.jpg", root) is ErrorCode.UNSUPPORTED_REFERENCE


def test_a_file_above_the_limit_is_too_large_and_one_at_the_limit_is_read(root):
    assert references(root, bytes_max=len(INSIDE)).fetch("a.jpg") == INSIDE
    with pytest.raises(ImageError, match=r"15 bytes; at most 14 .* --max-image-bytes") as caught:
        references(root, bytes_max=14).fetch("a.jpg")
    assert caught.value.code is ErrorCode.TOO_LARGE


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc")
def test_files_without_a_size_are_bounded_and_input_errors_are_fetch_failed():
    assert references(Path("/proc/self")).fetch("cmdline")
    assert code_of("smaps", Path("/proc/self"), bytes_max=100) is ErrorCode.TOO_LARGE
    assert code_of("mem", Path("/proc/self")) is ErrorCode.FETCH_FAILED


def test_a_file_without_permission_is_forbidden():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for file, mode in (("closed.jpg", 0), ("open.jpg", 0o644)):
            (folder / file).write_bytes(INSIDE)
            (folder / file).chmod(mode)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            assert references(folder).fetch("open.jpg") == INSIDE
            assert code_of("closed.jpg", folder) is ErrorCode.FORBIDDEN
        finally:
            os.seteuid(user)


@contextmanager
def swapping(swap):
    """Another thread that swaps all the time."""
    stop = threading.Event()

    def work():
        while not stop.is_set():
            swap()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def outcomes(root, ref, count):
    fetch, seen = references(root).fetch, Counter()
    for _ in range(count):
        try:
            seen[fetch(ref)] += 1
        except ImageError as error:
            seen[error.code] += 1
    return seen


def test_a_folder_swapped_for_a_link_meanwhile_never_leads_outside(root, tmp_path):
    """The classic race: `sub` is a folder, or a link to a folder outside, and changes all the time."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b.jpg").write_bytes(SECRET)
    link, aside = root / "link", root / "aside"

    def swap():
        link.symlink_to(outside)
        (root / "sub").rename(aside)
        link.rename(root / "sub")
        (root / "sub").unlink()
        aside.rename(root / "sub")

    with swapping(swap):
        seen = outcomes(root, "sub/b.jpg", 10_000)
    assert SECRET not in seen
    assert set(seen) <= {INSIDE, ErrorCode.FORBIDDEN, ErrorCode.NOT_FOUND}


@pytest.mark.parametrize("what", ["link", "fifo", "folder"])
def test_a_file_swapped_for_something_else_meanwhile_never_leads_outside(root, tmp_path, what):
    """`a.jpg` is a file, or a link to a file outside, a FIFO, or a folder: swapped by one rename, there is no gap."""
    other = root / "other"
    (tmp_path / "inside.jpg").write_bytes(INSIDE)

    def swap():
        if what == "link":
            other.symlink_to(tmp_path / "secret.jpg")
        elif what == "fifo":
            os.mkfifo(other)
        else:
            other.mkdir()
            (root / "a.jpg").unlink()
        other.rename(root / "a.jpg")
        if what == "folder":
            (root / "a.jpg").rmdir()
        other.write_bytes(INSIDE)
        other.rename(root / "a.jpg")

    with swapping(swap):
        seen = outcomes(root, "a.jpg", 10_000)
    assert SECRET not in seen
    partial = {b""} if what == "folder" else set()
    refused = {ErrorCode.FORBIDDEN, ErrorCode.NOT_FOUND, ErrorCode.UNSUPPORTED_FORMAT}
    assert set(seen) <= {INSIDE} | partial | refused


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    "target",
    ["/proc/self/environ", "/proc/self/root/etc/passwd", "/proc/self/cwd", "/proc/self/fd/0", "/dev/fd/0", "/dev/zero",
     "/dev/stdin", "/proc/self/mem", "/proc/1/environ", "/etc/passwd", "..", "../secret.jpg"],
)  # fmt: skip
def test_no_link_leads_to_what_only_this_process_sees(root, target):
    (root / "link.jpg").symlink_to(target)
    (root / "folder").symlink_to("/proc/self")
    for ref in ("link.jpg", f"{root}/link.jpg", f"file://{root}/link.jpg", target, f"folder/{Path(target).name}"):
        with pytest.raises(ImageError) as caught:
            references(root).fetch(ref)
        assert caught.value.code is ErrorCode.FORBIDDEN


def test_no_descriptor_is_left_open(root):
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs Linux's /proc")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for ref in ("a.jpg", "sub/b.jpg", "sub", "absent", "../secret.jpg"):
        try:
            references(root).fetch(ref)
        except ImageError:
            continue
    assert len(list(Path("/proc/self/fd").iterdir())) == before
