"""Who may register an edit under which name, and how edits are found."""

import importlib
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from memsplit.errors import UserError
from memsplit.model_edits import registry
from memsplit.model_edits.registry import Edit, register_edit
from memsplit.model_edits.spec import parse, parse_chain


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_EDITS", dict(registry.edits()))


def edit(module: str, qualname: str) -> type[Edit]:
    return type(qualname, (registry.find_edit("none"),), {"__module__": module, "summary": qualname})


def test_a_notebooks_edit_is_replaced_when_its_cell_runs_again() -> None:
    for qualname in ("Mine", "Mine", "Renamed"):
        register_edit("mine")(edit("__main__", qualname))
    assert registry.find_edit("mine").__qualname__ == "Renamed"
    assert "mine" in registry.edit_names()
    assert registry.build(parse("mine")).summary == "Renamed"


def test_a_reloaded_modules_edit_is_replaced_and_another_class_is_not() -> None:
    register_edit("mine")(edit("study.edits", "Mine"))
    again = register_edit("mine")(edit("study.edits", "Mine"))
    assert registry.find_edit("mine") is again
    with pytest.raises(ValueError, match=r"'mine' is registered already, by study\.edits:Mine"):
        register_edit("mine")(edit("study.edits", "Other"))


@pytest.mark.parametrize("module", ["__main__", "study.edits"])
def test_nobody_takes_the_name_of_a_built_in_edit(module: str) -> None:
    """Not even before the built-in edit was imported."""
    code = (
        "from memsplit.model_edits import registry\n"
        "class Mine(registry.Edit): pass\n"
        f"Mine.__module__ = {module!r}\n"
        "try: registry.register_edit('svd')(Mine)\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "edit 'svd' is registered already, by memsplit.model_edits.methods.svd\n"


@pytest.mark.parametrize("name", ["up", "all", "attn", "shared_up"])
def test_no_edit_has_the_name_of_a_projection(name: str) -> None:
    """``kfac-80:proj=gate+up`` would be a chain."""
    with pytest.raises(ValueError, match=f"edit '{name}' has the name of a projection"):
        register_edit(name)(edit("__main__", "Mine"))


def test_a_chain_is_a_control_unless_only_its_attack_is_one() -> None:
    controls = {
        *("noise", "none+noise", "random-50", "random-50+relearn", "noise+relearn", "random-50+noise"),
        "random:match=kfac-80+magnitude-90",
    }
    for text in (*controls, "kfac-80", "kfac-80+noise", "finetune+noise+noise", "relearn", "none", "none+none"):
        chain = [registry.build(step) for step in parse_chain(text, registry.edit_names())]
        assert registry.is_control(chain) == (text in controls), text


@pytest.mark.parametrize("text", registry.DEFAULT_ATTACKS)
def test_the_default_attacks_are_attacks(text: str) -> None:
    assert registry.build(parse(text)).attack


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> EntryPoint:
    """An installed package's edit, exported by another module than that which defines it."""
    entry = EntryPoint("theirs", "memsplit.tests.model_edits.test_registry:Theirs", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "_entry_points", lambda: EntryPoints([entry]))
    monkeypatch.setattr(
        importlib.import_module(__name__), "Theirs", edit("memsplit.tests.inner", "Theirs"), raising=False
    )
    monkeypatch.setitem(sys.modules, "memsplit.tests.model_edits.test_registry", sys.modules[__name__])
    return entry


@pytest.mark.usefixtures("package")
def test_an_installed_packages_edit_is_found_and_its_name_is_taken() -> None:
    assert "theirs" in registry.edit_names()
    assert registry.find_edit("theirs") is registry.find_edit("theirs")
    assert registry.find_edit("theirs").name == "theirs"
    with pytest.raises(ValueError, match=r"'theirs' is registered already, by memsplit\.tests\.model_edits"):
        register_edit("theirs")(edit("__main__", "Mine"))


def test_a_package_cannot_take_the_name_of_a_built_in_edit(
    monkeypatch: pytest.MonkeyPatch, package: EntryPoint
) -> None:
    entry = EntryPoint("kfac", package.value, registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "_entry_points", lambda: EntryPoints([entry]))
    with pytest.raises(UserError, match=r"the edit 'kfac' of the package .* cannot be used: .* registered already"):
        registry.find_edit("kfac")


def test_a_share_is_checked() -> None:
    cls = registry.find_edit("kfac")
    assert cls(percent=80).share == 0.8
    for percent in (None, -1.0, 101.0, float("nan")):
        with pytest.raises(UserError, match=r"expected a percent from 0 to 100, as in kfac-50"):
            _ = cls(percent=percent).share


def test_names_are_known_without_importing_an_edit() -> None:
    code = (
        "import sys; from memsplit.model_edits import registry; names = registry.edit_names(); "
        "print('kfac' in names, [m for m in sys.modules if 'model_edits.methods.' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True []\n"


@pytest.mark.parametrize("name", registry.edit_names())
def test_no_edit_is_heavy_to_describe(name: str) -> None:
    code = (
        "import sys; from memsplit.model_edits import registry, spec; "
        f"cls = registry.find_edit({name!r}); cls.usage(); "
        "sys.exit(bool({'torch', 'transformers', 'numpy', 'pandas', 'huggingface_hub'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
