"""The grammar of edit specs: round trip, canonical text, and errors that name the bad token."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memsplit.errors import UserError
from memsplit.model_edits import registry, target_names
from memsplit.model_edits.spec import EditSpec, number, parse, parse_chain
from memsplit.tests.support.edit_cases import all_specs

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
values = st.from_regex(r"[a-z0-9][a-z0-9.+-]{0,8}", fullmatch=True)
percents = st.one_of(st.none(), st.integers(0, 100).map(float), st.decimals(0, 100, places=3).map(float))
options = st.dictionaries(names, values, max_size=4).map(lambda d: tuple(sorted(d.items())))
dials = st.one_of(st.just(0.0), st.decimals(0, 4, places=2).map(float))


@given(names, percents, options, dials)
def test_canonical_text_parses_to_the_same_spec(
    name: str, percent: float | None, options: tuple[tuple[str, str], ...], dial: float
) -> None:
    spec = EditSpec(name=name, percent=percent, options=options, dial=dial)
    assert parse(str(spec)) == spec
    assert str(parse(str(spec))) == str(spec)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (50.0, "50"),
        (99.5, "99.5"),
        (-0.0, "0"),
        (1e-11, "0.00000000001"),
        (2e-11, "0.00000000002"),
        (1e20, "1" + "0" * 20),
    ],
)
def test_a_number_has_one_text_that_reads_back(value: float, text: str) -> None:
    assert number(value) == text
    assert float(text) == value


KNOWN = registry.edit_names()
plain_values = st.from_regex(r"[a-z0-9]{1,4}(\+[0-9a-z]{1,3})?", fullmatch=True)
plain_options = st.dictionaries(
    names, plain_values.filter(lambda text: text.partition("+")[2] not in KNOWN), max_size=2
)
steps = st.builds(
    lambda name, percent, options, dial: EditSpec(
        name=name, percent=percent, options=tuple(sorted(options.items())), dial=dial
    ),
    names,
    st.integers(0, 100).map(float),
    plain_options,
    dials,
)


@given(st.lists(steps, min_size=1, max_size=3))
def test_chains_parse_to_their_steps(chain: list[EditSpec]) -> None:
    assert parse_chain("+".join(map(str, chain)), KNOWN) == tuple(chain)


def some_edits() -> list[registry.Edit]:
    """Every edit that needs no file, also with matrices of its own and a dial, and the default attacks."""
    found = [registry.build(parse(text)) for text in (*all_specs(), *registry.DEFAULT_ATTACKS)]
    targeted = [edit for edit in found if edit.targeted]
    return [
        *found,
        *(dataclasses.replace(edit, layers=(0, 2, 3), proj=("gate", "up")) for edit in targeted),
        *(dataclasses.replace(edit, proj=("up",), dial=0.5) for edit in targeted),
    ]


@given(st.lists(st.sampled_from(some_edits()), min_size=1, max_size=4))
def test_the_canonical_text_of_a_chain_is_the_same_chain(chain: list[registry.Edit]) -> None:
    """Whatever stands before or after: an attack has often neither a percent nor a key that would tell where it begins."""
    text = registry.chain_text(chain)
    assert [registry.build(step) for step in parse_chain(text, KNOWN)] == chain


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("kfac-80+svd-90", ["kfac", "svd"]),
        ("kfac-80:proj=gate+up+svd-90", ["kfac", "svd"]),
        ("kfac:layers=0+2-3@0.5+none", ["kfac", "none"]),
        ("random:match=kfac-80+wanda:proj=up", ["random", "wanda"]),
        ("random:match=kfac-80+noise:match=svd-50+quantize", ["random", "noise", "quantize"]),
        ("kfac-80:proj=up+relearn", ["kfac", "relearn"]),
        ("kfac-80:proj=gate+up+relearn+quantize", ["kfac", "relearn", "quantize"]),
        ("svd-9:layers=0+2+noise@0.5+none", ["svd", "noise", "none"]),
        ("svd-9:layers=0+-1,proj=*.fc1+mlp+h.0.*+noise", ["svd", "noise"]),
        ("none+relearn:on=clean+noise", ["none", "relearn", "noise"]),
        ("kfac:proj=up+kfc-80", ["kfac", "kfc"]),
        ("checkpoint:path=/a+b-1/c", ["checkpoint"]),
        ("checkpoint:path=/a+none-1/c", ["checkpoint"]),
        ("checkpoint:path=/a+relearned", ["checkpoint"]),
        ("checkpoint:path=/a+other", ["checkpoint"]),
        ("checkpoint:path=/a+noise", ["checkpoint", "noise"]),
    ],
)
def test_a_plus_in_a_value_is_no_step(text: str, names: list[str]) -> None:
    assert [spec.name for spec in parse_chain(text, KNOWN)] == names


def test_a_bad_chain_is_quoted_whole() -> None:
    with pytest.raises(UserError, match=r"bad edit 'kfac-80\+\+svd-90': '' found"):
        parse_chain("kfac-80++svd-90", KNOWN)


@given(st.text(max_size=30))
def test_any_text_is_a_spec_or_a_user_error(text: str) -> None:
    try:
        spec = parse(text)
    except UserError as error:
        assert "\n" not in str(error) or "\n" in repr(text)
    else:
        assert parse(str(spec)) == spec


@given(st.sets(st.integers(-20, 40), min_size=1))
def test_layers_round_trip(layers: set[int]) -> None:
    assert target_names.parse_layers(target_names.format_layers(layers)) == tuple(sorted(layers))


@given(st.sets(st.integers(-9, 8), min_size=1), st.integers(9, 12))
def test_negative_layers_are_those_of_a_list(layers: set[int], n_layers: int) -> None:
    expected = {list(range(n_layers))[layer] for layer in layers}
    assert target_names.resolve_layers(layers, n_layers) == tuple(sorted(expected))


@given(st.lists(st.sampled_from((*target_names.ROLES, *target_names.SETS, "*.fc1", "mlp.2", "h.[01].*")), min_size=1))
def test_projections_have_one_order(items: list[str]) -> None:
    parsed = target_names.parse_proj("+".join(items))
    assert set(parsed) == set(items)
    assert target_names.parse_proj("+".join(sorted(items))) == target_names.parse_proj("+".join(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("kfac-50.0", "kfac-50"),
        ("kfac-80:proj=up+gate,layers=3+1-2@0.50", "kfac-80:layers=1-3,proj=gate+up@0.5"),
        ("kfac-50:labels=sampled", "kfac-50"),
        ("kfac-50:label_seed=0", "kfac-50"),
        ("kfac-50:draws=4,label_seed=3", "kfac-50:draws=4,label_seed=3"),
        ("kfac-50@0", "kfac-50"),
        ("kfac-50:proj=all", "kfac-50:proj=gate+up+down"),
        ("kfac-50:proj=attn+up+mlp,layers=all", "kfac-50:layers=all,proj=up+mlp+attn"),
        ("kfac-50:layers=-1+-3--2+0", "kfac-50:layers=-3--1+0"),
        ("kfac-50:proj=*.fc2+shared_up+*.fc1+*.fc1", "kfac-50:proj=shared_up+*.fc1+*.fc2"),
        ("random-50:match=kfac-50", "random:match=kfac-50"),
        ("noise:size=0.2,match=kfac-50.0", "noise:match=kfac-50"),
        ("quantize:bits=4", "quantize"),
        ("relearn:lr=0.0003,on=clean,steps=20", "relearn:on=clean"),
    ],
)
def test_equal_edits_have_one_text(text: str, canonical: str) -> None:
    assert str(registry.build(parse(text)).spec) == canonical


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kfc-50", ["unknown edit 'kfc'", "did you mean 'kfac'"]),
        ("kfac-abc", ["'abc' found", "percent from 0 to 100"]),
        ("kfac-101", ["'101' found", "percent from 0 to 100"]),
        ("kfac-50:laers=2", ["unknown key 'laers'", "did you mean 'layers'"]),
        ("kfac-５０", ["'５０' found"]),
        ("kfac-50@9999999", ["'9999999' found", "dial"]),
        ("kfac-50:layers=0-999999999", ["'0-999999999' found"]),
        ("random-50:seed=1_0", ["'1_0' found"]),
        ("KFAC-50", ["'KFAC' found"]),
        ("kfac-50:layers=x", ["bad layers 'x'"]),
        ("kfac-50:layers=3-1", ["'3-1' found"]),
        ("kfac-50:layers=-1-2", ["'-1-2' found", "-1 for the last"]),
        ("kfac-50:layers=all+2", ["'all' found"]),
        ("kfac-50:proj=fc1", ["unknown projection 'fc1'", "a glob of module names", "shared_up"]),
        ("kfac-50:proj=a/*", ["unknown projection 'a/*'"]),
        ("kfac-50:proj=gat", ["unknown projection 'gat'", "did you mean 'gate'"]),
        ("kfac-50:draws=0", ["draws=0", "expected draws above 0"]),
        ("kfac-50:draws=x", ["'x' found, expected draws=int"]),
        ("ekfac-50:label_seed=-1", ["'-1' found, expected label_seed=int"]),
        ("random-50:labels=gold,label_seed=2", ["label_seed=2", "labels=gold draws nothing"]),
        ("kfac-50:draws=2,labels=gold", ["labels=gold draws nothing"]),
        ("kfac-50:labels=god", ["unknown labels 'god'", "did you mean 'gold'"]),
        ("kfac-50:", ["key=value"]),
        ("kfac-50:layers=1,layers=2", ["stands twice"]),
        ("kfac-50@x", ["'x' found", "dial"]),
        ("none-50", ["takes no percent"]),
        ("kfac", ["a percent expected"]),
        ("random", ["a percent expected"]),
        ("random-50:seed=x", ["'x' found", "seed=int"]),
        ("random:match=random-50", ["bad match 'random-50'"]),
        ("noise:match=kfac", ["bad match 'kfac'", "NAME-PERCENT of another edit"]),
        ("noise:match=bsn-50", ["bad match 'bsn-50'", "one matrix at a time"]),
        ("noise:match=quantize-50", ["bad match 'quantize-50'", "takes no percent"]),
        ("noise:size=-1", ["a size of 0 or more"]),
        ("noise:size=nan", ["a size of 0 or more"]),
        ("noise:size=inf", ["a size of 0 or more"]),
        ("quantize:bits=1", ["1 found", "bits from 2 to 8"]),
        ("quantize:bits=9", ["9 found", "bits from 2 to 8"]),
        ("quantize-4", ["takes no percent"]),
        ("relearn:layers=2", ["unknown key 'layers'"]),
        ("relearn:on=test", ["unknown on 'test'", "passages"]),
        ("relearn:batch=0", ["a batch above 0"]),
        ("relearn:lr=0", ["an lr above 0"]),
        ("relearn:lr=nan", ["an lr above 0"]),
        ("", ["a method's name"]),
    ],
)
def test_errors_name_the_bad_token(text: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        registry.build(parse(text))
    for word in words:
        assert word in str(caught.value)


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="registered already"):
        registry.register_edit("kfac")(type("Other", (registry.Edit,), {}))
