"""What a comparison makes of its rounds: medians, ratios, lines, and the tables that show them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.figures import (
    FRAMES,
    OURS,
    PREPARED,
    RAW_ASGI,
    SSE_STARLETTE,
    Samples,
    describe_load_generator,
    list_rows,
    make_figures,
    make_markdown,
)
from benchmarks.report import describe_run, list_sentences, summarize_run, write_comparison
from tests.support.extras import need_bench_extra


@pytest.fixture
def samples() -> Samples:
    """Three rounds of flat-out streams; the machine was half as fast in the second one. And one of memory."""
    samples = Samples()
    for column, values in (
        (RAW_ASGI, (1000, 500, 1000)),
        (SSE_STARLETTE, (400, 200, 400)),
        (OURS, (600, 301, 590)),
        (PREPARED, (9000, 9000, 9000)),
    ):
        for number, value in enumerate(values, 1):
            samples.round_number = number
            samples.add(FRAMES, column, value)
    samples.add("flat_memory_mb", OURS, 162.4)
    return samples


def test_a_ratio_compares_what_was_measured_in_the_same_round(samples: Samples) -> None:
    """What slows the machine for a round slows both."""
    figures = {figure.spec.key: figure for figure in make_figures(samples)}
    assert figures["to_raw_asgi"].medians == {RAW_ASGI: 1.0, SSE_STARLETTE: 0.4, OURS: 0.6}
    assert figures["to_sse_starlette"].rounds[OURS] == pytest.approx([1.5, 1.505, 1.475])


def test_a_round_that_failed_is_left_out_of_the_ratios(samples: Samples) -> None:
    """The rounds after it are not compared with others than their own."""
    del samples.by_key[FRAMES][RAW_ASGI][2]
    (ratios,) = (figure.rounds for figure in make_figures(samples) if figure.spec.key == "to_raw_asgi")
    assert ratios[OURS] == pytest.approx([0.6, 0.59])
    samples.by_key[FRAMES].pop(RAW_ASGI)
    assert "to_raw_asgi" not in {figure.spec.key for figure in make_figures(samples)}


def test_figures_are_medians_beside_their_lines(samples: Samples) -> None:
    """A figure without a line is met and missed by nobody."""
    figures = make_figures(samples)
    assert {figure.spec.key: (figure.medians[OURS], figure.is_met) for figure in figures} == {
        FRAMES: (590, None),
        "to_raw_asgi": (0.6, True),
        "to_sse_starlette": (1.5, True),
        "flat_memory_mb": (162.4, False),
    }


def test_the_table_has_a_column_for_each_server_and_the_line(samples: Samples) -> None:
    """The prepared buffer is no server of use, and stands below the table."""
    assert list_rows(make_figures(samples)) == [
        ["figure", RAW_ASGI, SSE_STARLETTE, OURS, "line", ""],
        ["200 streams of 200 frames, flat out", "1,000/s", "400/s", "590/s", "", ""],
        ["flat out, ratio to raw ASGI", "1.00", "0.40", "0.60", "≥ 0.60", "met"],
        ["flat out, ratio to sse-starlette", "2.50", "1.00", "1.50", "≥ 1.30", "met"],
        ["flat out, peak memory", "", "", "162 MB", "≤ 110 MB", "missed"],
    ]
    assert describe_load_generator(samples) == (
        "The load generator takes 9,000 frames a second from a prepared buffer: 9.0 times what the fastest server "
        "sends (raw ASGI)."
    )


def test_this_server_alone_has_no_ratios() -> None:
    """`make bench` has no peers to compare with."""
    samples = Samples()
    samples.add(FRAMES, OURS, 16_800)
    assert [figure.spec.key for figure in make_figures(samples)] == [FRAMES]
    assert describe_load_generator(samples) is None


def test_what_was_missed_and_what_failed_is_said(samples: Samples) -> None:
    """Figures of a server that lost streams are worth nothing."""
    samples.failures.append("ours, whole: 199 of 200 streams")
    assert list_sentences(samples, make_figures(samples))[0] == "2 of 3 lines are met; missed: flat out, peak memory."
    assert list_sentences(samples, [])[-1] == "Not as it should be: ours, whole: 199 of 200 streams."


def test_a_run_names_its_versions() -> None:
    """Figures without them cannot be compared."""
    run = describe_run()
    assert isinstance(run["versions"], dict)
    assert {"uvicorn", "connexion", "zoochat"} <= set(run["versions"])
    assert "CPUs" in summarize_run(run)


def test_results_are_a_page_json_and_a_picture(samples: Samples, tmp_path: Path) -> None:
    """The page shows the table and the picture, the JSON has every round, and the picture is valid SVG."""
    need_bench_extra()
    page, content, picture = write_comparison(samples, describe_run(), tmp_path)
    assert make_markdown(list_rows(make_figures(samples))) in page.read_text(encoding="utf-8")
    assert f"]({picture.name})" in page.read_text(encoding="utf-8")
    (frames, *_) = json.loads(content.read_text(encoding="utf-8"))["figures"]
    assert frames["rounds"][OURS] == [600, 301, 590]
    root = ElementTree.parse(picture).getroot()  # noqa: S314  # our own file
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = " ".join("".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text"))
    assert "line ≤ 110 MB: missed" in texts
    assert OURS in texts


def test_the_same_figures_give_the_same_picture(samples: Samples, tmp_path: Path) -> None:
    """A run that changed nothing changes no file but the date's."""
    need_bench_extra()
    run = describe_run()
    pictures = [write_comparison(samples, run, tmp_path / name)[2].read_bytes() for name in ("a", "b")]
    assert pictures[0] == pictures[1]
