"""What is said of a fit while it runs."""

from lwflow._progress import Lines


def test_lines_are_one_per_stage_and_none_for_a_round_that_is_over(capsys):
    lines = Lines()
    for stage, number, more in [
        ("prior", 0, {}),
        ("training", 1, {"beta": 0.25}),
        ("training", 1, {"beta": 0.25}),
        ("likelihood", 1, {}),
        ("round", 1, {"beta": 0.25}),
        ("training", 2, {"beta": 1.0}),
    ]:
        lines({"stage": stage, "round": number, "done": 1, "total": 2, **more})
    lines.close()
    assert capsys.readouterr().err.splitlines() == [
        "lwflow: prior",
        "lwflow: round 1: training (beta 0.250)",
        "lwflow: round 1: likelihood",
        "lwflow: round 2: training (beta 1.000)",
    ]
