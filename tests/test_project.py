"""The files around the code hold: workflows, hooks, targets, templates, and their facts."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from parity.version import __version__
from tests import test_docs

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
YAML = [
    *WORKFLOWS,
    *sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")),
    *sorted(ROOT.glob("*.yml")),
    ROOT / ".pre-commit-config.yaml",
    ROOT / "CITATION.cff",
]
MAKEFILE = ROOT / "Makefile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


class Loader(yaml.SafeLoader):
    """Reads the tags of MkDocs's configuration, which name Python objects, as their text."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


def read(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader)


def make_targets() -> dict[str, list[str]]:
    """Return {target: its commands}."""
    targets: dict[str, list[str]] = {}
    name = ""
    for line in MAKEFILE.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([a-z]+):", line):
            name = match[1]
            targets[name] = []
        elif line.startswith("\t"):
            targets[name].append(line.strip())
    return targets


def problem(line: str) -> str | None:
    """Return why a command line of these files would not run, as far as its words tell."""
    words = shlex.split(line)
    if words[:1] == ["make"]:
        unknown = set(words[1:]) - set(make_targets())
        return f"no target {unknown}" if unknown else None
    if words[:1] == ["pytest"] and "-m" not in words:
        missing = [word for word in words[1:] if "/" in word and not (ROOT / word).exists()]
        return f"no file {missing}" if missing else None
    if words[:3] == ["pip", "install", "--no-deps"]:
        return None if (ROOT / words[-1]).is_file() else f"no file {words[-1]}"
    if words[:3] == ["python", "-m", "pip"]:
        return None
    if words[:1] in (["test"], ["mkdocs"]):
        return None
    if words and words[0].startswith("."):
        return None if (ROOT / words[0]).is_file() else f"no file {words[0]}"
    return test_docs.problem([word.replace("${{ ", "").replace(" }}", "") for word in words])


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in read(path)["jobs"].values():
        yield from job["steps"]


def lines(path: Path) -> list[str]:
    return [line for step in steps(path) for line in step.get("run", "").splitlines()]


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_the_yaml_parses(path):
    assert isinstance(read(path), dict)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_the_commands_of_a_workflow_exist(path):
    assert [(line, found) for line in lines(path) if (found := problem(line))] == []
    for step in steps(path):
        assert ("run" in step) != ("uses" in step)
        # An action without a version would change under the workflow.
        assert "uses" not in step or step["uses"] == "./" or "@" in step["uses"]


def test_the_commands_of_the_targets_exist():
    commands = [line for each in make_targets().values() for line in each]
    assert [(line, found) for line in commands if (found := problem(line))] == []


def test_the_hooks_run_what_exists():
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    entries = [hook["entry"] for hook in repository["hooks"]]
    assert [(line, found) for line in entries if (found := problem(line))] == []


def test_the_targets_do_everything_that_ci_does():
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    done = {
        line
        for line in map(str.strip, ci.splitlines())
        if line.startswith(("ruff", "mypy", "lint-imports", "parity check", "pytest", "mkdocs"))
    }
    assert len(done) >= 7
    # CI writes the site elsewhere than the target does.
    done = {line.partition(" --quiet")[0] for line in done}
    assert done <= {line for each in make_targets().values() for line in each}


@pytest.mark.parametrize("line", ["make nonsense", "parity chek", "pip install -e '.[none]'"])
def test_a_command_that_does_not_exist_is_seen(line):
    assert problem(line)


def test_every_target_is_phony():
    text = MAKEFILE.read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == set(make_targets())


def test_the_version_is_that_of_the_package():
    assert read(ROOT / "CITATION.cff")["version"] == __version__
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_licence_is_one():
    assert read(ROOT / "CITATION.cff")["license"] == PROJECT["project"]["license"]


def test_the_issue_templates_ask_for_the_doctor():
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        if path.name == "config.yml":
            continue
        (command,) = re.findall(r"`(parity doctor[^`]*)`", path.read_text(encoding="utf-8"))
        assert problem(command) is None
        assert "--json" in command


def test_the_interpreters_that_are_stated_are_those_that_are_tried():
    """The classifiers, the lower bound, the table of docs/install.md, and the workflow."""
    prefix = "Programming Language :: Python :: "
    classifiers = PROJECT["project"]["classifiers"]
    stated = [each.removeprefix(prefix) for each in classifiers if each.startswith(f"{prefix}3.")]
    assert PROJECT["project"]["requires-python"] == f">={stated[0]}"
    table = (
        (ROOT / "docs" / "install.md").read_text(encoding="utf-8").partition("## Which Python")[2]
    )
    rows = re.findall(r"^\| (3\.\d+) \|.*\| (.*?) \|$", table, re.MULTILINE)
    assert [name for name, tried in rows if tried != "nothing"] == stated
    jobs = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"].values()
    assert [name for job in jobs for name in job["strategy"]["matrix"]["python"]] == stated


def test_uv_takes_the_cpu_build_from_the_index_of_pytorch():
    uv = PROJECT["tool"]["uv"]
    (index,) = uv["index"]
    assert index["explicit"], "every other package would be searched there as well"
    for package in ("torch", "torchvision"):
        (source,) = uv["sources"][package]
        assert source["index"] == index["name"]
    assert index["url"] in (ROOT / "docs" / "install.md").read_text(encoding="utf-8")


ACTION = ROOT / "action.yml"


def test_the_action_runs_what_exists():
    runs = read(ACTION)["runs"]
    assert runs["using"] == "composite"
    commands = [
        line.strip().partition(" || ")[0]
        for step in runs["steps"]
        for line in step.get("run", "").splitlines()
    ]
    (check,) = [line for line in commands if line.startswith("parity ")]
    assert problem(check) is None
    for line in commands:
        assert not line.startswith("pip install ") or "parity" not in line


def test_the_action_interpolates_nothing_into_a_shell():
    """A title or a file's name that is written into a script would be run."""
    for step in read(ACTION)["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
        assert "run" not in step or step["shell"] == "bash"


def test_every_input_and_output_of_the_action_is_used():
    text = ACTION.read_text(encoding="utf-8")
    action = read(ACTION)
    for name in action["inputs"]:
        assert f"inputs.{name}" in text
    identifiers = {step["id"] for step in action["runs"]["steps"] if "id" in step}
    for output in action["outputs"].values():
        assert re.findall(r"steps\.(\w+)\.", output["value"])[0] in identifiers


@pytest.mark.parametrize("line", range(3))
def test_the_script_of_the_action_keeps_the_exit_code(tmp_path, line):
    """The check's own script, run by bash with a `parity` that differs."""
    (step,) = [each for each in read(ACTION)["runs"]["steps"] if each.get("id") == "check"]
    parity = tmp_path / "bin" / "parity"
    parity.parent.mkdir()
    parity.write_text(f'#!/bin/sh\necho "$@" >"$RUNNER_TEMP/words"\nexit {line}\n')
    parity.chmod(0o755)
    environment = {
        "PATH": f"{parity.parent}:{os.environ['PATH']}",
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "FILE": "my cases.toml",
    }
    done = subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], env=environment)
    assert done.returncode == 0
    assert f"code={line}" in (tmp_path / "output").read_text().splitlines()
    assert (tmp_path / "words").read_text().startswith("check my cases.toml --html ")


GH = """#!/bin/sh
printf '%s\\n' "$*" >>"$RUNNER_TEMP/calls"
case "$*" in
  *--paginate*) [ -z "$FOUND" ] || printf '1\\n%s\\n' "$FOUND" ;;
  *body=@*) cp "${6#body=@}" "$RUNNER_TEMP/posted" ;;
  pr*) cp "$7" "$RUNNER_TEMP/posted" ;;
esac
exit ${CODE:-0}
"""
"""Stands for GitHub's command: it keeps what it is called with and what would be posted."""


@pytest.mark.parametrize(
    ("found", "report", "code", "call"),
    [
        ("", "## text", 0, "pr comment 7 --repo me/mine --body-file "),
        ("42", "## text", 0, "api --method PATCH repos/me/mine/issues/comments/42 --field body=@"),
        ("", "## text", 1, "pr comment 7 --repo me/mine --body-file "),
        ("", "", 0, None),
        ("", None, 0, None),
    ],
)
def test_the_action_posts_one_comment_of_its_own(found, report, code, call, tmp_path):
    """A token that may not comment, and a check without a report, change nothing."""
    (step,) = [each for each in read(ACTION)["runs"]["steps"] if "GH_TOKEN" in each.get("env", {})]
    gh = tmp_path / "bin" / "gh"
    gh.parent.mkdir()
    gh.write_text(GH)
    gh.chmod(0o755)
    if report is not None:
        (tmp_path / "parity.md").write_text(report)
    mark = step["env"]["MARK"].replace("${{ inputs.name }}", "parity")
    environment = {
        "PATH": f"{gh.parent}:{os.environ['PATH']}", "RUNNER_TEMP": str(tmp_path),
        "REPORT": str(tmp_path / "parity.md"), "NUMBER": "7", "REPOSITORY": "me/mine",
        "MARK": mark, "FOUND": found, "CODE": str(code),
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]], env=environment
    )
    assert done.returncode == 0
    calls = tmp_path / "calls"
    if call is None:
        assert not calls.exists()
        return
    listed, posted = calls.read_text().splitlines()
    assert listed.startswith("api --paginate repos/me/mine/issues/7/comments --jq ")
    assert f'startswith("{mark}")' in listed
    assert posted.startswith(call)
    assert (tmp_path / "posted").read_text() == f"{mark}\n{report}"
