"""The journal: what `append` has returned for is on disk, whatever happens next."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from owlore.core.files import read_jsonl
from owlore.core.journal import Journal

# Appends rows for ever; prints the number of each once `append` has returned.
WRITER = """
import sys
from pathlib import Path
from owlore.core.journal import Journal
journal = Journal(Path(sys.argv[1]))
number = len(journal.rows)
while True:
    journal.append({"number": number, "text": "x" * 5000})
    print(number, flush=True)
    number += 1
"""


def test_a_reopened_journal_goes_on_behind_its_rows(tmp_path):
    file = tmp_path / "new" / "journal.jsonl"
    with Journal(file) as journal:
        journal.append({"a": 1})
        assert read_jsonl(file) == [{"a": 1}], "at once, not when it is closed"
        journal.append({"text": "two\nlines\u2028three"})
    with Journal(file) as journal:
        assert journal.rows == [{"a": 1}, {"text": "two\nlines\u2028three"}]
        journal.append({"b": 2})
    assert read_jsonl(file) == journal.rows


@pytest.mark.parametrize("torn", [b"{", b'{"a": 2', b'{"a": 2}', b'{"a": "\xc3'])
def test_a_torn_last_line_is_dropped(torn, tmp_path):
    """Also one that is whole but for its line end: what follows would stand on the same line."""
    file = tmp_path / "journal.jsonl"
    file.write_bytes(b'{"a": 1}\n' + torn)
    with Journal(file) as journal:
        assert journal.rows == [{"a": 1}]
        journal.append({"a": 3})
    assert read_jsonl(file) == [{"a": 1}, {"a": 3}]


def test_a_first_line_that_is_torn_leaves_an_empty_journal(tmp_path):
    (tmp_path / "journal.jsonl").write_text('{"a"')
    with Journal(tmp_path / "journal.jsonl") as journal:
        assert journal.rows == []


def test_killed_it_has_lost_at_most_the_row_that_was_being_written(tmp_path):
    file = tmp_path / "journal.jsonl"
    waits = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE, text=True
        )
        first = process.stdout.readline()
        time.sleep(waits.uniform(0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        said = [first, *process.communicate()[0].splitlines()]
        with Journal(file) as journal:
            numbers = [row["number"] for row in journal.rows]
        assert numbers == list(range(len(numbers)))
        # On disk but not said yet: the process was killed between the two.
        assert int(said[-1]) + 1 <= len(numbers) <= int(said[-1]) + 2


def test_threads_share_a_journal(tmp_path):
    with Journal(tmp_path / "journal.jsonl") as journal:

        def write(name):
            for number in range(20):
                journal.append({"name": name, "number": number})

        threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    rows = read_jsonl(tmp_path / "journal.jsonl")
    assert rows == journal.rows and len(rows) == 80
    for name in "abcd":
        assert [row["number"] for row in rows if row["name"] == name] == list(range(20))
