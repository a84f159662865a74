import numpy as np
import pandas as pd
import pytest

from perturbench.data.encoding import make_context
from perturbench.data.groups import Groups, Keys
from perturbench.data.queries import make_template, query_pairs, read_table
from perturbench.errors import PerturbenchError

# A is in both states, B and the double only in s1; s3 has no controls.
ROWS = [
    ("control", "s1"),
    ("control", "s2"),
    ("A", "s1"),
    ("A", "s2"),
    ("B", "s1"),
    ("A+B", "s1"),
    ("A", "s3"),
    ("Z", "s1"),
]
KEYS = Keys()


def cells(rows=ROWS, keys=KEYS):
    """Return the groups of the cells, and the context of a model that was trained without Z."""
    import anndata as ad

    obs = pd.DataFrame(rows, columns=["condition", "cell_type"], index=[f"c{i}" for i in range(len(rows))])
    adata = ad.AnnData(np.ones((len(obs), 2), np.float32), obs=obs)
    groups = Groups.from_obs(obs, keys)
    return groups, make_context(adata, groups, np.flatnonzero(obs["condition"] != "Z"))


def table(*rows):
    return pd.DataFrame(rows, columns=["condition", "cell_type"])


def check(queries, **options):
    groups, context = cells(**options)
    return query_pairs(queries, context, groups, np.arange(len(groups.state_codes)))


def test_pairs_keep_the_order_of_the_table_and_get_canonical_names():
    queries = table(("B+A", "s2"), ("B", "s2"), ("A", "s1"), ("control", "s1"))
    pairs = [(("s2",), "A+B"), (("s2",), "B"), (("s1",), "A"), (("s1",), "control")]
    assert check(queries) == pairs
    assert check(queries[["cell_type", "condition"]]) == pairs


def test_all_problems_are_named_at_once():
    singles = [f"no{i}" for i in range(12)]
    queries = table(*((name, "s1") for name in singles), ("A+Z", "s2"), ("A", "s8"), ("A", "s9"), ("A", "s3"))
    queries = pd.concat([queries, table(("A+B", "s1"), ("B+A", "s1"), ("B", "s1"), ("B", "s1"), ("A++B", "s2"))])
    with pytest.raises(PerturbenchError) as error:
        check(queries)
    message = str(error.value)
    assert f"unknown perturbations: '', Z, {', '.join(sorted(singles))} (the model was trained on 2: A, B)" in message
    assert "unknown values of covariate 'cell_type': s8, s9 (the model knows: s1, s2, s3)" in message
    assert (
        "states without control cells, which predictions start from: (s3) (states with control cells: (s1), (s2))"
        in message
    )
    assert "queried more than once: A+B in (s1), B in (s1)" in message


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (pd.DataFrame(), "columns are missing: condition, cell_type"),
        (
            pd.DataFrame({"condition": ["A"], "celltype": ["s1"]}),
            "missing: cell_type; .* unknown to the model: celltype",
        ),
        (table(), "it has no rows"),
        (
            table(("A", ""), (None, "s1"), ("B", " ")),
            "'condition' is empty in rows 2 .*'cell_type' is empty in rows 1, 3",
        ),
    ],
)
def test_unusable_table_names_the_required_columns(queries, message):
    with pytest.raises(PerturbenchError, match=message + ".*exactly the columns condition, cell_type"):
        check(queries)


def test_without_covariates_or_combinations():
    keys = Keys(covariates=(), delimiter=None)
    assert check(pd.DataFrame({"condition": ["A+B", "A"]}), keys=keys) == [((), "A+B"), ((), "A")]
    with pytest.raises(PerturbenchError, match=r"unknown perturbations: B\+A"):
        check(pd.DataFrame({"condition": ["B+A"]}), keys=keys)


def test_numbers_match_the_text_in_obs():
    rows = [(name, 2 if state == "s1" else 10) for name, state in ROWS]
    assert check(pd.DataFrame({"condition": ["B"], "cell_type": [10]}), rows=rows) == [(("10",), "B")]


@pytest.mark.parametrize(
    ("which", "pairs"),
    [
        ("all", ["A s1", "A+B s1", "B s1", "A s2", "A+B s2", "B s2"]),
        ("unobserved", ["A+B s2", "B s2"]),
        ("doubles", ["A+B s2"]),
    ],
)
def test_template_lists_possible_queries(which, pairs):
    groups, context = cells()
    rows = np.arange(len(ROWS))
    template = make_template(groups, context, rows, which)
    assert [" ".join(row) for row in template.itertuples(index=False)] == pairs
    assert len(query_pairs(template, context, groups, rows)) == len(pairs)


def test_empty_template_names_the_other_templates():
    groups, context = cells(keys=Keys(delimiter=None))
    with pytest.raises(PerturbenchError, match=r"'doubles' would be empty.*Choose another template: all, unobserved"):
        make_template(groups, context, np.arange(len(ROWS)), "doubles")


@pytest.mark.parametrize("name", ["queries.csv", "queries.parquet"])
def test_tables_are_read_as_text(tmp_path, name):
    queries = table(("NA", "02"), ("a,b", "s1"))
    path = tmp_path / name
    queries.to_csv(path, index=False, encoding="utf-8-sig") if name.endswith("csv") else queries.to_parquet(path)
    pd.testing.assert_frame_equal(read_table(path), queries)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"condition,cell_type\nA,B,s1\nB,A,s1\n", "more values than columns"),
        ("x.csv", b"condition,cell_type\nA,s1\nB,A,s1\n", "cannot be read as a .csv table"),
        ("x.csv", b"\xff\xfe\x00", "cannot be read as a .csv table"),
        ("x.parquet", b"condition", "cannot be read as a .parquet table"),
        ("x.xlsx", b"", r"unknown suffix of a table '.xlsx'; choose one of: .csv, .parquet"),
    ],
)
def test_unreadable_table_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PerturbenchError, match=message):
        read_table(tmp_path / name)


def test_empty_file_has_no_columns(tmp_path):
    (tmp_path / "x.csv").touch()
    assert read_table(tmp_path / "x.csv").shape == (0, 0)
