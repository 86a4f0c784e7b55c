"""What a report says, part by part."""

from resrep_keras.costs.comparison import Conditions
from resrep_keras.deploy.by_layer import LayerRow
from resrep_keras.deploy.reported import Report, Row
from resrep_keras.deploy.sections import MOST_EPOCHS, number, sections_of
from resrep_keras.methods.certificate import Certificate
from resrep_keras.methods.pruning_log import Norms, PruningLog

TITLES = [
    "Summary",
    "Certificate",
    "Layers",
    "Channels that remember and forget",
    "Quality and cost over the run",
    "Several runs",
    "The dense model and its channel groups",
    "Conditions",
]


def parts(rows=(), **values):
    found = sections_of(Report(tuple(rows), {}, Conditions(), **values))
    assert [section.title for section in found] == TITLES
    return {section.title: section for section in found}


def test_the_summary_comes_first_and_says_it_in_words():
    rows = [
        Row("MACs", "", 2000, 500),
        Row("TFLite latency", "ms", None, None, "no sizes."),
        Row("accuracy", "", 0.9, 0.88, is_quality=True),
    ]
    found = parts(rows)["Summary"]
    assert found.words == (
        "The slim model has 25.0 % of the MACs.",
        "On the test data: accuracy 0.88 (dense 0.9).",
        "TFLite latency are unknown: no sizes.",
    )
    assert found.rows == (
        ("MACs", "2,000", "500", "0.250"),
        ("TFLite latency (ms)", "unknown", "unknown", "-"),
        ("accuracy", "0.9", "0.88", "0.978"),
    )


def test_what_is_not_there_is_told_and_not_drawn():
    found = parts()
    for title in TITLES[1:-1]:
        section = found[title]
        assert section.words[0].startswith(("Not recorded", "Not measured", "None were given"))
        assert not section.rows and section.figure is None and section.picture is None
    assert found["Summary"].words == ("Quality: not measured; give test_data, to compiled models.",)


def test_layers_with_and_without_latency():
    rows = (LayerRow("a", "Conv2D", (8, 4), (100, 50)), LayerRow("b", "Dense", (2, 2), (16, None)))
    found = parts(layers=rows)["Layers"]
    assert len(found.header) == 7 and "not measured" in found.words[1]
    assert found.rows[0] == ("a", "8", "4", "0.500", "100", "50", "0.500")
    assert found.rows[1][-3:] == ("16", "-", "-")
    timed = LayerRow("a", "Conv2D", (8, 4), (100, 50), (2.0, 1.0))
    found = parts(layers=(timed, rows[1]))["Layers"]
    assert found.rows[0][-3:] == ("2", "1", "0.500") and found.rows[1][-3:] == ("-", "-", "-")


def test_a_run_is_a_table_of_some_rows():
    log = PruningLog()
    for epoch in range(1, 101):
        norms = Norms((1.0,) * 5, (0.5,) * 5, 6, 2, 0)
        values = {"loss": 1 / epoch, **({"val_loss": 2.0} if epoch % 2 else {})}
        log.add(10 * epoch, epoch, values, norms)
    found = parts(log=log)
    channels, quality = found[TITLES[3]], found[TITLES[4]]
    assert len(channels.rows) == len(quality.rows) == MOST_EPOCHS
    assert channels.rows[0] == ("10", "6", "2", "0", "1", "0.5")
    assert quality.header == ("epoch", "loss", "val_loss")
    assert quality.rows[0] == (1, "1", "2") and quality.rows[-1] == (100, "0.01", "-")


def test_the_certificate_in_words():
    certificate = Certificate(1e-7, 2e-7, 200, 50, 0.25)
    found = parts(certificate=certificate)["Certificate"]
    assert found.words == tuple(str(certificate).splitlines())
    same = parts([Row("MACs", "", 200, 50)], certificate=certificate)["Certificate"]
    assert same.words == found.words
    other = parts([Row("MACs", "", 400, 50)], certificate=certificate)["Certificate"]
    assert other.words[-1].endswith("which is not this dense model: it has 200 MACs.")


def test_numbers_as_they_are_read():
    assert [number(v) for v in (None, 12345, 1234.5, 0.123456, -0.5, 0)] == [
        "unknown",
        "12,345",
        "1,234",
        "0.1235",
        "-0.5",
        "0",
    ]
