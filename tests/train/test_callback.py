from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from easylearn.errors import ArgumentError
from easylearn.learning import Learner
from easylearn.train.callback import HOOKS, Callback, Hooks, call
from easylearn.train.state import Run


def test_the_order_of_hooks_in_a_fit(make_learner: Callable[..., Learner], at: Any, make_data: Any) -> None:
    seen: list[str] = []
    spy = at(**{name.removeprefix("on_"): lambda run, name=name: seen.append(name) for name in HOOKS})
    make_learner(data=make_data(n_train=8, batch_size=4)).fit(0.1, 2, callbacks=[spy])
    batch = ["on_batch_begin", "on_loss", "on_grads", "on_batch_end"]
    epoch = ["on_epoch_begin", *batch, *batch, "on_validate_begin", "on_validate_end", "on_epoch_end"]
    assert seen == ["on_fit_begin", *epoch, *epoch, "on_fit_end"]


def test_hooks_and_base_name_the_same() -> None:
    assert set(HOOKS) == {name for name in vars(Callback) if name.startswith("on_")}


@pytest.mark.parametrize(
    ("hook", "meant"),
    [("on_epoch_ended", "on_epoch_end"), ("on_batch_beginn", "on_batch_begin"), ("on_gradients", "on_grads")],
)
def test_a_misspelt_hook_is_refused(hook: str, meant: str) -> None:
    with pytest.raises(ArgumentError, match=rf"Wrong.{hook} is not a hook. Did you mean '{meant}'\?"):
        type("Wrong", (Callback,), {hook: lambda self, run: None})


def test_one_that_is_like_no_hook_shows_the_hooks() -> None:
    with pytest.raises(ArgumentError, match=r"Wrong.on_zzz is not a hook. Known: on_fit_begin, .*on_fit_end\.$"):
        type("Wrong", (Callback,), {"on_zzz": lambda self, run: None})


def test_a_misspelt_hook_of_a_mixin_is_refused_too() -> None:
    class Mixin:
        def on_epoch_finish(self, run: Run) -> None: ...

    with pytest.raises(ArgumentError, match="on_epoch_finish"):
        type("Wrong", (Mixin, Callback), {})


def test_hooks_that_nobody_overrides_are_not_called() -> None:
    class One(Callback):
        def on_batch_end(self, run: Run) -> None: ...

    class Two(One):
        def on_loss(self, run: Run) -> None: ...

    one, two = One(), Two()
    hooks = Hooks([one, two, Callback()])
    assert hooks.batch_end == (one.on_batch_end, two.on_batch_end)
    assert hooks.loss == (two.on_loss,)
    assert hooks.batch_begin == hooks.grads == hooks.epoch_end == ()


def test_a_hook_put_on_the_object_is_called() -> None:
    seen: list[Any] = []
    callback = Callback()
    callback.on_batch_end = seen.append  # type: ignore[method-assign]
    call(Hooks([callback]).batch_end, "run")  # type: ignore[arg-type]
    assert seen == ["run"]


def test_the_base_does_nothing_and_keeps_nothing() -> None:
    base = Callback()
    assert base.state_dict() == {}
    base.load_state_dict({})


@pytest.mark.parametrize("given", [[Callback], [lambda run: None], Callback()])
def test_what_is_no_callback_is_refused(make_learner: Callable[..., Learner], given: Any) -> None:
    learn = make_learner()
    with pytest.raises(ArgumentError, match="callbacks"):
        learn.fit(0.1, 1, callbacks=given)
    assert learn.epochs_done == 0


def test_a_list_of_callbacks_is_left_as_it_is(make_learner: Callable[..., Learner]) -> None:
    # The 2018 library extended it in place: the second fit then ran the first one's scheduler, too.
    mine: list[Callback] = [Callback()]
    learn = make_learner(callbacks=mine)
    learn.fit(0.1, 1, callbacks=mine)
    assert len(mine) == 1 and len(learn.callbacks) == 1
