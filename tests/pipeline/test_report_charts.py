"""The report's charts are well-formed SVG that draw what they are given."""

import xml.etree.ElementTree as ET

from pipeline.report import charts


def _elements(svg: str, name: str) -> list[ET.Element]:
    return [e for e in ET.fromstring(svg).iter() if e.tag.rpartition("}")[2] == name]


def test_bars_are_as_high_as_their_counts():
    rects = _elements(charts.bars(["2", "4", "8"], [5, 10, 0], axis="N"), "rect")
    heights = [float(rect.get("height", "")) for rect in rects]
    assert heights[0] * 2 == heights[1]
    assert heights[2] == 0


def test_many_bars_have_few_labels():
    svg = charts.bars([str(i) for i in range(40)], [1] * 40, axis="tau")
    assert len(_elements(svg, "rect")) == 40
    assert len(_elements(svg, "text")) <= 10


def test_text_is_escaped():
    svg = charts.bars(["<script>"], [1], axis='"a" & b')
    assert "<script>" not in svg
    assert ET.fromstring(svg).get("aria-label") == '"a" & b'


def test_empty_charts_say_so():
    for svg in (charts.bars([], [], axis="x"), charts.distributions([0, 1], [0], [0], axis="x")):
        assert "nothing to show" in [text.text for text in _elements(svg, "text")]


def test_distributions_cut_empty_ends_and_share_one_scale():
    svg = charts.distributions(list(range(11)), [0] * 4 + [4, 0] + [0] * 4, [0] * 4 + [2, 2] + [0] * 4, axis="x")
    ticks = [text.text for text in _elements(svg, "text") if text.get("class") == "tick"]
    assert ticks == ["3", "4", "5", "6", "7"]
    after = next(path for path in _elements(svg, "path") if path.get("class") == "after")
    heights = {float(pair.split()[1]) for pair in after.get("d", "")[1:].split("L")}
    top, floor = charts.TOP, charts.HEIGHT - charts.BOTTOM
    assert heights == {float(floor), (top + floor) / 2}  # half as high as the 4 of `before`
