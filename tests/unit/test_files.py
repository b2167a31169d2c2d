"""File names and collect rules: the only spellings that reach a node are relative, normal and harmless."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tasks.files import MAX_CONTENT_BYTES, MAX_FILES, CollectRule, FileSpec, clashes, covers, expand_files, normal_path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", "a"),
        ("./a", "a"),
        ("a//b", "a/b"),
        ("a/./b/", "a/b"),
        ("tests/001/1.in", "tests/001/1.in"),
        ("źdźbło.txt", "źdźbło.txt"),
        ("...", "..."),
        (" a b ", " a b "),
        ("-rf", "-rf"),
    ],
)
def test_a_path_gets_its_normal_spelling(text: str, path: str) -> None:
    assert normal_path(text) == path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no file"),
        (".", "names no file"),
        ("./", "names no file"),
        ("/etc/passwd", "is absolute"),
        ("//a", "is absolute"),
        ("..", 'has a ".."'),
        ("../a", 'has a ".."'),
        ("a/../../b", 'has a ".."'),
        ("a/..", 'has a ".."'),
        ("a\0b", "has a control character"),
        ("a\nb", "has a control character"),
        ("a\x7f", "has a control character"),
        ("a\\..\\b", "has a backslash"),
        ("\ud800", "is not valid Unicode"),
        ("x" * 256, "has a name longer than 255 bytes"),
        ("ż" * 128, "has a name longer than 255 bytes"),
        ("x/" * 600, "is longer than 1024 bytes"),
    ],
)
def test_a_path_that_could_do_harm_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace(".", r"\.")):
        normal_path(text)


@given(st.text(max_size=60))
def test_whatever_is_accepted_stays_inside_and_stays_the_same(text: str) -> None:
    try:
        path = normal_path(text)
    except ValueError:
        return
    assert normal_path(path) == path == str(PurePosixPath(path))
    assert not PurePosixPath(path).is_absolute()
    assert ".." not in PurePosixPath(path).parts


def read_files(data: object) -> dict[str, FileSpec]:
    return TypeAdapter(dict[str, FileSpec]).validate_python(expand_files(data))


def test_the_short_spellings_are_written_out() -> None:
    files = read_files({"./a": None, "b": "src/b", "c": {"content": "x"}, "d": {"reference": "AB" * 32}})
    assert files == {
        "a": FileSpec(path="a"),
        "b": FileSpec(path="src/b"),
        "c": FileSpec(content="x"),
        "d": FileSpec(reference="ab" * 32),
    }


def test_two_spellings_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match='names "a/b" twice'):
        expand_files({"a/b": None, "./a//b": None})


def test_too_many_files_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match=f"has {MAX_FILES + 1} entries; the most is {MAX_FILES}"):
        expand_files({f"f{number}": None for number in range(MAX_FILES + 1)})


def test_what_is_not_an_object_is_left_to_the_types() -> None:
    assert expand_files(["a"]) == ["a"]
    assert expand_files({5: None}) == {5: None}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({}, "needs exactly one of"),
        ({"path": "a", "content": "x"}, "needs exactly one of"),
        ({"path": "/a"}, "is absolute"),
        ({"reference": "xyz"}, "is not the sha256"),
        ({"content": "x" * (MAX_CONTENT_BYTES + 1)}, "is 1048577 bytes long"),
        ({"content": "\ud800"}, "is not valid Unicode"),
        ({"path": "a", "executable": "perhaps"}, "is neither true nor false"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused(source: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        FileSpec.model_validate(source)


def test_a_folder_covers_what_is_in_it_and_nothing_beside_it() -> None:
    assert covers(["tests"], "tests/1.in")
    assert covers(["tests"], "tests")
    assert not covers(["tests"], "tests2")
    assert not covers([], "tests")


def test_a_name_cannot_be_file_and_folder_at_once() -> None:
    assert clashes(["a", "a/b/c", "a/b", "ab"]) == [("a", "a/b"), ("a", "a/b/c"), ("a/b", "a/b/c")]
    assert clashes(["a/b", "a/c", "b"]) == []


@pytest.mark.parametrize(
    ("strip", "prefix", "name"),
    [
        (0, "", "out/001/a.txt"),
        (1, "", "001/a.txt"),
        (2, "", "a.txt"),
        (9, "", "a.txt"),
        (0, "run", "run/out/001/a.txt"),
        (2, "run/one", "run/one/a.txt"),
    ],
)
def test_a_collected_file_gets_its_name(strip: int, prefix: str, name: str) -> None:
    assert CollectRule(glob="out/**", strip=strip, prefix=prefix).name_for("out/001/a.txt") == name


@pytest.mark.parametrize(
    "rule",
    [
        {"glob": "/etc/*"},
        {"glob": "../*"},
        {"glob": ""},
        {},
        {"glob": "a", "prefix": "../x"},
        {"glob": "a", "prefix": "/x"},
        {"glob": "a", "prefix": ".."},
        {"glob": "a", "strip": -1},
        {"glob": "a", "strip": 101},
        {"glob": "a", "strip": True},
        {"glob": "a", "required": "perhaps"},
        {"glob": "a", "name": "b"},
    ],
)
def test_a_rule_that_reaches_outside_or_makes_no_sense_is_refused(rule: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CollectRule.model_validate(rule)


def test_a_prefix_of_nothing_is_no_prefix() -> None:
    assert CollectRule(glob="./a", prefix="./").model_dump() == {
        "glob": "a",
        "strip": 0,
        "prefix": "",
        "required": False,
    }
