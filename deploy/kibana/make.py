#!/usr/bin/env python3
"""Prints user_data.ndjson: Kibana's saved objects for fabric.user_data, to be imported into 8.9 or later. Its nested JSON
texts are written here once, as what they mean:

  deploy/kibana/make.py > deploy/kibana/user_data.ndjson

The migration versions are those of 8.9, the oldest that takes them; a later Kibana migrates what it imports."""

import json

ALIAS = "fabric.user_data"
VIEW, MAP, DASHBOARD = "oneslot-user-data", "oneslot-user-data-map", "oneslot-user-data-dashboard"
# Kibana's own name of "the documents themselves".
RECORDS = "___records___"
QUERY = {"query": "", "language": "kuery"}
TO_POINT = (
    "if (doc['latitude'].size() != 0 && doc['longitude'].size() != 0) {"
    " emit(doc['latitude'].value, doc['longitude'].value); }"
)


def text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def saved(type: str, id: str, version: str, attributes: dict, references: list) -> dict:
    return {
        "type": type,
        "id": id,
        "attributes": attributes,
        "references": references,
        "managed": False,
        "coreMigrationVersion": "8.8.0",
        "typeMigrationVersion": version,
    }


def view() -> dict:
    """The table. Its coordinates are two numbers: what a map needs of them is made when it asks, so that `_source` stays
    the row."""
    attributes = {
        "title": ALIAS,
        "name": "People (fabric.user_data)",
        "timeFieldName": "registered_date",
        "fields": "[]",
        "fieldAttrs": "{}",
        "fieldFormatMap": "{}",
        "sourceFilters": "[]",
        "allowHidden": False,
        "runtimeFieldMap": text({"location": {"type": "geo_point", "script": {"source": TO_POINT}}}),
    }
    return saved("index-pattern", VIEW, "8.0.0", attributes, [])


def count(label: str) -> dict:
    return {
        "label": label,
        "customLabel": True,
        "dataType": "number",
        "operationType": "count",
        "isBucketed": False,
        "scale": "ratio",
        "sourceField": RECORDS,
        "params": {"emptyAsNull": True},
    }


def over_time(field: str) -> dict:
    return {
        "label": field,
        "dataType": "date",
        "operationType": "date_histogram",
        "sourceField": field,
        "isBucketed": True,
        "scale": "interval",
        "params": {"interval": "auto", "includeEmptyRows": True, "dropPartials": False},
    }


def most_frequent(field: str, size: int) -> dict:
    return {
        "label": field,
        "dataType": "string",
        "operationType": "terms",
        "sourceField": field,
        "isBucketed": True,
        "scale": "ordinal",
        "params": {
            "size": size,
            "orderBy": {"type": "column", "columnId": "count"},
            "orderDirection": "desc",
            "otherBucket": True,
            "missingBucket": False,
            "parentFormat": {"id": "terms"},
        },
    }


def lens(id: str, title: str, kind: str, columns: dict, visualization: dict) -> dict:
    layer = {"columns": columns, "columnOrder": list(columns), "incompleteColumns": {}}
    attributes = {
        "title": title,
        "description": "",
        "visualizationType": kind,
        "state": {
            "datasourceStates": {"formBased": {"layers": {"layer": layer}}},
            "visualization": visualization,
            "query": QUERY,
            "filters": [],
            "internalReferences": [],
            "adHocDataViews": {},
        },
    }
    reference = {"type": "index-pattern", "id": VIEW, "name": "indexpattern-datasource-layer-layer"}
    return saved("lens", id, "8.9.0", attributes, [reference])


def bars(id: str, title: str, bucket: dict, series: str) -> dict:
    visualization = {
        "preferredSeriesType": series,
        "legend": {"isVisible": False, "position": "right"},
        "valueLabels": "hide",
        "layers": [
            {
                "layerId": "layer",
                "layerType": "data",
                "seriesType": series,
                "xAccessor": "bucket",
                "accessors": ["count"],
            }
        ],
    }
    return lens(id, title, "lnsXY", {"bucket": bucket, "count": count("people")}, visualization)


def number(id: str, title: str) -> dict:
    visualization = {"layerId": "layer", "layerType": "data", "metricAccessor": "count"}
    return lens(id, title, "lnsMetric", {"count": count("people")}, visualization)


def fixed(**options: object) -> dict:
    return {"type": "STATIC", "options": options}


def ground() -> dict:
    """Roads and coasts come from Elastic's map service, for which the browser needs the internet; the points do not."""
    return {
        "id": "ground",
        "type": "EMS_VECTOR_TILE",
        "sourceDescriptor": {"type": "EMS_TMS", "isAutoSelect": True},
        "style": {"type": "TILE"},
        "label": "Ground",
        "visible": True,
        "alpha": 1,
        "minZoom": 0,
        "maxZoom": 24,
    }


def points(geo_field: str, reference: str) -> dict:
    source = {
        "id": "people-source",
        "type": "ES_SEARCH",
        "scalingType": "LIMIT",
        "geoField": geo_field,
        "filterByMapBounds": True,
        "tooltipProperties": ["name", "address", "timezone"],
        "applyGlobalQuery": True,
        "applyGlobalTime": True,
        "indexPatternRefName": reference,
    }
    properties = {
        "icon": fixed(value="marker"),
        "fillColor": fixed(color="#54B399"),
        "lineColor": fixed(color="#FFFFFF"),
        "lineWidth": fixed(size=1),
        "iconSize": fixed(size=6),
        "symbolizeAs": {"options": {"value": "circle"}},
    }
    return {
        "id": "people",
        "type": "GEOJSON_VECTOR",
        "sourceDescriptor": source,
        "style": {"type": "VECTOR", "isTimeAware": True, "properties": properties},
        "joins": [],
        "label": "People",
        "visible": True,
        "alpha": 0.8,
        "minZoom": 0,
        "maxZoom": 24,
    }


def map_of_people() -> dict:
    reference = {"type": "index-pattern", "id": VIEW, "name": "layer_1_source_index_pattern"}
    state = {
        "zoom": 1.5,
        "center": {"lon": 0, "lat": 30},
        "timeFilters": {"from": "now-10y", "to": "now"},
        "refreshConfig": {"isPaused": True, "interval": 0},
        "query": QUERY,
        "filters": [],
        "settings": {"autoFitToDataBounds": False},
    }
    attributes = {
        "title": "People on a map",
        "description": "",
        "mapStateJSON": text(state),
        "layerListJSON": text([ground(), points("location", reference["name"])]),
        "uiStateJSON": text({"isLayerTOCOpen": True, "openTOCDetails": []}),
    }
    return saved("map", MAP, "8.1.0", attributes, [reference])


# Each panel: (its object, x, y, width, height), in Kibana's 48 columns.
def panels() -> list:
    people = "oneslot-user-data"
    registered = bars(f"{people}-registered", "Registered over time", over_time("registered_date"), "bar_stacked")
    written = bars(f"{people}-written", "Written into the table over time", over_time("insertion_time"), "bar_stacked")
    zones = bars(f"{people}-timezones", "By time zone", most_frequent("timezone.keyword", 15), "bar_horizontal")
    return [
        (number(f"{people}-count", "People"), 0, 0, 10, 10),
        (registered, 10, 0, 38, 10),
        (map_of_people(), 0, 10, 30, 20),
        (zones, 30, 10, 18, 20),
        (written, 0, 30, 48, 10),
    ]


def dashboard(shown: list) -> dict:
    panels, references = [], []
    for n, (item, x, y, w, h) in enumerate(shown, 1):
        grid = {"x": x, "y": y, "w": w, "h": h, "i": f"{n}"}
        panel = {"type": item["type"], "version": "8.9.0", "gridData": grid, "panelIndex": f"{n}"}
        panels.append({**panel, "embeddableConfig": {"enhancements": {}}, "panelRefName": f"panel_{n}"})
        references.append({"type": item["type"], "id": item["id"], "name": f"{n}:panel_{n}"})
    options = {
        "useMargins": True,
        "syncColors": False,
        "syncCursor": True,
        "syncTooltips": False,
        "hidePanelTitles": False,
    }
    attributes = {
        "title": "People (fabric.user_data)",
        "description": "What oneslot keeps in Elasticsearch equal to the table fabric.user_data.",
        "panelsJSON": text(panels),
        "optionsJSON": text(options),
        "timeRestore": True,
        "timeFrom": "now-10y",
        "timeTo": "now",
        "refreshInterval": {"pause": False, "value": 10000},
        "kibanaSavedObjectMeta": {"searchSourceJSON": text({"query": QUERY, "filter": []})},
        "version": 1,
    }
    return saved("dashboard", DASHBOARD, "8.9.0", attributes, references)


def main() -> None:
    shown = panels()
    for item in [view(), *(panel[0] for panel in shown), dashboard(shown)]:
        print(text(item))


if __name__ == "__main__":
    main()
