"""What a page draws from: values, hits, ranks and texts, as they are in the runs."""

import numpy as np

from seedcli.evaluation.metrics import Values
from seedcli.evaluation.page.contents import LONGEST, SCALE, contents, cut, extremes


def test_values_are_whole_numbers_of_the_scale(pages):
    made = pages()
    values = np.array(made.held["values"])
    assert (values == np.rint(made.values.values * SCALE)).all()
    assert made.held["values"][0][0][:2] == [200_000, 500_000]
    nothing = Values(["a"], ["judged@10"], ["q"], np.array([[[np.nan]]]), [0])
    assert contents(nothing, None, None, 10)["values"] == [[[None]]]


def test_hits_and_ranks_are_those_of_the_runs(pages):
    made = pages()
    names = made.held["documents"]
    for name, hits, ranks in zip(made.values.names, made.held["hits"], made.held["ranks"], strict=True):
        for number, query in enumerate(made.values.queries):
            ids = [document.decode() for document in made.found.runs[name].ranking(query)[0].tolist()]
            assert [names[hit >> 1] for hit in hits[number]] == ids[:3]
            right = f"d{number}<i>"
            assert [hit & 1 for hit in hits[number]] == [int(id_ == right) for id_ in ids[:3]]
            assert names[made.held["relevant"][number]] == right
            assert ranks[number] == (ids.index(right) + 1 if right in ids else 0)


def test_those_that_differ_most_have_texts_and_others_have_none(pages):
    made = pages(cases=2)
    numbered = {name: number for number, name in enumerate(made.held["documents"])}
    # The second run gains .5 on queries 1 and 2 and loses .2 on queries 0 and 4: each the first among equals.
    assert extremes(np.array(made.held["values"], float), 2) == [0, 1, 2, 4]
    there = {made.held["documents"][number] for number in made.held["passages"]}
    assert {"d0<i>", "d1<i>", "d2<i>", "d4<i>", "x0&0", "x2&4"} <= there
    assert not any(name.endswith(("&3", "&5")) or name in {"d3<i>", "d5<i>"} for name in there)
    assert made.held["passages"][numbered["d1<i>"]][0] == "title of d1<i>"
    assert pages(cases=0).held["passages"] == {}


def test_many_pairs_share_the_room_for_texts():
    scaled = np.random.default_rng(0).integers(0, SCALE, (12, 5, 3_000)).astype(float)
    assert len(extremes(scaled, 10)) <= 2 * 66 * 5
    assert len(extremes(scaled[:2, :1], 10)) == 20
    assert extremes(np.array([[[3.0, 1, 2]]]), 2) == [1, 2]  # one run alone: its lowest


def test_long_texts_are_cut():
    assert cut("a" * LONGEST) == "a" * LONGEST
    assert cut("a" * (LONGEST + 1)) == "a" * LONGEST + " …"
    assert cut("a\x1eb") == "a [SEP] b"
