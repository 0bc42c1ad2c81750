"""The harness of the end-to-end and crash tests: real PostgreSQL servers, real oneslot processes, and the
folds and comparisons that say whether a log is right. Tests import from here; see README.md."""

from harness.elasticsearch import Document, Elasticsearch
from harness.fake_es import FakeES
from harness.files import file_sink
from harness.fold import FoldError, check_log, fold
from harness.httpclient import Http, Response
from harness.oneslot import Oneslot
from harness.postgres import Postgres
from harness.rows import assert_tables_equal, table_rows
from harness.search import Search, make_search
from harness.system import Programs, WorkFolder, free_port, lsn, wait_until

__all__ = [
    "Document",
    "Elasticsearch",
    "FakeES",
    "FoldError",
    "Http",
    "Oneslot",
    "Postgres",
    "Programs",
    "Response",
    "WorkFolder",
    "Search",
    "assert_tables_equal",
    "check_log",
    "file_sink",
    "fold",
    "free_port",
    "lsn",
    "make_search",
    "table_rows",
    "wait_until",
]
