from __future__ import annotations

import inspect

import numpy as np
import pytest

from easylearn import errors
from easylearn.errors import ArgumentError, check_number, check_whole, did_you_mean
from easylearn.options import strict


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ArgumentError, ValueError),
        (errors.DataError, ValueError),
        (errors.StateError, RuntimeError),
        (errors.WeightsError, RuntimeError),
        (errors.SaveError, OSError),
    ],
)
def test_each_error_is_ours_and_pythons(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, errors.EasyLearnError) and issubclass(error, builtin)
    with pytest.raises(builtin, match="what came"):
        raise error("what came")
    assert str(errors.SaveError(28, "no space")) == "no space"  # the message says it all, the number is in errno


def test_did_you_mean() -> None:
    assert did_you_mean("accurracy", ["accuracy", "rmse"]) == "Did you mean 'accuracy'?"
    assert did_you_mean("bs", ["size"]) == "Known: size."
    assert did_you_mean("x", [f"name{i:03}" for i in range(40)]).endswith("name029 and 10 more.")
    assert " or " in did_you_mean("resnet", ["resnet18", "resnet34"])


class TestStrict:
    class Learner:
        @strict({"wds": "wd", "cb": "Callbacks are given to the learner."})
        def fit(self, lr: float, wd: float = 0.0, *, clip: float | None = None) -> tuple[float, float]:
            """Train."""
            return lr, wd

    def test_a_good_call_passes(self) -> None:
        assert self.Learner().fit(0.1, wd=0.2, clip=None) == (0.1, 0.2)

    def test_the_function_keeps_its_face(self) -> None:
        fit = self.Learner.fit
        assert (fit.__name__, fit.__doc__) == ("fit", "Train.")
        assert list(inspect.signature(fit).parameters) == ["self", "lr", "wd", "clip"]

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("wds", "fit() has no argument 'wds'. It is called 'wd' here."),
            ("cb", "fit() has no argument 'cb'. Callbacks are given to the learner."),
            ("clp", "fit() has no argument 'clp'. Did you mean 'clip'?"),
            ("momentum", "fit() has no argument 'momentum'. Known: lr, wd, clip."),
        ],
    )
    def test_an_unknown_argument(self, name: str, message: str) -> None:
        with pytest.raises(errors.ArgumentError) as caught:
            self.Learner().fit(0.1, **{name: 1.0})
        assert str(caught.value) == message

    def test_calls_that_fit_no_signature_name_the_arguments(self) -> None:
        with pytest.raises(ArgumentError, match=r"fit\(\): missing a required argument: 'lr'.*\['lr', 'wd', 'clip'\]"):
            self.Learner().fit()  # type: ignore[call-arg]

    def test_a_type_error_inside_stays(self) -> None:
        @strict()
        def broken(x: int) -> int:
            raise TypeError("inside")

        with pytest.raises(TypeError, match="inside"):
            broken(1)


def test_a_whole_number_of_numpy_is_told_how_to_be_one() -> None:
    check_whole("trials", 3)
    with pytest.raises(ArgumentError, match=r"at least 1, got np\.int64\(3\): write int\(3\)$"):
        check_whole("trials", np.int64(3))
    with pytest.raises(ArgumentError, match=r"got np\.int64\(0\)$"):
        check_whole("trials", np.int64(0))
    with pytest.raises(ArgumentError, match="must be a number that is finite, got nan"):
        check_number("low", float("nan"))
