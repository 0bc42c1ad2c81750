"""deploy/kibana/user_data.ndjson without a Kibana, which no package registry has: the file by its own rules, and what its
panels ask, asked of a real node that holds the sink's documents."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import combinations
from typing import Any, Callable, Iterator

import pytest
from harness import Elasticsearch, Postgres, Search, make_search
from harness.system import REPO

Make = Callable[..., Any]
Json = dict[str, Any]

FOLDER = REPO / "deploy" / "kibana"
PEOPLE = "fabric.user_data"
# Migrations of each type that Kibana 8.9 has: an import with a newer one than it knows is refused.
KNOWN = {"index-pattern": "8.0.0", "lens": "8.9.0", "map": "8.1.0", "dashboard": "8.9.0"}


def saved_objects() -> list[Json]:
    return [json.loads(line) for line in (FOLDER / "user_data.ndjson").read_text(encoding="utf-8").splitlines()]


def of_type(type: str) -> list[Json]:
    return [item for item in saved_objects() if item["type"] == type]


def nested(item: Json, name: str) -> Any:
    return json.loads(item["attributes"][name])


def columns_of(item: Json) -> Json:
    return item["attributes"]["state"]["datasourceStates"]["formBased"]["layers"]["layer"]["columns"]


def runtime_fields() -> Json:
    (view,) = of_type("index-pattern")
    return nested(view, "runtimeFieldMap")


def test_the_file_is_what_make_py_prints() -> None:
    made = subprocess.run([sys.executable, str(FOLDER / "make.py")], stdout=subprocess.PIPE, check=True).stdout
    assert made == (FOLDER / "user_data.ndjson").read_bytes(), "run deploy/kibana/make.py > deploy/kibana/user_data.ndjson"


def test_each_object_is_whole_and_old_enough_to_be_imported() -> None:
    seen = set()
    for item in saved_objects():
        assert (item["type"], item["id"]) not in seen, f"twice: {item['id']}"
        seen.add((item["type"], item["id"]))
        assert item["attributes"]["title"] and item["coreMigrationVersion"] == "8.8.0"
        version = [[int(n) for n in text.split(".")] for text in (item["typeMigrationVersion"], KNOWN[item["type"]])]
        assert version[0] <= version[1], item["id"]
        for name in item["attributes"]:
            if name.endswith(("JSON", "Map")):
                nested(item, name)
    assert {type for type, _ in seen} == set(KNOWN)


def test_references_resolve_and_each_is_used() -> None:
    known = {(item["type"], item["id"]) for item in saved_objects()}
    for item in saved_objects():
        names = [reference["name"] for reference in item["references"]]
        assert len(names) == len(set(names)), item["id"]
        assert {(r["type"], r["id"]) for r in item["references"]} <= known, item["id"]
        assert sorted(names) == sorted(used_names(item)), item["id"]


def used_names(item: Json) -> Iterator[str]:
    """The references that the insides of an object ask for."""
    match item["type"]:
        case "lens":
            layers = item["attributes"]["state"]["datasourceStates"]["formBased"]["layers"]
            yield from (f"indexpattern-datasource-layer-{layer}" for layer in layers)
        case "map":
            layers = nested(item, "layerListJSON")
            yield from re.findall(r'"indexPatternRefName": "(\w+)"', json.dumps(layers))
        case "dashboard":
            yield from (f"{p['panelIndex']}:{p['panelRefName']}" for p in nested(item, "panelsJSON"))


def test_a_chart_names_only_columns_that_it_has() -> None:
    for item in of_type("lens"):
        columns, state = columns_of(item), item["attributes"]["state"]
        layer = state["datasourceStates"]["formBased"]["layers"]["layer"]
        assert layer["columnOrder"] == list(columns), item["id"]
        shown = json.dumps(state["visualization"])
        named = re.findall(r'"(?:xAccessor|metricAccessor)": "(\w+)"', shown)
        named += [name for names in re.findall(r'"accessors": (\[[^]]*\])', shown) for name in json.loads(names)]
        assert sorted(named) == sorted(columns), item["id"]
        orders = [c["params"]["orderBy"]["columnId"] for c in columns.values() if "orderBy" in c["params"]]
        assert set(orders) <= set(columns), item["id"]


def test_the_panels_fit_the_dashboard() -> None:
    (board,) = of_type("dashboard")
    panels = nested(board, "panelsJSON")
    grids = [panel["gridData"] for panel in panels]
    assert [grid["i"] for grid in grids] == [panel["panelIndex"] for panel in panels]
    assert all(grid["x"] >= 0 and grid["w"] > 0 and grid["x"] + grid["w"] <= 48 for grid in grids)
    for a, b in combinations(grids, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], f"panels {a['i']} and {b['i']}"
    types = {reference["name"]: reference["type"] for reference in board["references"]}
    assert all(types[f"{p['panelIndex']}:{p['panelRefName']}"] == p["type"] for p in panels)


# --- against a real node


@pytest.fixture
def people(make_oneslot: Make, pg: Postgres, es: Elasticsearch) -> Search:
    """Three people in the quickstart's table, and their documents."""
    script = (REPO / "deploy" / "quickstart-people.sql").read_text(encoding="utf-8")
    table = re.search(r"CREATE TABLE fabric\.user_data \(.*?\n\);", script, re.DOTALL)
    assert table is not None
    pg.sql("CREATE SCHEMA fabric")
    pg.sql(table.group())
    search = make_search(make_oneslot, pg, es, source_tables=(PEOPLE,)).start()
    for name, latitude, longitude, zone in (
        ("Anna Vogel", "52.5200", "13.4050", "'Europe/Berlin'"),
        ("Siân O''Brien", "53.3498", "-6.2603", "'Europe/Dublin'"),
        ("Nobody", "NULL", "1", "NULL"),
    ):
        pg.sql(
            "INSERT INTO fabric.user_data (id, name, latitude, longitude, timezone, registered_date) VALUES"
            f" (gen_random_uuid(), '{name}', {latitude}, {longitude}, {zone}, '2020-05-17 12:00:00')"
        )
    search.check(PEOPLE)
    return search


def aggregation(column: Json) -> Json:
    """What Lens makes of a bucket."""
    field = column["sourceField"]
    if column["operationType"] == "date_histogram":
        return {"date_histogram": {"field": field, "calendar_interval": "1d", "min_doc_count": 1}}
    assert column["operationType"] == "terms"
    return {"terms": {"field": field, "size": column["params"]["size"]}}


def test_what_the_charts_ask_finds_the_people(people: Search) -> None:
    buckets = [c for item in of_type("lens") for c in columns_of(item).values() if c["isBucketed"]]
    assert len(buckets) >= 3
    for column in buckets:
        answer = people.es.ask("POST", f"/{PEOPLE}/_search", {"size": 0, "aggs": {"a": aggregation(column)}})
        found = sum(bucket["doc_count"] for bucket in answer["aggregations"]["a"]["buckets"])
        # Nobody has no time zone.
        assert found == (2 if column["operationType"] == "terms" else 3), column["sourceField"]


def test_the_fields_of_view_and_map_are_the_sinks(people: Search) -> None:
    (view,), (item,) = of_type("index-pattern"), of_type("map")
    assert people.es.aliases().get(view["attributes"]["title"]), "the view's title is the sink's alias"
    mapped = people.es.mapping(PEOPLE)["properties"]
    assert mapped[view["attributes"]["timeFieldName"]]["type"] == "date"
    script = runtime_fields()["location"]["script"]["source"]
    assert {mapped[field]["type"] for field in re.findall(r"doc\['(\w+)'\]", script)} == {"double"}
    for layer in nested(item, "layerListJSON"):
        source = layer["sourceDescriptor"]
        if source["type"] == "ES_SEARCH":
            assert source["geoField"] in runtime_fields()
            assert set(source["tooltipProperties"]) <= set(mapped)


def has_painless(es: Elasticsearch) -> bool:
    nodes = es.ask("GET", "/_nodes/plugins")["nodes"].values()
    return any(module["name"] == "lang-painless" for node in nodes for module in node["modules"])


def test_the_map_s_field_is_a_point_where_the_server_has_scripts(people: Search) -> None:
    """7.17.9 as the tests have it has none, OpenSearch has no runtime fields: both say so. es-matrix has 8.19.8."""
    body = {"runtime_mappings": runtime_fields(), "fields": ["location"], "_source": ["name"], "sort": ["registered_date"]}
    answer = people.es.request("POST", f"/{PEOPLE}/_search", body)
    if people.es.is_opensearch or not has_painless(people.es):
        assert answer.status == 400, answer
        return
    assert answer.status == 200, answer
    points = {h["_source"]["name"]: h.get("fields", {}).get("location") for h in answer.json()["hits"]["hits"]}
    assert points["Nobody"] is None and len(points) == 3
    (berlin,) = points["Anna Vogel"]
    longitude, latitude = berlin["coordinates"]
    assert (round(longitude, 3), round(latitude, 3)) == (13.405, 52.52)
    box = {"top_left": {"lat": 60, "lon": 10}, "bottom_right": {"lat": 40, "lon": 20}}
    query = {"runtime_mappings": runtime_fields(), "query": {"geo_bounding_box": {"location": box}}}
    assert people.es.ask("POST", f"/{PEOPLE}/_search", query)["hits"]["total"]["value"] == 1
