"""The leaderboard's file of MIND, by hand: ranks in the order shown, whether clicks are known or not."""

from pathlib import Path
from zipfile import ZipFile

import pytest

from seedcli.base.errors import ConfigError

NEWS = "".join(f"N{row}\tnews\tworld\tTitle {row}\t\thttps://a\t[]\t[]\n" for row in range(1, 5))
CLICKS = "7\tU1\t11/12/2019\tN1\tN2-0 N1-1 N3-0\n3\tU2\t11/12/2019\t\tN4-1 N2-0\n5\tU3\t11/12/2019\tN1\tN3-1\n"
RUN = "3 Q0 N2 1 0.5 t\n7 Q0 N3 1 2.5 t\n7 Q0 N9 2 2.25 t\n7 Q0 N2 3 2 t\n"


@pytest.fixture(params=["clicks", "test split"])
def mind(request, tmp_path) -> Path:
    lines = CLICKS.replace("-0", "").replace("-1", "") if request.param == "test split" else CLICKS
    folder = tmp_path / "mind"
    folder.mkdir()
    (folder / "news.tsv").write_text(NEWS)
    (folder / "behaviors.tsv").write_text(lines)
    (tmp_path / "run.trec").write_text(RUN)
    return folder


def test_ranks_stand_in_the_order_of_the_impressions_and_of_what_they_showed(mind, tmp_path, perform):
    """What the run lacks comes last, as shown; news that weren't shown take no rank."""
    perform("search", index=[str(tmp_path / "run.trec")], predictions=mind, out=tmp_path / "found")
    expected = "7 [2,3,1]\n3 [2,1]\n5 [1]\n"
    assert (tmp_path / "found" / "prediction.txt").read_text() == expected
    with ZipFile(tmp_path / "found" / "prediction.zip") as packed:
        assert packed.namelist() == ["prediction.txt"]
        assert packed.read("prediction.txt").decode() == expected


def test_predictions_are_the_same_bytes_each_time(mind, tmp_path, perform):
    made = [
        perform("search", index=[str(tmp_path / "run.trec")], predictions=mind, out=tmp_path / name) for name in "ab"
    ]
    assert made[0].outputs == made[1].outputs


def test_predictions_are_of_a_folder_of_mind(tmp_path, perform, mind):
    with pytest.raises(ConfigError, match=r"news.tsv: shows no impressions; give a folder of MIND, with behaviors.tsv"):
        perform("search", index=[str(tmp_path / "run.trec")], predictions=mind / "news.tsv", out=tmp_path / "found")
