"""What sources list, in which order, with which ids; how they are read on; and what bad input gets."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from imagequeue import SourceError, contract
from imagequeue.sources.columns import Columns
from imagequeue.sources.items import Found, Listed, Source, Unreadable
from imagequeue.sources.kinds import Kind, expand, group_source, grouped, source_of
from imagequeue.sources.lines import LINE_BYTES_MAX

Make = Callable[[Path], str]


def opened(
    name: Path | str,
    kind: Kind = Kind.AUTO,
    columns: Columns | None = None,
    base: Path | None = None,
    typed: bytes = b"",
) -> Source:
    return source_of(str(name), kind, columns or Columns(), base, io.BytesIO(typed))


def listed(source: Source, after: str = "") -> list[Listed]:
    found = list(source.read(after))
    assert not [one for one in found if isinstance(one, Unreadable)]
    return [one for one in found if isinstance(one, Listed)]


def refs(source: Source) -> list[str]:
    return [one.image.ref for one in listed(source)]


def problems(source: Source) -> list[tuple[str, str]]:
    return [(one.place, one.why) for one in source.read("") if isinstance(one, Unreadable)]


# --- every kind: reading on -----------------------------------------------------------------------------------------


def a_text(folder: Path) -> str:
    (folder / "list.txt").write_text("/a.jpg\n\nb.jpg\r\nhttps://x/ü.jpg\n/d.jpg")
    return str(folder / "list.txt")


def a_csv(folder: Path) -> str:
    (folder / "list.csv").write_text('id,file,label\n1,a.jpg,cat\n2,"b\nb.jpg",dog\n3,c.jpg,\n4,d.jpg,emu\n')
    return str(folder / "list.csv")


def json_lines(folder: Path) -> str:
    lines = [{"id": number, "path": f"{number}.jpg", "label": "x"} for number in range(5)]
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n"/last.jpg"\n')
    return str(folder / "list.jsonl")


def a_folder(folder: Path) -> str:
    for name in ("b.jpg", "a/d.PNG", "a/c.webp", "a/b/z.jpg", "aa/a.jpg", "a-b/x.jpg", "notes.txt"):
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / name).touch()
    (folder / "photos" / "link").symlink_to(folder / "photos" / "a")
    (folder / "photos" / os.fsdecode(b"caf\xe9.jpg")).touch()
    return str(folder / "photos")


def a_glob(folder: Path) -> str:
    return a_folder(folder) + "/**/*.*"


def a_tar(folder: Path) -> str:
    path = folder / "shard.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("./a.jpg", "n0144/b c#%.jpg", "notes.txt", "deep/" * 40 + "long.jpg", os.fsdecode(b"\xe9.png")):
            member = tarfile.TarInfo(name)
            member.size = 700
            archive.addfile(member, io.BytesIO(bytes(700)))
        folder_member = tarfile.TarInfo("folder.jpg")
        folder_member.type = tarfile.DIRTYPE
        archive.addfile(folder_member)
    return str(path)


def an_lmdb(folder: Path) -> str:
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(folder / "lmdb")) as database, database.begin(write=True) as transaction:
        for key in (b"00000002_b", b"00000001_a/x.JPEG", b"3 #%", b"\xff"):
            transaction.put(key, b"record")
    return str(folder / "lmdb")


def a_parquet(folder: Path) -> str:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({"uri": [f"{n}.jpg" for n in range(7)], "id": list(range(7)), "label": ["x"] * 7, "more": [0] * 7})
    pq.write_table(table, folder / "t.parquet", row_group_size=3)
    return str(folder / "t.parquet")


KINDS = [a_text, a_csv, json_lines, a_folder, a_glob, a_tar, an_lmdb, a_parquet]


@pytest.mark.parametrize("make", KINDS)
def test_reading_goes_on_behind_every_image(make: Make, tmp_path: Path) -> None:
    name = make(tmp_path)
    whole = listed(opened(name))
    assert len(whole) > 3
    for number, one in enumerate(whole):
        assert listed(opened(name), one.cursor) == whole[number + 1 :]


@pytest.mark.parametrize("make", KINDS)
def test_ids_are_unique_and_the_same_each_time(make: Make, tmp_path: Path) -> None:
    name = make(tmp_path)
    ids = [one.image.id for one in listed(opened(name))]
    assert ids == [one.image.id for one in listed(opened(name))]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("make", [a_text, a_csv, json_lines, a_tar, an_lmdb, a_parquet])
def test_how_much_is_read_is_known(make: Make, tmp_path: Path) -> None:
    shares = [one.share or 0.0 for one in listed(opened(make(tmp_path)))]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 1
    assert shares[-1] <= 1


# --- folders and globs ----------------------------------------------------------------------------------------------


def test_a_folder_is_listed_in_the_order_of_its_names(tmp_path: Path) -> None:
    root = a_folder(tmp_path)
    names = ["b.jpg", "caf%E9.jpg", "a/c.webp", "a/d.PNG", "a/b/z.jpg", "a-b/x.jpg", "aa/a.jpg"]
    assert refs(opened(root)) == [f"file://{root}/{name}" if "%" in name else f"{root}/{name}" for name in names]


def test_a_folder_that_cannot_be_read_is_a_problem_and_the_rest_goes_on(tmp_path: Path, monkeypatch) -> None:
    root = Path(a_folder(tmp_path))
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    found: list[Found] = list(opened(root).read(""))
    assert [one.place for one in found if isinstance(one, Unreadable)] == [str(root / "a")]
    assert len(found) == 5


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.jpg", ["b.jpg"]),
        ("*/?.*", ["a/c.webp", "a/d.PNG", "aa/a.jpg", "a-b/x.jpg"]),
        ("**/*.jpg", ["b.jpg", "a/b/z.jpg", "aa/a.jpg", "a-b/x.jpg"]),
        ("a/**", ["a/c.webp", "a/d.PNG", "a/b/z.jpg"]),
        ("[!a]*.jp[g]", ["b.jpg"]),
        ("**/b/*", ["a/b/z.jpg"]),
    ],
)
def test_a_glob_names_what_a_shell_would(pattern: str, names: list[str], tmp_path: Path) -> None:
    root = a_folder(tmp_path)
    Path(root, os.fsdecode(b"caf\xe9.jpg")).unlink()
    (Path(root) / ".hidden.jpg").touch()
    assert sorted(refs(opened(f"{root}/{pattern}"))) == sorted(f"{root}/{name}" for name in names)


@pytest.mark.parametrize("name", ["[z-a].jpg", "[!].jpg"])
def test_a_glob_that_is_none_is_an_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is no glob"):
        opened(tmp_path / name)


def test_a_glob_of_archives_is_each_of_them(tmp_path: Path) -> None:
    for name in ("b.tar", "a.tar", "c.txt"):
        (tmp_path / name).touch()
    assert expand((f"{tmp_path}/*.tar",), Kind.AUTO) == (str(tmp_path / "a.tar"), str(tmp_path / "b.tar"))


def test_pictures_that_are_named_in_a_row_are_one_source(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg", "list.txt"):
        (tmp_path / name).touch()
    names = [f"{tmp_path}/a.jpg", "https://x/b.jpg", f"{tmp_path}/list.txt", f"{tmp_path}/c.jpg", f"{tmp_path}"]
    groups = grouped(names, Kind.AUTO)
    assert groups == [tuple(names[:2]), *((name,) for name in names[2:])]
    found = listed(group_source(groups[0], Kind.AUTO, Columns(), None, io.BytesIO()))
    assert [one.image.ref for one in found] == names[:2]
    assert listed(group_source(groups[0], Kind.AUTO, Columns(), None, io.BytesIO()), found[0].cursor) == found[1:]


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        opened(tmp_path / "nothing")


# --- lists ----------------------------------------------------------------------------------------------------------


def test_paths_in_a_list_are_below_its_folder(tmp_path: Path) -> None:
    assert refs(opened(a_text(tmp_path))) == ["/a.jpg", f"{tmp_path}/b.jpg", "https://x/ü.jpg", "/d.jpg"]


def test_paths_in_a_list_are_below_the_base(tmp_path: Path) -> None:
    assert refs(opened(a_text(tmp_path), base=Path("/data")))[1] == "/data/b.jpg"


def test_paths_of_standard_input_are_below_the_working_directory(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refs(opened("-", typed=b"b.jpg\n")) == [f"{tmp_path}/b.jpg"]


@pytest.mark.parametrize("make", [a_text, a_csv, json_lines])
def test_a_pipe_is_read_up_to_the_cursor(make: Make, tmp_path: Path) -> None:
    path = Path(make(tmp_path))
    kind = {".txt": Kind.TEXT, ".csv": Kind.CSV, ".jsonl": Kind.JSON_LINES}[path.suffix]

    def piped() -> Source:
        reading, writing = os.pipe()
        os.write(writing, path.read_bytes())
        os.close(writing)
        return source_of("-", kind, Columns(), None, os.fdopen(reading, "rb"))

    whole = listed(piped())
    assert listed(piped(), whole[1].cursor) == whole[2:]


def test_a_csv_gives_ids_and_labels(tmp_path: Path) -> None:
    found = listed(opened(a_csv(tmp_path)))
    assert [(one.image.id, one.label) for one in found] == [("1", "cat"), ("2", "dog"), ("3", None), ("4", "emu")]
    assert [one.place.rpartition(":")[2] for one in found] == ["2", "3", "5", "6"]
    assert found[1].image.ref == f"{tmp_path}/b\nb.jpg"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_of_a_csv_is_found_in_its_header(delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(b"\xef\xbb\xbf" + delimiter.join(["Path", "wnid"]).encode() + f"\n/a.jpg{delimiter}n01\n".encode())
    (one,) = listed(opened(path))
    assert (one.image.ref, one.label) == ("/a.jpg", "n01")


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("id,file,name\n1,/a.jpg,cat\n")
    (one,) = listed(opened(tmp_path / "list.csv", columns=Columns(ref="id", id="file", label="name")))
    assert (one.image.id, one.image.ref, one.label) == ("/a.jpg", f"{tmp_path}/1", "cat")


def test_columns_that_are_numbers_have_no_header_above_them(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("cat,/a.jpg\ndog,/b.jpg\n")
    found = listed(opened(tmp_path / "list.csv", columns=Columns(ref="2", label="1")))
    assert [(one.image.ref, one.label) for one in found] == [("/a.jpg", "cat"), ("/b.jpg", "dog")]
    assert listed(opened(tmp_path / "list.csv", columns=Columns(ref="2", label="1")), found[0].cursor) == found[1:]


@pytest.mark.parametrize(
    ("columns", "says"), [(Columns(), "--ref-column"), (Columns(ref="nothing"), "no column 'nothing'")]
)
def test_a_csv_without_the_column_says_which_it_has(columns: Columns, says: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("first,second\n1,2\n")
    with pytest.raises(SourceError, match=says) as caught:
        list(opened(tmp_path / "list.csv", columns=columns).read(""))
    assert "first, second" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"no json", "no JSON"),
        (b"[1]", "neither a JSON object nor a text"),
        (b'{"x": 1}', "--ref-column"),
        (b'{"path": [1]}', "neither text nor a number"),
        (b'{"path": ""}', "no reference"),
        (b'{"path": "/a", "id": ""}', "id is empty"),
        (b'{"path": "/a", "id": "a\\nb"}', "control character"),
        (b'{"path": "/a", "id": "' + b"x" * 600 + b'"}', "bytes fit"),
        (b'{"path": "x:' + b"x" * contract.REF_BYTES_MAX + b'"}', "upload the bytes"),
        (b'{"path": "x:\xff"}', "no JSON"),
        (b'{"path": "x:\\ud800"}', ""),
        (b'"' + b"x" * LINE_BYTES_MAX + b'"', "longer than"),
    ],
)
def test_a_bad_line_is_told_by_its_number_and_the_rest_goes_on(line: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_bytes(b'"/a.jpg"\n' + line + b'\n"/b.jpg"\n')
    ((place, why),) = problems(opened(tmp_path / "list.jsonl"))
    assert place == f"{tmp_path}/list.jsonl:2"
    assert says in why
    good = [one.image.ref for one in opened(tmp_path / "list.jsonl").read("") if isinstance(one, Listed)]
    assert good == ["/a.jpg", "/b.jpg"]


@pytest.mark.parametrize(
    ("row", "says"), [("1", "too few"), ("1,", "no reference"), (f"1,{'x' * 3_000_000}", "field"), (",/a.jpg", "id is")]
)
def test_a_bad_row_is_told_by_its_number_and_the_rest_goes_on(row: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"id,path\n7,/a.jpg\n{row}\n8,/b.jpg\n")
    ((place, why),) = problems(opened(tmp_path / "list.csv"))
    assert (place, says in why) == (f"{tmp_path}/list.csv:3", True)
    good = [one.image.id for one in opened(tmp_path / "list.csv").read("") if isinstance(one, Listed)]
    assert good == ["7", "8"]


def test_a_list_that_has_become_shorter_is_another_one(tmp_path: Path) -> None:
    name = a_text(tmp_path)
    cursor = listed(opened(name))[2].cursor
    Path(name).write_text("/a.jpg\n")
    with pytest.raises(SourceError, match="another file"):
        list(opened(name).read(cursor))


# --- archives and databases -----------------------------------------------------------------------------------------


def test_members_of_a_tar_are_named_as_workers_read_them(tmp_path: Path) -> None:
    names = ["a.jpg", "n0144/b%20c%23%25.jpg", "deep/" * 40 + "long.jpg", "%E9.png"]
    assert refs(opened(a_tar(tmp_path))) == [f"tar://{tmp_path}/shard.tar#{name}" for name in names]


def test_a_worker_reads_every_member_that_is_listed(tmp_path: Path) -> None:
    from imagequeue_worker.references import ImageSources, References

    worker = References(ImageSources(image_roots=(tmp_path,)))
    assert [worker.fetch(ref) for ref in refs(opened(a_tar(tmp_path)))] == [bytes(700)] * 4


def test_a_tar_that_breaks_off_says_after_which_member(tmp_path: Path) -> None:
    path = Path(a_tar(tmp_path))
    whole = path.read_bytes()
    path.write_bytes(whole[: 3 * 512] + b"\xff" * 512 + whole[4 * 512 :])
    with pytest.raises(SourceError, match=r"broke off after .*shard.tar#a.jpg"):
        list(opened(path).read(""))


def test_a_member_that_is_cut_off_is_a_problem(tmp_path: Path) -> None:
    path = Path(a_tar(tmp_path))
    path.write_bytes(path.read_bytes()[:1000])
    assert problems(opened(path)) == [(f"{path}#a.jpg", "the archive ends within it")]


def test_a_compressed_tar_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:gz"):
        pass
    with pytest.raises(SourceError, match="compressed"):
        list(opened(tmp_path / "a.tar").read(""))


def test_keys_of_an_lmdb_are_named_as_workers_read_them(tmp_path: Path) -> None:
    keys = ["00000001_a/x.JPEG", "00000002_b", "3%20%23%25", "%FF"]
    assert refs(opened(an_lmdb(tmp_path))) == [f"lmdb://{tmp_path}/lmdb#{key}" for key in keys]


def test_a_file_that_is_no_lmdb_says_so(tmp_path: Path) -> None:
    pytest.importorskip("lmdb")
    (tmp_path / "data.mdb").write_bytes(b"x" * 10_000)
    with pytest.raises(SourceError, match="cannot be read"):
        list(opened(tmp_path).read(""))


def test_a_parquet_gives_ids_and_labels_as_text(tmp_path: Path) -> None:
    found = listed(opened(a_parquet(tmp_path)))
    assert [(one.image.id, one.image.ref, one.label) for one in found] == [
        (str(number), f"{tmp_path}/{number}.jpg", "x") for number in range(7)
    ]
    assert found[3].place == f"{tmp_path}/t.parquet row 4"


def test_a_row_without_reference_is_a_problem(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"url": ["x:a", None, "x:c"]}), tmp_path / "t.parquet")
    assert problems(opened(tmp_path / "t.parquet")) == [(f"{tmp_path}/t.parquet row 2", "it has no reference")]


def test_a_file_that_is_no_parquet_says_so(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "t.parquet").write_bytes(b"x" * 1000)
    with pytest.raises(SourceError, match=r"t\.parquet broke off after row 0"):
        list(opened(tmp_path / "t.parquet").read(""))


# --- what is named itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ref", ["https://x/a.jpg", "s3://bucket/a.jpg", "data:,"])
def test_a_reference_is_listed_as_it_is(ref: str) -> None:
    (one,) = listed(opened(ref))
    assert one.image.ref == ref
    assert listed(opened(ref), one.cursor) == []


def test_a_file_with_another_suffix_is_a_picture(tmp_path: Path) -> None:
    (tmp_path / "list.dat").write_text("/a.jpg\n")
    assert refs(opened(tmp_path / "list.dat")) == [f"{tmp_path}/list.dat"]
    assert refs(opened(tmp_path / "list.dat", Kind.TEXT)) == ["/a.jpg"]
