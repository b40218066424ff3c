"""What is embedded: pictures and shards, cut into pieces, read in sections."""

from __future__ import annotations

import errno
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reidkit import preprocess
from reidkit.datasets.images import find_images
from reidkit.distributed import Source, cut_samples, find_place, find_source
from reidkit.distributed._crops import read_crops
from reidkit.distributed._pieces import ParquetShard, Pictures, TarShard
from reidkit.distributed._sections import Section, read_sections
from reidkit.errors import DatasetError, ImageError, StoreError
from reidkit.records import Samples
from tests.object_store import bucket as bucket
from tests.object_store import object_store as object_store
from tests.pictures import SMALL, write_samples
from tests.shards import rows, write_parquet, write_tar


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    return write_samples(tmp_path / "pictures", 10)


def read_all(source: Source, *, size: int = 4) -> list[Section]:
    pieces = enumerate(source.pieces)
    return [s for n, piece in pieces for s in read_sections(n, piece, SMALL, size=size)]


def list_rows(sections: list[Section]) -> list[tuple[str, int, int]]:
    columns = ((s.about.names, s.about.person_ids, s.about.camera_ids) for s in sections)
    return [row for each in columns for row in zip(*each, strict=True)]


def expect_pixels(sections: list[Section], samples: Samples) -> None:
    found = np.concatenate([section.pixels for section in sections])
    expected = [preprocess.resize(preprocess.decode(path), SMALL) for path in samples.paths]
    assert np.array_equal(found, np.reshape(expected, found.shape))


def test_samples_are_cut_and_keep_their_order_and_ids(samples: Samples) -> None:
    source = cut_samples(samples, size=4)
    assert source.rows == 10
    assert [len(piece.names) for piece in source.pieces if isinstance(piece, Pictures)] == [4, 4, 2]
    sections = read_all(source)
    assert [(s.about.piece, s.about.section, s.about.last) for s in sections] == [
        (0, 0, True),
        (1, 0, True),
        (2, 0, True),
    ]
    assert list_rows(sections) == rows(samples)
    expect_pixels(sections, samples)


def test_a_folder_is_found_like_the_local_command_finds_it(tmp_path: Path) -> None:
    for folder in ("a-b", "a", "c/d", ".hidden"):
        write_samples(tmp_path / "crops" / folder, 2)
    (tmp_path / "crops" / "notes.txt").write_text("no picture")
    source = find_source([str(tmp_path / "crops")], size=3)
    assert source.rows == 6
    names = [name for name, _, _ in list_rows(read_all(source))]
    assert names == find_images([tmp_path / "crops"])
    single = find_source([names[3], names[0]], size=3)
    assert [name for name, _, _ in list_rows(read_all(single))] == [names[3], names[0]]


@pytest.mark.parametrize("ids", [True, False])
def test_tar_shards(samples: Samples, tmp_path: Path, ids: bool) -> None:
    shard = tmp_path / "shards" / "0.tar"
    write_tar(shard, samples, ids=ids)
    source = find_source([str(tmp_path / "shards")], size=4)
    assert source.pieces == (TarShard(find_place(tmp_path / "shards") / "0.tar"),)
    assert source.rows is None
    sections = read_all(source)
    assert [(s.about.section, s.about.last) for s in sections] == [
        (0, False),
        (1, False),
        (2, True),
    ]
    expect_pixels(sections, samples)
    expected = [
        (f"{shard}/{Path(name).name}", person if ids else -1, camera if ids else -1)
        for name, person, camera in rows(samples)
    ]
    assert list_rows(sections) == expected


def test_sections_that_are_done_are_passed_over(samples: Samples, tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", samples)
    piece = TarShard(find_place(tmp_path / "0.tar"))
    left = list(read_sections(7, piece, SMALL, size=4, done={0, 2}))
    assert [(s.about.piece, s.about.section, s.about.last) for s in left] == [(7, 1, False)]
    assert [name[-8:] for name in left[0].about.names] == ["0004.jpg", "0005.jpg"] + [
        "0006.jpg",
        "0007.jpg",
    ]


def test_a_shard_of_exactly_whole_sections_ends_with_the_last_of_them(
    samples: Samples, tmp_path: Path
) -> None:
    write_tar(tmp_path / "0.tar", samples.select(slice(0, 8)))
    sections = read_all(find_source([str(tmp_path / "0.tar")], size=4))
    assert [(len(s.pixels), s.about.last) for s in sections] == [(4, False), (4, True)]


def test_an_empty_shard_is_one_empty_section(samples: Samples, tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", samples.select(slice(0, 0)))
    (only,) = read_all(find_source([str(tmp_path / "0.tar")], size=4))
    assert only.about.last
    assert only.pixels.shape == (0, 32, 16, 3)


@pytest.mark.parametrize("share", [0.05, 0.35, 0.66, 0.9])
def test_a_shard_that_was_cut_off_gives_what_it_has_and_is_named(
    samples: Samples, tmp_path: Path, share: float
) -> None:
    shard = tmp_path / "0.tar"
    write_tar(shard, samples, ids=False)
    data = shard.read_bytes()[: -20 * 512]
    shard.write_bytes(data[: int(share * len(data))])
    sections = read_all(find_source([str(shard)], size=4))
    assert sections[-1].about.last
    found = list_rows(sections)
    assert 0 <= len(found) < 10
    unreadable = [image for s in sections for image in s.about.unreadable]
    assert [image.path for image in unreadable] == [str(shard)]
    assert "damaged" in unreadable[0].reason
    expect_pixels(sections, samples.select(slice(0, len(found))))


def test_a_shard_cut_between_two_members_is_noticed(samples: Samples, tmp_path: Path) -> None:
    shard = tmp_path / "0.tar"
    write_tar(shard, samples.select(slice(0, 1)), ids=False)
    size = len(Path(samples.paths[0]).read_bytes())
    shard.write_bytes(shard.read_bytes()[: 512 + -(-size // 512) * 512])
    (only,) = read_all(find_source([str(shard)], size=4))
    assert len(only.pixels) == 1
    assert only.about.unreadable == ((str(shard), "the shard is damaged: it was cut off"),)


@pytest.mark.parametrize("pictures", [True, False])
def test_parquet_shards_hold_pictures_or_name_them(
    samples: Samples, tmp_path: Path, pictures: bool
) -> None:
    write_parquet(tmp_path / "shards" / "0.parquet", samples, group=6, pictures=pictures)
    source = find_source([str(tmp_path / "shards")], size=4)
    groups = [piece.group for piece in source.pieces if isinstance(piece, ParquetShard)]
    assert groups == [0, 1]
    sections = read_all(source)
    assert [(s.about.piece, len(s.pixels), s.about.last) for s in sections] == [
        (0, 4, False),
        (0, 2, True),
        (1, 4, True),
    ]
    assert list_rows(sections) == rows(samples)
    expect_pixels(sections, samples)


def test_parquet_rows_without_path_or_picture(samples: Samples, tmp_path: Path) -> None:
    data = [Path(path).read_bytes() for path in samples.paths[:2]]
    images = [{"bytes": data[0], "path": None}, None]
    pq.write_table(pa.table({"image": images}), tmp_path / "0.parquet")
    (only,) = read_all(find_source([str(tmp_path / "0.parquet")], size=4))
    assert only.about.names == (f"{tmp_path}/0.parquet#0", f"{tmp_path}/0.parquet#1")
    assert only.about.person_ids == (-1, -1)
    assert only.about.unreadable[0].reason == "the row holds no picture"
    assert only.about.rows == (1,)
    assert not only.pixels[1].any()


def test_relative_paths_lie_beside_their_table(samples: Samples, tmp_path: Path) -> None:
    names = [Path(path).name for path in samples.paths]
    pq.write_table(pa.table({"path": names}), tmp_path / "pictures" / "list.parquet")
    sections = read_all(find_source([str(tmp_path / "pictures" / "list.parquet")], size=4))
    assert [name for name, _, _ in list_rows(sections)] == samples.paths.tolist()


def test_unreadable_pictures_keep_their_place_and_are_named(
    samples: Samples, tmp_path: Path
) -> None:
    Path(samples.paths[1]).write_bytes(b"no picture")
    Path(samples.paths[6]).unlink()
    sections = read_all(cut_samples(samples, size=4))
    assert [s.about.rows for s in sections] == [(1,), (2,), ()]
    reasons = [image.reason for s in sections for image in s.about.unreadable]
    assert reasons == ["not a picture in a known format", "No such file or directory"]
    assert list_rows(sections) == rows(samples)


def test_pictures_in_an_object_store(samples: Samples, bucket: str) -> None:
    root = find_place(bucket.format("/crops"))
    for path in samples.paths[:-1]:
        (root / Path(path).name).write_bytes(Path(path).read_bytes())
    source = find_source([root.address], size=20)
    (piece,) = source.pieces
    assert isinstance(piece, Pictures)
    lost = Pictures(piece.root, (*piece.names, "lost.jpg"), (1,) * 10, (2,) * 10)
    crops = list(read_crops(lost))
    assert [crop.name for crop in crops] == [f"{root}/{name}" for name in lost.names]
    assert "secret" not in crops[0].name
    assert crops[-1].fault == "No such file"
    (section,) = read_sections(0, piece, SMALL, size=20)
    expect_pixels([section], samples.select(slice(0, 9)))


def test_what_cannot_be_embedded_is_refused(samples: Samples, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere does not exist"):
        find_source([str(tmp_path / "nowhere")], size=4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no files"):
        find_source([str(tmp_path / "empty")], size=4)
    (tmp_path / "empty" / "notes.txt").write_text("")
    with pytest.raises(DatasetError, match=r"holds neither pictures nor shards \(.bmp"):
        find_source([str(tmp_path / "empty")], size=4)
    with pytest.raises(DatasetError, match=r"camera_id is string, not whole numbers"):
        pq.write_table(pa.table({"path": ["x"], "camera_id": ["1"]}), tmp_path / "odd.parquet")
        read_all(find_source([str(tmp_path / "odd.parquet")], size=4))
    pq.write_table(pa.table({"vector": [1]}), tmp_path / "other.parquet")
    with pytest.raises(DatasetError, match="has the columns vector: expected `image`"):
        read_all(find_source([str(tmp_path / "other.parquet")], size=4))
    odd = Samples.from_paths(["a\udcff.jpg"])
    with pytest.raises(DatasetError, match=r"1 file names are not UTF-8.*a\\udcff"):
        cut_samples(odd, size=4)


def flip_bytes(path: Path) -> None:
    """Damage the head of the first page."""
    data = bytearray(path.read_bytes())
    for place in range(4, 24):
        data[place] ^= 0xFF
    path.write_bytes(data)


def cut_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip_bytes, cut_end, empty])
def test_a_damaged_table_is_named_and_the_run_goes_on(
    samples: Samples, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    shard = tmp_path / "0.parquet"
    write_parquet(shard, samples, group=10)
    damage(shard)
    sections = read_all(find_source([str(shard)], size=1000))
    unreadable = [image for s in sections for image in s.about.unreadable]
    assert unreadable
    assert all(image.path.startswith((str(shard), samples.paths[0][:-8])) for image in unreadable)
    assert sections[-1].about.last


def test_a_disk_that_fails_is_no_unreadable_picture(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: object) -> bytes:
        raise ImageError(str(path), "Input/output error") from OSError(errno.EIO, "EIO")

    monkeypatch.setattr(preprocess, "read_bytes", fail)
    with pytest.raises(StoreError, match=r"0000.jpg cannot be read: Input/output error"):
        read_all(cut_samples(samples, size=4))


def test_pictures_that_a_table_names_in_hugging_faces_way(samples: Samples, tmp_path: Path) -> None:
    images = [{"bytes": None, "path": f"pictures/{Path(path).name}"} for path in samples.paths]
    pq.write_table(pa.table({"image": images}), tmp_path / "0.parquet")
    sections = read_all(find_source([str(tmp_path / "0.parquet")], size=4))
    assert [name for name, _, _ in list_rows(sections)] == samples.paths.tolist()
    expect_pixels(sections, samples)


def test_the_parts_of_a_data_set_are_no_pictures(samples: Samples, tmp_path: Path) -> None:
    columns = {"path": samples.paths.tolist(), "vector": [[0.0]] * 10}
    pq.write_table(pa.table(columns), tmp_path / "part.parquet")
    with pytest.raises(DatasetError, match="and no `vector`"):
        read_all(find_source([str(tmp_path / "part.parquet")], size=4))


def test_links_are_walked_as_the_local_command_walks_them(tmp_path: Path) -> None:
    root = tmp_path / "crops"
    write_samples(root / "a", 2)
    (root / "loop").symlink_to(root)
    (root / "c.jpg").symlink_to(root / "a" / "0000.jpg")
    sections = read_all(find_source([str(root)], size=9))
    assert [name for name, _, _ in list_rows(sections)] == find_images([root])


def test_tar_members_that_are_no_files_have_a_fault(samples: Samples, tmp_path: Path) -> None:
    shard = tmp_path / "0.tar"
    with tarfile.open(shard, "w") as archive:
        archive.add(samples.paths[0], "a.jpg")
        linked = tarfile.TarInfo("b.jpg")
        linked.type, linked.linkname = tarfile.LNKTYPE, "a.jpg"
        archive.addfile(linked)
        archive.add(samples.paths[1], "c.jpg")
        archive.add(samples.paths[2], "c.jpg")
        data = b'{"person_id": 100000000000000000000}'
        said = tarfile.TarInfo("c.JSON")
        said.size = len(data)
        archive.addfile(said, io.BytesIO(data))
    (only,) = read_all(find_source([str(shard)], size=9))
    assert [Path(name).name for name in only.about.names] == ["a.jpg", "b.jpg", "c.jpg", "c.jpg"]
    reasons = [image.reason for image in only.about.unreadable]
    assert reasons[0] == "a link, or no file"
    assert "is not a whole number of 64 bits" in reasons[1]
    assert only.about.rows == (1, 2, 3)


def test_a_shard_written_anew_is_another_source(samples: Samples, tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", samples)
    before = find_source([str(tmp_path / "0.tar")], size=4).sha256
    assert find_source([str(tmp_path / "0.tar")], size=8).sha256 == before
    write_tar(tmp_path / "0.tar", samples.select(slice(1, 10)))
    assert find_source([str(tmp_path / "0.tar")], size=4).sha256 != before


def test_a_source_is_known_by_its_pictures_not_by_how_they_are_cut(samples: Samples) -> None:
    whole = cut_samples(samples, size=4)
    assert whole.sha256 == cut_samples(samples, size=3).sha256
    assert whole.sha256 != cut_samples(samples.select(slice(1, 10)), size=4).sha256
    others = Samples(samples.paths, samples.person_ids + 1, samples.camera_ids)
    assert whole.sha256 != cut_samples(others, size=4).sha256
