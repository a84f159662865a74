"""Every metric on predictions whose right score is known: attacks, degenerate groups, agreement with other code."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

from perturbench.analysis import collapse_diagnostics
from perturbench.analysis.metrics.rank_sum import rank_sum
from perturbench.analysis.metrics.registry import available_metrics, profiles, resolve_metrics
from perturbench.analysis.profiles import Prediction, Reference
from perturbench.data.groups import Groups, Keys
from perturbench.data.sources.simulation import simulate
from perturbench.errors import PerturbenchError
from perturbench.preprocessing.preparation import prepare

KEYS = Keys()
ALL = [metric.name for metric in resolve_metrics("all")]


@pytest.fixture(scope="module")
def cells():
    raw = simulate(n_cells=1500, n_genes=80, n_states=2, n_singles=6, n_doubles=2, effect_size=1.5, seed=3)
    return prepare(raw, KEYS)


@pytest.fixture(scope="module")
def reference(cells):
    return Reference(cells, KEYS)


def values_of(prediction, reference, name):
    return np.asarray(available_metrics()[name].function(reference, prediction), dtype=float)


def predicted(cells, reference, change=lambda x, obs: x):
    """Predict the observed perturbed cells, changed."""
    perturbed = cells[cells.obs["condition"] != "control"].copy()
    perturbed.X = np.asarray(change(perturbed.X.toarray(), perturbed.obs), dtype=np.float32)
    return Prediction.from_adata(perturbed, reference, "attack", negative="clip")


def means_of(reference, means):
    return Prediction("attack", reference, means, negative="clip")


def test_every_profile_resolves():
    assert set(profiles()) == {"default", "paper", "all"}
    for name in profiles():
        assert resolve_metrics(name)


@pytest.mark.parametrize("name", ALL)
def test_the_truth_itself_is_best(cells, reference, name):
    found = values_of(predicted(cells, reference), reference, name)
    best = {"rmse", "mse", "mae", "wmse", "matrix", "rank"}
    if "_rank_" in name or name.split("_")[0] in best:
        assert found == pytest.approx(np.zeros_like(found), abs=1e-6)
    elif name.startswith(("energy", "mmd")):
        assert (found < 0.05).all(), "unbiased: the distance of a sample to itself is not above 0"
    else:
        defined = found[~np.isnan(found)]
        assert len(defined)
        assert defined == pytest.approx(np.ones_like(defined), abs=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_cells_and_genes_and_the_format_do_not_matter(cells, reference, name):
    def noisy(x, obs):
        return np.abs(x + np.random.default_rng(0).normal(0, 0.4, x.shape))

    first = predicted(cells, reference, noisy)
    perturbed = cells[cells.obs["condition"] != "control"].copy()
    perturbed.X = np.asarray(noisy(perturbed.X.toarray(), None), dtype=np.float32)
    rng = np.random.default_rng(1)
    other = perturbed[rng.permutation(perturbed.n_obs), rng.permutation(perturbed.n_vars)].copy()
    other.X = sp.csr_matrix(other.X)
    shuffled = Reference(cells[rng.permutation(cells.n_obs)].copy(), KEYS)
    second = Prediction.from_adata(other, shuffled, "attack")
    assert values_of(second, shuffled, name) == pytest.approx(values_of(first, reference, name), abs=2e-5, nan_ok=True)


def test_scaled_effects_keep_the_direction_and_lose_the_fit(cells, reference):
    twice = means_of(reference, np.maximum(2 * reference.means - reference.control_means, 0))
    assert (values_of(twice, reference, "rmse_average") > 0.02).all()
    assert (values_of(twice, reference, "pearson_delta") > 0.95).all()
    assert (values_of(twice, reference, "r2_weighted") < 0.9).all()


def test_scaled_cells_do_not_look_perfect_to_scaled(cells, reference):
    """The published code z-scores a prediction with its own mean and sd: twice too large looked perfect."""
    assert (values_of(predicted(cells, reference, lambda x, obs: 2 * x), reference, "rmse_scaled") > 0.1).all()


def test_spiked_target_genes_do_not_help_discrimination(cells, reference):
    genes = list(reference.genes)
    keys = Keys()
    observed = cells.copy()
    observed.obs["condition"] = observed.obs["condition"].astype(str).replace({f"P{i}": genes[i] for i in range(1, 7)})
    observed = observed[~observed.obs["condition"].str.contains("+", regex=False)].copy()
    named = Reference(observed, keys)
    spiked = named.control_means.copy()
    for row, (_, condition) in enumerate(named.pairs):
        spiked[row, genes.index(condition)] += 5
    honest = means_of(named, named.control_means.copy())
    for norm in ("l1", "l2", "cosine"):
        spikes, null = (values_of(p, named, f"pds_{norm}") for p in (means_of(named, spiked), honest))
        assert spikes.mean() <= null.mean() + 0.25, norm
    assert (values_of(means_of(named, spiked), named, "rmse_average") > 0.4).all()


def test_a_few_placed_cells_do_not_win_a_distance_between_distributions(cells, reference):
    """One cell has no within-term, and two opposite ones a huge one: unbiased estimates are only so for samples."""
    means = ad.AnnData(reference.means.astype(np.float32), var=pd.DataFrame(index=reference.genes))
    means.obs["condition"] = [condition for _, condition in reference.pairs]
    means.obs["cell_type"] = [state[0] for state, _ in reference.pairs]
    pseudobulk = Prediction.from_adata(means, reference, "means")
    far = np.random.default_rng(0).normal(size=reference.means.shape[1]) * 50
    two = ad.concat([means, means], index_unique="-")
    two.X = np.concatenate([means.X + far, means.X - far])
    for prediction in (pseudobulk, Prediction.from_adata(two, reference, "two")):
        for name in ("energy_pca", "mmd_pca", "rmse_var"):
            values = values_of(prediction, reference, name)
            assert np.isnan(values).all() or (name == "rmse_var" and (values > 1).all()), name


@pytest.mark.parametrize("norm", ["l1", "l2", "cosine"])
def test_a_constant_prediction_does_not_discriminate_by_the_targets_of_others(norm):
    """Every knock-down lowers its own target: leaving out only that of one's own would give it away."""
    rng = np.random.default_rng(0)
    genes = [f"g{i}" for i in range(60)]
    base = rng.uniform(1.5, 3, 60)
    rows, labels = [], []
    for name in ["control"] * 2 + genes[:8]:
        change = rng.normal(0, 0.05, 60)
        if name != "control":
            change[genes.index(name)] -= 1
        rows += [base + change + rng.normal(0, 0.01, 60) for _ in range(5)]
        labels += [name] * 5
    observed = ad.AnnData(np.array(rows, np.float32), var=pd.DataFrame(index=genes))
    observed.obs["condition"] = labels
    reference = Reference(observed, Keys("condition", ()))
    for constant in (reference.control_means[0], reference.means.mean(axis=0)):
        prediction = means_of(reference, np.tile(constant, (8, 1)))
        assert values_of(prediction, reference, f"pds_{norm}").mean() == pytest.approx(0.5, abs=0.01)
    truth = means_of(reference, reference.means.copy())
    assert values_of(truth, reference, f"pds_{norm}").tolist() == [1.0] * 8


def test_rounding_does_not_rank(reference):
    """A collapsed model whose predictions differ by what float32 arithmetic leaves."""
    rng = np.random.default_rng(0)
    mean = reference.means.mean(axis=0)
    noisy = np.tile(mean, (len(reference.pairs), 1)) * (1 + 6e-8 * rng.normal(size=reference.means.shape))
    for name in ("rmse_rank_average", "cosine_rank_logfc", "pearson_rank_average", "mae_rank_average"):
        assert set(values_of(means_of(reference, noisy), reference, name)) == {0.5}, name


def test_predicting_nothing_recalls_nothing(cells, reference):
    """All scores are tied at 0; which genes come first in the file must not matter."""
    controls = cells[cells.obs["condition"] == "control"]
    parts = []
    for state, condition in reference.pairs:
        part = controls[controls.obs["cell_type"] == state[0]].copy()
        part.obs["condition"] = condition
        parts.append(part)
    nothing = Prediction.from_adata(ad.concat(parts, index_unique="-"), reference, "nothing")
    recall = values_of(nothing, reference, "top_k_recall_scores")
    assert recall.tolist() == [0.0] * len(recall)


def test_a_negative_reference_is_refused_where_a_logarithm_is_taken(cells):
    shifted = cells.copy()
    shifted.X = shifted.X.toarray() - 1.5
    reference = Reference(shifted, KEYS)
    with pytest.raises(PerturbenchError, match=r"the reference has negative means in .* genes"):
        values_of(means_of(reference, reference.means), reference, "cosine_logfc")


@pytest.mark.parametrize("kind", ["constant", "controls", "mean"])
def test_a_collapsed_prediction_has_rank_one_half(cells, reference, kind):
    """Constant output, own controls and the test mean: one prediction for every perturbation of a state."""
    state_mean = np.stack([reference.means[reference.state_of_pair == s].mean(axis=0) for s in reference.state_of_pair])
    means = {"constant": np.full_like(reference.means, 0.7), "controls": reference.control_means, "mean": state_mean}
    collapsed = means_of(reference, means[kind].copy())
    for name in ("rmse", "cosine", "pearson", "mae"):
        for aggregation in ("average", "logfc"):
            ranks = values_of(collapsed, reference, f"{name}_rank_{aggregation}")
            assert ranks.tolist() == [0.5] * len(ranks), (name, aggregation)
    transposed = values_of(collapsed, reference, "rmse_rank_transposed_average")
    assert transposed.mean() == pytest.approx(0.5), "every observation is as near to it as to its twins'"
    assert values_of(collapsed, reference, "pds_l2").mean() == pytest.approx(0.5, abs=0.1)
    diagnostics = collapse_diagnostics(reference, collapsed)
    assert diagnostics.rank == 0.5
    assert diagnostics.matrix_distance > 1
    assert diagnostics.matrix_distance_per_pair == pytest.approx(diagnostics.matrix_distance / len(reference.pairs))
    if kind != "controls":
        assert diagnostics.mean_similarity_predicted > diagnostics.mean_similarity_observed


def test_what_only_the_mean_knows_is_worth_nothing(cells, reference):
    centre = np.stack([reference.means[reference.state_of_pair == s].mean(axis=0) for s in reference.state_of_pair])
    mean = means_of(reference, centre)
    assert values_of(mean, reference, "pearson_delta_mean").tolist() == [0.0] * len(reference.pairs)
    assert values_of(mean, reference, "r2_weighted") == pytest.approx(np.zeros(len(reference.pairs)), abs=1e-9)
    shifted = means_of(reference, centre + 0.01 * np.random.default_rng(0).normal(size=centre.shape[1]))
    assert abs(values_of(shifted, reference, "pearson_delta_mean").mean()) < 0.2
    assert values_of(mean, reference, "pearson_delta").mean() > 0.1, "against controls it looks as if it knew something"


def test_no_effect_is_undefined_for_directions(reference):
    nothing = means_of(reference, reference.control_means.copy())
    for name in ("cosine_logfc", "pearson_logfc", "pearson_delta"):
        assert np.isnan(values_of(nothing, reference, name)).all(), name


@pytest.mark.parametrize("name", ["top_k_recall_scores", "de_overlap", "de_auprc", "energy_pca", "rmse_scaled", "var"])
def test_means_alone_do_not_do_for_metrics_of_cells(reference, name):
    from perturbench.analysis.evaluation import score

    metric = available_metrics()["rmse_var" if name == "var" else name]
    with pytest.raises(PerturbenchError, match="need the cells of 'attack', only means are known"):
        score(means_of(reference, reference.means), reference, [metric])


def test_rank_sum_is_scanpys(cells, reference):
    tested = rank_sum(reference, reference)
    row = reference.pairs.index((("state1",), "P1"))
    state = cells[(cells.obs["cell_type"] == "state1") & cells.obs["condition"].isin(["control", "P1"])].copy()
    state.obs["condition"] = state.obs["condition"].astype(str).astype("category")
    state.uns["log1p"] = {"base": None}
    sc.tl.rank_genes_groups(state, "condition", reference="control", method="wilcoxon", tie_correct=True)
    theirs = sc.get.rank_genes_groups_df(state, "P1").set_index("names").loc[reference.genes]
    assert tested.scores[row] == pytest.approx(theirs["scores"].to_numpy(), abs=1e-5)
    assert tested.pvalues[row] == pytest.approx(theirs["pvals"].to_numpy(), rel=1e-5)
    assert (tested.significant[row] == (theirs["pvals_adj"] < 0.05).to_numpy()).all()


def test_state_with_one_perturbation_and_a_group_with_one_cell(cells):
    keep = (cells.obs["cell_type"] == "state1") | cells.obs["condition"].isin(["control", "P1"])
    few = cells[keep].copy()
    lone = np.flatnonzero((few.obs["condition"] == "P2") & (few.obs["cell_type"] == "state1"))[1:]
    few = few[np.setdiff1d(np.arange(few.n_obs), lone)].copy()
    reference = Reference(few, KEYS)
    truth = predicted(few, reference)
    alone = reference.pairs.index((("state2",), "P1"))
    single = reference.pairs.index((("state1",), "P2"))
    for name in ("rmse_rank_average", "pds_l2", "pearson_delta_mean"):
        found = values_of(truth, reference, name)
        assert np.isnan(found[alone]), name
        assert not np.isnan(found[single]), name
    for name in ("cosine_scores", "top_k_recall_scores", "de_auprc", "wmse"):
        found = values_of(truth, reference, name)
        assert np.isnan(found[single]), f"{name}: a test needs two cells"
        assert not np.isnan(found[alone]), name
    for name in ("rmse_average", "rmse_scaled"):
        assert np.isfinite(values_of(truth, reference, name)).all(), name
    for name in ("energy_pca", "mmd_pca", "rmse_var"):
        assert np.isnan(values_of(truth, reference, name)).nonzero()[0].tolist() == [single], name


def test_missing_pair_is_undefined_everywhere(cells, reference):
    perturbed = cells[~cells.obs["condition"].isin(["control", "P3"])].copy()
    part = Prediction.from_adata(perturbed, reference, "part", missing="report")
    gone = np.array([condition == "P3" for _, condition in reference.pairs])
    for name in ALL:
        found = values_of(part, reference, name)
        if found.ndim:
            assert np.isnan(found[gone]).all(), name
            assert np.isfinite(found[~gone]).any(), name


def test_distances_between_distributions_see_spread(cells, reference):
    """The right means with too little spread: no error of means, but another distribution."""

    def shrink(x, obs):
        codes = Groups.from_obs(obs, KEYS).pair_codes(reference.pairs)
        return reference.means[codes] + 0.2 * (x - reference.means[codes])

    narrow, truth = predicted(cells, reference, shrink), predicted(cells, reference)
    assert values_of(narrow, reference, "rmse_average") == pytest.approx(np.zeros(len(reference.pairs)), abs=1e-6)
    for name in ("energy_pca", "mmd_pca"):
        assert (values_of(narrow, reference, name) > values_of(truth, reference, name) + 0.01).all(), name


def test_energy_is_its_definition(cells, reference):
    noisy = predicted(cells, reference, lambda x, obs: x + 0.5)
    row = 0
    x = cells.X[np.flatnonzero(Groups.from_obs(cells.obs, KEYS).pair_codes(reference.pairs) == row)].toarray()
    y = x + 0.5  # all components are kept, so distances are those of the genes

    def mean_distance(a, b):
        return np.linalg.norm(a[:, None] - b[None], axis=2)

    n = len(x)
    within = mean_distance(x, x).sum() / (n * (n - 1))
    assert values_of(noisy, reference, "energy_pca")[row] == pytest.approx(
        2 * mean_distance(x, y).mean() - 2 * within, abs=1e-3
    )


def test_logfc_exp_by_hand(reference):
    half = means_of(reference, reference.means / 2)
    from perturbench.analysis.metrics.aggregations import logfc_exp

    expected = np.log2((np.expm1(reference.means[0] / 2) + 0.1) / (np.expm1(reference.control_means[0]) + 0.1))
    assert logfc_exp(half, reference)[0] == pytest.approx(expected)


def test_duplicated_genes_are_refused(cells, reference):
    twice = cells[:, [*range(cells.n_vars), 0]].copy()
    with pytest.raises(PerturbenchError, match="'m' has gene names that occur more than once"):
        Prediction.from_adata(twice, reference, "m")
    with pytest.raises(PerturbenchError, match="the reference has gene names that occur more than once"):
        Reference(twice, KEYS)


@pytest.mark.shared
@pytest.mark.parametrize("case", ["cov1", "nocov"])
def test_agreement_with_the_published_code(shared, case):
    """Every row where the published code is right, to 1e-5; its README lists where it is wrong and degenerate."""
    folder = shared / "oracle"
    table = pd.read_parquet(folder / "evals.parquet").query("case == @case")
    ranks = pd.read_parquet(folder / "ranks.parquet").query("case == @case")
    covariates = ("cell_type",) if case == "cov1" else ()
    reference = Reference(ad.read_h5ad(folder / f"inputs/{case}/ref.h5ad"), Keys("condition", covariates))
    # The published names are <state>_<perturbation>, without sorting A+B.
    names = {}
    for row, ((*state, condition),) in enumerate(((*s, c),) for s, c in reference.pairs):
        names["_".join([*state, "+".join(sorted(condition.split("+")))])] = row
    comparable = {
        "average": {"half", "shuffled", "ctrl_mean", "ctrl_noise", "ctrl_minus", "pert_mean", "missing", "perfect"},
        "logfc": {"half", "shuffled", "pert_mean", "missing", "perfect"},
        "scaled": {"perfect"},
        "var": {"half", "shuffled", "missing", "perfect"},
    }
    compared = 0
    for model in table["model"].unique():
        cells = ad.read_h5ad(folder / f"inputs/{case}/pred_{model}.h5ad")
        prediction = Prediction.from_adata(cells, reference, model, negative="clip", missing="report")
        for (aggregation, metric), own in table[table["model"] == model].groupby(["aggregation", "metric"]):
            if model not in comparable.get(aggregation, ()) or metric == "r2_score":
                continue  # r2_score there has its arguments exchanged
            mine = values_of(prediction, reference, f"{metric}_{aggregation}")
            index = [names[_sorted(name, case)] for name in own["cov_pert"]]
            theirs = own["value"].to_numpy()
            defined = ~np.isnan(mine[index])
            assert defined.mean() > 0.9
            assert mine[index][defined] == pytest.approx(theirs[defined], rel=1e-5, abs=4e-6), (
                model,
                aggregation,
                metric,
            )
            compared += int(defined.sum())
            counts = ranks.query("model == @model and aggregation == @aggregation and metric == @metric")
            ours = values_of(prediction, reference, f"{metric}_rank_{aggregation}")
            where = [names[_sorted(name, case)] for name in counts["cov_pert"]]
            n = np.maximum(counts["n"].to_numpy() - 1, 1)
            known = ~np.isnan(ours[where])
            low, high = counts["n_strictly_better"].to_numpy() / n, counts["n_better_or_tied"].to_numpy() / n
            assert (ours[where] >= low - 1e-9)[known].all(), (model, aggregation, metric)
            assert (ours[where] <= high + 1e-9)[known].all(), (model, aggregation, metric)
    assert compared > 1000


@pytest.mark.shared
def test_where_the_published_code_is_wrong(shared):
    """Its numbers come out when its mistakes are made; ours are right instead."""
    folder = shared / "oracle"
    table = pd.read_parquet(folder / "evals.parquet").query("case == 'nocov'")
    reference = Reference(ad.read_h5ad(folder / "inputs/nocov/ref.h5ad"), Keys("condition", ()))
    order = {"+".join(sorted(name.split("+"))): row for row, (_, name) in enumerate(reference.pairs)}

    def theirs(model, aggregation, metric):
        own = table.query("model == @model and aggregation == @aggregation and metric == @metric")
        rows = [order[_sorted(name, "nocov")] for name in own["cov_pert"]]
        return own["value"].to_numpy()[np.argsort(rows)]

    half = Prediction.from_adata(ad.read_h5ad(folder / "inputs/nocov/pred_half.h5ad"), reference, "half")
    # r2_score: predicted and observed exchanged.
    r2 = available_metrics()["r2_score_average"].function.args[0].rows
    exchanged = r2(half.means, reference.means)
    assert exchanged == pytest.approx(theirs("half", "average", "r2_score"), rel=1e-4, abs=1e-5)
    right = values_of(half, reference, "r2_score_average")
    assert not np.allclose(right, exchanged)
    residual = ((reference.means - half.means) ** 2).sum(axis=1)
    total = ((reference.means - reference.means.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    assert right == pytest.approx(1 - residual / total)

    # logfc: a prediction's own controls. Both sides must use the observed ones, or a prediction can choose its zero.
    own_controls = ad.read_h5ad(folder / "inputs/nocov/pred_half_ownctrl.h5ad")
    prediction = Prediction.from_adata(own_controls, reference, "half_ownctrl")
    mean_control = own_controls[own_controls.obs["condition"] == "control"].X.toarray().mean(axis=0)
    from perturbench.analysis.metrics.comparisons import cosine

    fold = np.log2(prediction.means + 0.1) - np.log2(mean_control + 0.1)
    observed = np.log2(reference.means + 0.1) - np.log2(reference.control_means + 0.1)
    published = theirs("half_ownctrl", "logfc", "cosine")
    assert cosine(observed, fold) == pytest.approx(published, abs=1e-4)
    assert values_of(prediction, reference, "cosine_logfc") == pytest.approx(values_of(half, reference, "cosine_logfc"))
    assert values_of(prediction, reference, "cosine_logfc").mean() > published.mean() + 0.2

    # ranks: divided by n and tied at random; ours are divided by n - 1 and a tie counts one half.
    collapsed = Prediction("c", reference, np.tile(reference.means.mean(axis=0), (len(reference.pairs), 1)))
    assert set(values_of(collapsed, reference, "rmse_rank_average")) == {0.5}


def test_group_names_may_hold_the_separators_of_other_code(cells):
    """The published code splits group names at an underscore; names with it collide there."""
    other = cells.copy()
    other.obs["condition"] = other.obs["condition"].astype(str).str.replace("P1", "state1_P 1 \u00e9")
    named, plain = Reference(other, KEYS), Reference(cells, KEYS)
    noisy = predicted(other, named, lambda x, obs: x * 0.8)
    expected = predicted(cells, plain, lambda x, obs: x * 0.8)
    for name in ("rmse_average", "rmse_rank_average"):
        assert np.sort(values_of(noisy, named, name)) == pytest.approx(np.sort(values_of(expected, plain, name)))


@pytest.mark.parametrize("n_rows", [1, 7, 100000])
def test_the_size_of_blocks_does_not_matter(cells, monkeypatch, n_rows):
    from perturbench.data import group_sums as aggregation

    monkeypatch.setattr(aggregation.blocks, "__defaults__", (n_rows,))
    few = cells[:300].copy()
    small = Reference(few, KEYS)
    monkeypatch.setattr(aggregation.blocks, "__defaults__", (8192,))
    whole = Reference(few, KEYS)
    assert small.means == pytest.approx(whole.means, abs=1e-12)
    assert small.moments.squares == pytest.approx(whole.moments.squares, abs=1e-9)


def _sorted(name, case):
    if case == "nocov":
        return "+".join(sorted(name.split("+")))
    state, _, condition = name.partition("_")
    return f"{state}_{'+'.join(sorted(condition.split('+')))}"
