import json

from rich.console import Console

from molfldd.molecules.report import ParseReport, shortened

FIRST = ParseReport(10, 7, {"odd": 2, "empty": 1}, {"odd": [(3, "C1"), (5, "C2")]})
SECOND = ParseReport(4, 2, {"odd": 2}, {"odd": [(11, "C3"), (12, "C4")]})


def test_sums_keep_the_first_examples() -> None:
    both = FIRST + SECOND
    assert str(both) == "14 read, 9 kept, 5 skipped (4 odd, 1 empty)"
    assert both.examples["odd"] == [(3, "C1"), (5, "C2"), (11, "C3")]


def test_one_more_reason() -> None:
    report = FIRST.without("repeated", 2, [(7, "C"), (9, "C")])
    assert str(report) == "10 read, 5 kept, 5 skipped (2 odd, 2 repeated, 1 empty)"


def test_table_says_why_and_where() -> None:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(FIRST.table("my.smi", "line"))
    lines = [" ".join(line.split()) for line in captured.get().splitlines()]
    assert lines[0] == "my.smi: 10 read, 7 kept, 3 skipped"
    assert lines[2:] == ["2 odd line 3 C1, line 5 C2", "1 empty"]


def test_brackets_are_not_markup() -> None:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(ParseReport(1, 0, {"odd": 1}, {"odd": [(1, "[red]")]}).table("[b]x", "row"))
    assert "row 1 [red]" in captured.get()
    assert "[b]x" in captured.get()


def test_json_round_trip() -> None:
    again = ParseReport.from_json(json.loads(json.dumps(FIRST.to_json())))
    assert again.to_json() == FIRST.to_json()


def test_long_examples_are_cut() -> None:
    assert shortened("C" * 30) == "C" * 30
    assert shortened("C" * 31) == "C" * 27 + "..."
