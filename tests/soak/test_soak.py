"""The soak, short and with a fixed seed: random faults for half a minute, then every task is accounted for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.support.grids import wanted

pytestmark = needs("docker", "busybox", "root")

ROOT = Path(__file__).resolve().parents[2]
# Its plan has faults of thirteen kinds.
SEED = 11
MINUTES = 0.5


@pytest.mark.timeout(600)
def test_after_half_a_minute_of_random_faults_the_account_balances(tmp_path: Path) -> None:
    account_file = tmp_path / "account.json"
    command = [sys.executable, "scripts/lib/soak.py", "--minutes", str(MINUTES), "--seed", str(SEED)]
    done = subprocess.run(
        [*command, "--json", str(account_file)], cwd=ROOT, env=wanted(), capture_output=True, text=True, check=False
    )
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, said
    account = json.loads(account_file.read_text())
    assert account["balances"], said
    assert not any(account["zeros"].values()), said
    # It did something: tasks of all kinds were submitted, and things really broke.
    records = account["records"]
    assert account["submitted"] == records["tasks"] == records["final"] > 20
    assert {"succeeded", "exit_code"} <= records["verdicts"].keys()
    assert sum(account["faults"].values()) >= 5
    assert account["starts"] > 0
    assert account["starts"] + account["simulated"] >= records["verdicts"]["succeeded"]
