"""The progress line: what it says, and that logs stay clean."""

from refvit.progress import Progress, clock, track


def test_the_line_has_share_rate_and_time_left():
    bar = Progress("train", 1000, done=100)
    bar.advance(300)
    assert bar.line(seconds=10.0) == "train  400/1,000 images  30/s  0:20 left"
    assert clock(3599.6) == "1:00:00"


def test_nothing_is_drawn_where_there_is_no_terminal(capsys, monkeypatch):
    bar = Progress("x", 10)
    bar.live = False
    bar.began -= 100
    bar.advance(5)
    bar.close()
    assert capsys.readouterr().err == ""


def test_a_terminal_sees_a_line_that_is_wiped_at_the_end(capsys):
    bar = Progress("x", 10)
    bar.live = True
    bar.began -= 100
    bar.advance(5, "loss 1")
    bar.close()
    drawn = capsys.readouterr().err.split("\r")
    assert "5/10 images" in drawn[1]
    assert drawn[1].endswith("loss 1")
    assert drawn[-1] == ""
    assert drawn[-2].strip() == ""


def test_track_yields_everything_and_counts_the_last_batch_right():
    assert list(track([1, 2, 3], "x", total=5, size=2)) == [1, 2, 3]
