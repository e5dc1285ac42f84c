"""Train a model for Vaglio in Python, and take it home: see README.md beside this file.

    vaglio dataset --from 2025-06-01 --until 2026-06-01 --out requests.csv
    python train.py requests.csv features.yaml out/
    vaglio models import out/model.txt --features features.yaml --golden out/golden.csv --calibration out/scores.csv

The cells (# %%) run one by one in Jupyter or an editor.
"""

# %% What the catalogue says: names in the order of the vector, and the categories in the order of their codes.
import csv
import pathlib
import sys

import lightgbm
import numpy
import yaml

dataset, catalogue, out = map(pathlib.Path, sys.argv[1:4])
rows = yaml.safe_load(catalogue.read_text(encoding="utf-8"))["features"]
names = [row["name"] for row in rows]
codes = [{c: i for i, c in enumerate(row["categories"])} if "categorical" in row else None for row in rows]
categorical = [i for i, code in enumerate(codes) if code is not None]


# %% The requests whose label is settled, in order of time. Numbers are float64 all the way; a missing one is NaN, a
# category that the catalogue does not name is -1.
def value(text, code):
    if code is not None:
        return code.get(text, -1)
    return float(text) if text else float("nan")


x, y = [], []
with dataset.open(newline="", encoding="utf-8") as file:
    for row in csv.DictReader(file):
        if row["label"] != "":
            x.append([value(row[name], code) for name, code in zip(names, codes)])
            y.append(int(row["label"]))
x, y = numpy.array(x, dtype=numpy.float64), numpy.array(y)
cut = len(x) * 8 // 10  # the later fifth stops the training and calibrates
print(f"{len(x)} requests, {y.sum()} frauds, {len(names)} features")

# %% Train. Vaglio reads binary models of plain trees; deeper than 12 splits LightGBM's own contributions lose precision.
train = lightgbm.Dataset(x[:cut], y[:cut], feature_name=names, categorical_feature=categorical, free_raw_data=False)
later = train.create_valid(x[cut:], y[cut:])
params = {
    "objective": "binary", "metric": "average_precision", "learning_rate": 0.05, "num_leaves": 31, "max_depth": 8,
    "min_data_in_leaf": 20, "max_bin": 512, "feature_fraction": 0.8, "bagging_fraction": 0.9, "bagging_freq": 1, "lambda_l2": 5,
    "seed": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1,
}
booster = lightgbm.train(params, train, 500, valid_sets=[later], callbacks=[lightgbm.early_stopping(50, verbose=False)])
out.mkdir(parents=True, exist_ok=True)
booster.save_model(out / "model.txt", num_iteration=booster.best_iteration)
print(f"best round {booster.best_iteration}, average precision {booster.best_score['valid_0']['average_precision']:.4f}")

# %% What LightGBM itself answers, by the saved text: the gate that the import goes through. One row has nothing known.
saved = lightgbm.Booster(model_file=str(out / "model.txt"))
nothing = numpy.array([[-1.0 if code is not None else numpy.nan for code in codes]])
golden = numpy.vstack([x[numpy.linspace(0, len(x) - 1, 63).astype(int)], nothing])
raw = saved.predict(golden, raw_score=True)
contributions = saved.predict(golden, pred_contrib=True)  # the last column is the base


def text(v):
    return "" if numpy.isnan(v) else repr(float(v))  # 17 digits: every bit comes back


with (out / "golden.csv").open("w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow([*names, "raw", *(f"contribution:{name}" for name in names), "base"])
    for vector, score, explained in zip(golden, raw, contributions):
        table.writerow([text(v) for v in (*vector, score, *explained)])

# %% Scores that training has not seen, to calibrate on.
with (out / "scores.csv").open("w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["log_odds", "label"])
    for score, label in zip(saved.predict(x[cut:], raw_score=True), y[cut:]):
        table.writerow([text(score), int(label)])
