"""Notebooks of 2018 on tables, in cells of our own: what they import, the calls they make, the types they expect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

Run = Callable[..., dict[str, Any]]
pytestmark = pytest.mark.filterwarnings(
    "ignore::easylearn.EasyLearnWarning",
    "ignore::UserWarning:sklearn",
    "ignore:__array_wrap__ must accept",  # NumPy's, of np.exp of a torch tensor
)


@pytest.fixture(autouse=True)
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder: data/sales with days of shops, data/films with ratings and titles."""
    monkeypatch.chdir(tmp_path)
    g = np.random.default_rng(0)
    n, films = 300, 12
    sales = pd.DataFrame({"shop": g.integers(1, 5, n), "saledate": pd.date_range("2018-01-01", periods=n).astype(str)})
    sales["kind"] = g.choice(["large", "small", "tiny"], n)
    sales["gap"] = np.where(g.random(n) < 0.2, np.nan, g.random(n) * 100)
    sales["price"] = np.exp(4 + 0.2 * sales["shop"] + 0.1 * g.normal(size=n))
    ratings = pd.DataFrame({"userId": g.integers(1, 21, n), "movieId": g.integers(1, films + 1, n) * 7})
    ratings["rating"] = 1.0 + (ratings.userId % 2 + ratings.movieId // 7 % 4)
    movies = pd.DataFrame({"movieId": np.arange(1, films + 1) * 7, "title": [f"film {i}" for i in range(films)]})
    for folder, files in {"sales": {"train": sales}, "films": {"ratings": ratings, "movies": movies}}.items():
        (tmp_path / "data" / folder / "tmp").mkdir(parents=True)
        for name, frame in files.items():
            frame.to_csv(tmp_path / "data" / folder / f"{name}.csv", index=False)


READ = """
from easylearn.structured import *
from easylearn.column_data import *
PATH = 'data/sales/'
df_raw = pd.read_csv(f'{PATH}train.csv', low_memory=False); df_raw.price = np.log(df_raw.price)
add_datepart(df_raw, 'saledate', drop=False); df_raw['old'] = df_raw.saledate.dt.year - 2000; train_cats(df_raw)
"""


def test_a_network_on_a_table(run: Run) -> None:
    ns = run(
        READ,
        "cats = ['shop', 'kind', 'saleMonth', 'saleDayofweek']; conts = ['gap', 'old', 'saleElapsed']\n"
        "joined = df_raw[cats + conts + ['price', 'saledate']].copy(); test = joined[-40:].copy(); test['price'] = 0\n"
        "for v in cats: joined[v] = joined[v].astype('category').cat.as_ordered()\n"
        "apply_cats(test, joined)\n"
        "for v in conts:\n    joined[v] = joined[v].fillna(0).astype('float32')\n"
        "    test[v] = test[v].fillna(0).astype('float32')",
        "idxs = get_cv_idxs(len(joined), val_pct=150000/len(joined)); samp = joined.iloc[idxs].set_index('saledate')",
        "samp = joined.set_index('saledate'); df, y, nas, mapper = proc_df(samp, 'price', do_scale=True)",
        "test = test.set_index('saledate')\n"
        "df_test, _, nas, mapper = proc_df(test, 'price', do_scale=True, mapper=mapper, na_dict=nas)",
        "val_idx = np.flatnonzero((df.index <= datetime.datetime(2018, 10, 1)) & (df.index >= "
        "datetime.datetime(2018, 9, 1)))",
        "def exp_rmspe(y_pred, targ):\n"
        "    targ = np.exp(targ); return math.sqrt((((targ - np.exp(y_pred)) / targ) ** 2).mean())",
        "md = ColumnarModelData.from_data_frame(PATH, val_idx, df, y.astype(np.float32), cat_flds=cats, bs=64, "
        "test_df=df_test)",
        "cat_sz = [(c, len(samp[c].cat.categories) + 1) for c in cats]; emb_szs = [(c, min(50, (c + 1) // 2)) "
        "for _, c in cat_sz]",
        "m = md.get_learner(emb_szs, len(df.columns) - len(cats), 0.04, 1, [20, 10], [0.001, 0.01], "
        "y_range=(0, np.max(y) * 1.2)); m.progress = False; m.summary()",
        "m.lr_find(); m.sched.plot(100)",
        "m.fit(1e-2, 3, metrics=[exp_rmspe]); m.fit(1e-3, 2, metrics=[exp_rmspe], cycle_len=2)",
        "m.fit(1e-3, 1, 1e-7, cycle_len=1, cycle_mult=2); m.save('val0'); m.load('val0')",
        "x, y_val = m.predict_with_targs(); error = exp_rmspe(x, y_val); pred_test = np.exp(m.predict(True))",
        "test['price'] = pred_test; csv_fn = f'{PATH}tmp/sub.csv'; test[['price']].to_csv(csv_fn, index=False)",
        "from sklearn.ensemble import RandomForestRegressor\n"
        "((val, trn), (y_val2, y_trn)) = split_by_idx(val_idx, df.values, y)\n"
        "rf = RandomForestRegressor(n_estimators=5, n_jobs=1).fit(trn, y_trn); exp_rmspe(rf.predict(val), y_val2)",
    )
    assert ns["x"].shape == ns["y_val"].shape == (31, 1) and isinstance(ns["x"], np.ndarray)
    assert np.allclose(ns["y_val"].ravel(), ns["y"][ns["val_idx"]], atol=1e-5) and len(ns["val"]) == 31
    assert ns["pred_test"].shape == (40, 1) and ns["error"] < 0.5 and len(ns["idxs"]) == 300
    assert len(ns["md"].val_dl.dataset) == 31 and ns["m"].data.val_y.shape == (31, 1)


def test_a_forest_on_a_table(run: Run) -> None:
    ns = run(
        READ,
        "from sklearn.ensemble import RandomForestRegressor\n"
        "os.makedirs('tmp', exist_ok=True); df, y, nas = proc_df(df_raw.drop('saledate', axis=1), 'price')",
        "def split_vals(a, n): return a[:n].copy(), a[n:].copy()\n"
        "X_train, X_valid = split_vals(df, 200); y_train, y_valid = split_vals(y, 200)",
        "set_rf_samples(50); m = RandomForestRegressor(20, n_jobs=1, oob_score=True).fit(X_train, y_train)",
        "reset_rf_samples(); preds = np.stack(parallel_trees(m, lambda t: t.predict(X_valid.values)))",
        "fi = rf_feat_importance(m, df); to_keep = fi[fi.imp > 0.005].cols; fi.plot('cols', 'imp', 'barh')",
        "set_plot_sizes(12, 14, 16); draw_tree(m.estimators_[0], df, precision=3); plt.rcdefaults()",
        "df2, y2, nas = proc_df(df_raw.drop('saledate', axis=1), 'price', max_n_cat=7, subset=100, na_dict=nas)",
        "x = get_sample(df_raw[df_raw.saleMonth > 1], 50); numeric = [n for n in df if is_numeric_dtype(df[n])]",
    )
    assert ns["preds"].shape == (20, 100) and ns["fi"]["cols"].iloc[0] == "shop" and len(ns["df2"]) == 100
    assert {"gap_na", "saleWeek", "saleElapsed"} <= {*ns["df"].columns} and len(ns["numeric"]) == len(ns["df"].columns)
    assert {"kind_large", "kind_nan"} <= {*ns["df2"].columns} and len(ns["x"]) == 50


def test_ratings(run: Run) -> None:
    ns = run(
        "from easylearn.learner import *\nfrom easylearn.column_data import *\npath = 'data/films/'",
        "ratings = pd.read_csv(path + 'ratings.csv'); movies = pd.read_csv(path + 'movies.csv')",
        "wd = 2e-4; n_factors = 4",
        "val_idxs = get_cv_idxs(len(ratings)); cf = CollabFilterDataset.from_csv(path, 'ratings.csv', 'userId', "
        "'movieId', 'rating')",
        "learn = cf.get_learner(n_factors, val_idxs, 64, opt_fn=optim.Adam); learn.progress = False",
        "learn.fit(1e-2, 2, wds=wd, cycle_len=1, cycle_mult=2); preds = learn.predict(); y = learn.data.val_y",
        "movie_names = movies.set_index('movieId')['title'].to_dict()\n"
        "top = ratings.movieId.value_counts().index.values",
        "topMovieIdx = np.array([cf.item2idx[o] for o in top]); m = learn.model",
        "movie_bias = to_np(m.ib(V(topMovieIdx))); movie_emb = to_np(m.i(V(topMovieIdx)))",
        "worst = sorted([(b[0], movie_names[i]) for i, b in zip(top, movie_bias)], key=itemgetter(0))[:3]",
        "a = T([[1., 2], [3, 4]]); b = T([[2., 2], [10, 10]]); dot = (a * b).sum(1)",
        "u_uniq = ratings.userId.unique(); user2idx = {o: i for i, o in enumerate(u_uniq)}\n"
        "ratings.userId = ratings.userId.apply(lambda x: user2idx[x]); ratings.movieId = ratings.movieId // 7 - 1",
        "class Dot(nn.Module):\n"
        "    def __init__(self, n_users, n_movies):\n"
        "        super().__init__()\n"
        "        (self.u, self.m, self.ub) = [get_emb(*o) for o in [(n_users, n_factors), (n_movies, n_factors), "
        "(n_users, 1)]]\n"
        "    def forward(self, cats, conts):\n"
        "        users, movies = cats[:, 0], cats[:, 1]\n"
        "        res = (self.u(users) * self.m(movies)).sum(1) + self.ub(users).squeeze()\n"
        "        return (F.sigmoid(res) * 4 + 1).view(-1, 1)",
        "x = ratings.drop(['rating'], axis=1); y2 = ratings['rating'].astype(np.float32)\n"
        "data = ColumnarModelData.from_data_frame(path, val_idxs, x, y2, ['userId', 'movieId'], 64)",
        "model = Dot(cf.n_users, cf.n_items)\n"
        "opt = optim.SGD(model.parameters(), 1e-1, weight_decay=1e-5, momentum=0.9)",
        "first = fit(model, data, 3, opt, F.mse_loss); set_lrs(opt, 0.01)",
        "second = fit(model, data, 1, opt, F.mse_loss)",
        "again = fit(cf.get_model(3), cf.get_data(val_idxs, 64), 1, optim.Adam(model.parameters()), F.mse_loss)",
    )
    assert ns["preds"].shape == ns["y"].shape == (60,) and ns["movie_bias"].shape == (12, 1)
    assert ns["movie_emb"].shape == (12, 4) and ns["worst"][0][0] <= ns["worst"][1][0]
    assert ns["dot"].tolist() == [6, 70] and ns["opt"].param_groups[0]["lr"] == 0.01 and len(ns["second"]) == 1


def test_loops_of_ones_own(run: Run) -> None:
    ns = run(
        "from easylearn.learner import *\nfrom easylearn.column_data import *",
        "x, y = np.random.uniform(0, 1, 100), np.random.uniform(0, 1, 100); x, y = V(x), V(y)",
        "a = V(np.random.randn(1), requires_grad=True); b = V(np.random.randn(1), requires_grad=True)",
        "for t in range(3):\n"
        "    loss = ((a * x + b - y) ** 2).mean(); loss.backward()\n"
        "    a.data -= 1e-2 * a.grad.data; b.data -= 1e-2 * b.grad.data; a.grad.data.zero_(); b.grad.data.zero_()",
        "idx = [int(c) for c in '0123456789' * 40]; cs = 3",
        "xs = np.stack([[idx[i + j] for i in range(cs)] for j in range(len(idx) - cs)]); ys = np.stack(idx[cs:])",
        "md = ColumnarModelData.from_arrays('.', get_cv_idxs(len(xs) - 1), xs, ys, bs=64)",
        "class Chars(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.e, self.l, self.o = nn.Embedding(10, 8), nn.Linear(8, 16), nn.Linear(16, 10)\n"
        "    def forward(self, *cs):\n"
        "        h = V(torch.zeros(cs[0].size(0), 16))\n"
        "        for c in cs: h = F.tanh(F.relu(self.l(self.e(c))) + h)\n"
        "        return F.log_softmax(self.o(h), dim=-1)",
        "m = Chars(); it = iter(md.trn_dl); *xb, yb = next(it); t = m(*V(xb)); opt = optim.Adam(m.parameters(), 1e-2)",
        "first = fit(m, md, 9, opt, F.nll_loss)[0]; set_lrs(opt, 5e-3); last = fit(m, md, 6, opt, F.nll_loss)[0]",
        "p = m(*VV(T(np.array([[3], [4], [5]])))); guess = np.argmax(to_np(p))",
        "lo = LayerOptimizer(optim.Adam, m, 1e-2, 1e-5); ends = []; os.makedirs('models')",
        "def on_end(sched, cycle): save_model(m, f'models/cyc_{cycle}'); ends.append(cycle)",
        "cb = [CosAnneal(lo, len(md.trn_dl), cycle_mult=2, on_cycle_end=on_end)]\n"
        "fit(m, md, 2**2 - 1, lo.opt, F.nll_loss, callbacks=cb)",
        "load_model(m, 'models/cyc_0'); preds = predict(m, md.val_dl)",
        "seq = ColumnarModelData.from_arrays('.', [-1], xs, xs, bs=32); whole = next(iter(seq.trn_dl))[-1]",
    )
    assert ns["t"].shape == (64, 10) and len(ns["it"]) == 5 and ns["last"] < ns["first"] and ns["guess"] == 6
    assert ns["ends"] == [0, 1] and ns["preds"].shape == (79, 10) and ns["whole"].shape == (32, 3)
    assert torch.is_tensor(ns["loss"])
