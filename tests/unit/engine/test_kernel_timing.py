import pytest

from glmserve.engine.kernel_timing import RowTiming, Trying, choose, of_whole_model, struck_off, typical


def timings(**gains: float) -> list[RowTiming]:
    return [RowTiming(int(rows[1:]), 1.0, gain) for rows, gain in gains.items()]


@pytest.mark.parametrize(
    ("gains", "repack"),
    [
        (timings(_1=1.0, _8=0.96, _32=0.7, _64=0.7), False),  # q4_k_m with AVX-512
        (timings(_1=1.0, _8=1.4, _32=1.5, _64=1.5), True),  # q4_0 there
        (timings(_1=1.0, _8=1.0, _32=0.96, _64=0.96), True),  # no reason to leave llama.cpp's default
        (timings(_1=2.0, _64=0.45), False),
        (timings(_1=2.0, _64=0.46), True),
    ],
)
def test_weights_are_repacked_where_that_is_faster_on_the_whole(gains: list[RowTiming], repack: bool) -> None:
    assert choose(gains).repack is repack


def test_the_output_matrix_of_the_small_model_counts_once() -> None:
    """On a CPU with AMX, it hid that the layers were 1.3 times as fast with repacked weights."""
    assert of_whole_model(0.010, 0.022, share=1 / 8) == pytest.approx(0.092)
    assert of_whole_model(0.010, 0.010, share=1 / 8) == pytest.approx(0.080)
    assert of_whole_model(0.010, 0.009, share=1.0) == 0.010, "noise takes no time away"


def test_a_noisy_moment_does_not_count() -> None:
    """On a CPU where repacked weights are 1.06 times as fast, one slow step made it 1.00 and chats a quarter slower."""
    quiet, noisy, lucky = RowTiming(128, 1.55, 1.50), RowTiming(128, 1.76, 1.50), RowTiming(128, 1.55, 1.46)
    assert typical([quiet, noisy, lucky]) == lucky
    assert typical([noisy]) == noisy


def test_the_choice_says_how_much_faster_it_is() -> None:
    assert choose(timings(_1=1.5, _8=1.5)).reason == "measured to be 1.50 times as fast as without"
    assert choose(timings(_1=0.5, _8=0.5)).reason == "measured to be 2.00 times as fast as repacked"


@pytest.mark.parametrize("repack", [True, False])
def test_the_way_that_ended_the_process_is_not_taken(repack: bool) -> None:
    choice = struck_off(Trying(repack), "was ended by SIGSEGV")
    assert choice.repack is not repack
    assert "SIGSEGV" in choice.reason
