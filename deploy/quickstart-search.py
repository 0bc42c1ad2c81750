#!/usr/bin/env python3
"""What deploy/quickstart asks Elasticsearch and the HTTP API; only the standard library.

  ready URL                  exit status 0: the node answers and its indices can be written
  watch URL                  a line whenever the number of documents has changed; never ends
  arrived URL API SINK ID    exit status 0: document ID is there, and SINK has settled everything before it
  dump URL                   every document, a line of JSON {"_id", "_source"} each
  letters API SINK           the number of dead letters
"""

import json
import sys
import time
import urllib.error
import urllib.request

INDEX = "fabric.user_data"
PAUSE = 2.0


def ask(url: str, body: object = None, method: str | None = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    # Not through a proxy of the caller's.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        return json.load(answer)


def ready(url: str) -> bool:
    return ask(f"{url}/_cluster/health")["status"] in ("green", "yellow")


def count(url: str) -> int | None:
    try:
        return ask(f"{url}/{INDEX}/_count")["count"]
    except (OSError, ValueError):
        return None


def watch(url: str) -> None:
    shown = None
    while True:
        now = count(url)
        if now not in (None, shown):
            print(f"{'':19s}  === {now} documents in {INDEX}", flush=True)
            shown = now
        time.sleep(PAUSE)


def sink_of(api: str, name: str) -> dict:
    return next(sink for sink in ask(f"{api}/lag")["sinks"] if sink["name"] == name)


def arrived(url: str, api: str, sink: str, last: str) -> bool:
    # In this order: what is behind is counted when the last one is surely in the log.
    return ask(f"{url}/{INDEX}/_doc/{last}")["found"] and sink_of(api, sink)["records_behind"] == 0


def dump(url: str) -> None:
    ask(f"{url}/{INDEX}/_refresh", method="POST")
    answer = ask(f"{url}/{INDEX}/_search?scroll=1m", {"size": 1000, "sort": ["_doc"], "query": {"match_all": {}}})
    while answer["hits"]["hits"]:
        for hit in answer["hits"]["hits"]:
            print(json.dumps({"_id": hit["_id"], "_source": hit["_source"]}))
        answer = ask(f"{url}/_search/scroll", {"scroll": "1m", "scroll_id": answer["_scroll_id"]})
    ask(f"{url}/_search/scroll", {"scroll_id": answer["_scroll_id"]}, "DELETE")


def letters(api: str, sink: str) -> None:
    print(sink_of(api, sink)["dead_letters"])


QUESTIONS = {"ready": ready, "arrived": arrived}
COMMANDS = {"watch": watch, "dump": dump, "letters": letters}


def main(verb: str, *args: str) -> int:
    if verb in QUESTIONS:
        try:
            return 0 if QUESTIONS[verb](*args) else 1
        except (OSError, ValueError, KeyError, StopIteration):
            return 1
    COMMANDS[verb](*args)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(1)
    except urllib.error.URLError as error:
        sys.exit(f"quickstart-search: {error}")
