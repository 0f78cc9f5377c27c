"""2018's `fastai.models`: nets that its notebooks import."""
